// See request.h.
#include "comm/request.h"

#include <utility>

namespace cgx {

const char* op_name(ReduceOp op) {
  constexpr const char* kNames[] = {"sum", "min", "max", "prod"};
  return kNames[static_cast<int>(op)];
}

Result<Request> make_request(DType dtype, ReduceOp op, uint64_t count, std::vector<Segment> segments) {
  Request request;
  const Spared why = !is_encodable(dtype)   ? Spared::kNotFloat
                     : op != ReduceOp::kSum ? Spared::kNotSum
                                            : Spared::kNothing;
  for (Segment& segment : segments) {
    if (why == Spared::kNothing || segment.spec.kind == CodecKind::kNone) continue;
    if (request.spared == Spared::kNothing) request.spared_codec = to_string(segment.spec);
    request.spared = why;
    request.spared_elements += segment.count;
    segment.spec = CodecSpec();
  }
  CGX_ASSIGN_OR_RETURN(request.layout, Layout::make(dtype, count, std::move(segments)));
  return request;
}

std::string explain(const Request& request, ReduceOp op) {
  switch (request.spared) {
    case Spared::kNothing:
      return {};
    case Spared::kNotFloat:
      return fmt::format(
          "codec \"{}\" was asked for {} elements, which no codec takes (they take fp32, fp16 and bf16): "
          "they are "
          "reduced uncompressed, in their own type (said once)",
          request.spared_codec, dtype_name(request.layout.dtype()));
    case Spared::kNotSum:
      return fmt::format(
          "codec \"{}\" was asked for a {}, but only sums and averages are compressed: it is made "
          "uncompressed "
          "(said once)",
          request.spared_codec, op_name(op));
  }
  return {};
}

}  // namespace cgx
