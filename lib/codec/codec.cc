// The public functions: raw where a codec would not shrink, the sparse codec's own functions, or blocks of
// values; in the floating-point environment that the definitions assume.
#include "codec/codec.h"

#include <algorithm>
#include <cstring>

#include "base/float_env.h"
#include "codec/codec_row.h"
#include "codec/value_block.h"

namespace cgx {
namespace {

constexpr ValueSpec kRaw = {};

// A sparse codec whose layout would not be smaller than the elements gives way to them.
bool sparse_is_raw(const CodecSpec& spec, DType dtype, size_t count) {
  return codec_row(spec.kind).layout_bytes(spec, dtype, count) >= count * dtype_bytes(dtype);
}

Status check_chosen(const CodecSpec& spec) {
  if (!is_auto(spec)) return {};
  return error(Code::kInvalidArgument,
               "codec \"{}\" encodes nothing by itself: a collective puts the codec in its place that its "
               "measurements favour; name a codec here",
               to_string(spec));
}

Status check_dtype(DType dtype) {
  if (is_encodable(dtype)) return {};
  return error(Code::kInvalidArgument, "codecs take fp32, fp16 and bf16, not {}", dtype_name(dtype));
}

}  // namespace

size_t encoded_bytes(const CodecSpec& spec, DType dtype, size_t count) {
  if (!is_sparse(spec)) return value_block_bytes(spec.values, dtype, count);
  const size_t layout = codec_row(spec.kind).layout_bytes(spec, dtype, count);
  return std::min(layout, count * dtype_bytes(dtype));
}

bool is_raw(const CodecSpec& spec, DType dtype, size_t count) {
  return is_sparse(spec) ? sparse_is_raw(spec, dtype, count) : value_block_is_raw(spec.values, dtype, count);
}

size_t granule(const CodecSpec& spec) { return is_sparse(spec) ? 0 : value_granule(spec.values); }

bool is_unbiased(const CodecSpec& spec) { return !is_auto(spec) && codec_row(spec.kind).is_unbiased(spec); }

Status check_error_feedback(const CodecSpec& spec) {
  if (is_auto(spec)) return {};  // checked of what is chosen
  const CodecRow& row = codec_row(spec.kind);
  return row.check_error_feedback == nullptr ? Status() : row.check_error_feedback(spec);
}

Status encode(const CodecSpec& spec, DType dtype, const void* x, size_t count, const BlockContext& context,
              Residual residual, uint8_t* block) {
  CGX_RETURN_IF_ERROR(check_chosen(spec));
  CGX_RETURN_IF_ERROR(check_dtype(dtype));
  if (count == 0) return {};
  const FloatEnvironment environment;
  if (is_sparse(spec) && !sparse_is_raw(spec, dtype, count)) {
    return codec_row(spec.kind).encode({spec, dtype, x, count, context, residual, block});
  }
  encode_values(is_sparse(spec) ? kRaw : spec.values, dtype, {dtype, x, residual.before}, count, context,
                {residual.after, residual.decoded, residual.past_caches}, block);
  return {};
}

Status decode(const CodecSpec& spec, DType dtype, const uint8_t* block, size_t count, Into into, float* out) {
  return decode_part(spec, dtype, block, count, 0, count, into, out);
}

Status decode_part(const CodecSpec& spec, DType dtype, const uint8_t* block, size_t count, size_t begin,
                   size_t end, Into into, float* out, const float* addend) {
  CGX_RETURN_IF_ERROR(check_chosen(spec));
  CGX_RETURN_IF_ERROR(check_dtype(dtype));
  if (begin > end || end > count) {
    return error(Code::kInvalidArgument, "elements [{}, {}) are not within a block of {}", begin, end, count);
  }
  if (begin == end) return {};
  const FloatEnvironment environment;
  if (is_sparse(spec) && !sparse_is_raw(spec, dtype, count)) {
    if (into == Into::kAdd && addend != nullptr) std::copy_n(addend, end - begin, out);
    return codec_row(spec.kind).decode({spec, dtype, block, count, begin, end, into, out});
  }
  if (!is_sparse(spec) && begin % kGroup != 0) {
    return error(Code::kInvalidArgument, "a part of a block begins at a multiple of {}, not at {}", kGroup,
                 begin);
  }
  decode_values(is_sparse(spec) ? kRaw : spec.values, dtype, block, count, begin, end, into,
                {out, addend == nullptr ? out : addend});
  return {};
}

}  // namespace cgx
