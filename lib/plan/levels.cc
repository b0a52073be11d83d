// See levels.h.
#include "plan/levels.h"

#include <utility>
#include <vector>

namespace cgx {

Result<CodecSpec> parse_inner_codec(const std::string& text) {
  if (text.empty()) return CodecSpec();
  CGX_ASSIGN_OR_RETURN(const CodecSpec spec, parse_spec(text));
  if (spec.kind == CodecKind::kNone) return spec;
  if (is_auto(spec) || spec.error_feedback) {
    return error(
        Code::kInvalidArgument,
        "inner codec \"{}\": it must name a codec, without +ef (a tensor whose own codec has +ef keeps "
        "what is lost inside a host, too)",
        text);
  }
  if (Status grows = check_error_feedback(spec); !grows.ok()) {
    return error(Code::kInvalidArgument, "inner codec \"{}\" cannot serve tensors with error feedback: {}",
                 text, grows.message());
  }
  return spec;
}

Layout inner_layout(const Layout& layout, const CodecSpec& codec) {
  std::vector<Segment> segments = layout.segments();
  for (Segment& segment : segments) {
    if (segment.spec.kind != CodecKind::kNone) segment.spec = codec;
  }
  Result<Layout> inner = Layout::make(layout.dtype(), layout.count(), std::move(segments));
  CGX_CHECK(inner.ok());
  return std::move(*inner);
}

}  // namespace cgx
