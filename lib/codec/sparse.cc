// Drives the sparse codecs: choose elements (topk) or draw them (randk), hand their values to the
// dense codec that writes them, and put them back. The definitions are in codecs/{topk,randk}.h.
#include <algorithm>
#include <memory>
#include <new>

#include "codec/codecs/randk.h"
#include "codec/codecs/topk.h"
#include "codec/index_block.h"
#include "codec/topk_select.h"
#include "codec/value_block.h"
#include "codec/wire.h"

namespace cgx {
namespace {

constexpr size_t kTile = 1024;  // elements lifted or decoded at a time where nothing asks for more

CodecSpec dense_spec(const ValueSpec& values) { return {.kind = values.kind, .ratio = 0, .values = values}; }

// The values of a sparse block, decoded in order a tile at a time: f(j, value) for j in [begin, end).
template <typename F>
Status for_each_value(const DecodeArgs& args, const uint8_t* values, size_t k, size_t begin, size_t end,
                      F f) {
  if (begin >= end) return {};
  const ValueSpec& spec = args.spec.values;
  if (spec.kind == CodecKind::kNone && args.dtype == DType::kF32) {  // as they are
    for (size_t j = begin; j < end; ++j) f(j, wire_load<float>(values + sizeof(float) * j));
    return {};
  }
  const size_t unit = value_granule(spec);
  const size_t start = unit == 0 ? 0 : begin / unit * unit;
  const size_t step = unit == 0 ? end : (kTile + unit - 1) / unit * unit;
  float small[kTile];
  std::unique_ptr<float[]> large;
  float* tile = small;
  if (std::min(step, end - start) > kTile) {
    large.reset(new (std::nothrow) float[std::min(step, end - start)]);
    if (!large) return error(Code::kResource, "sparse codec: no memory to decode {} values", end - start);
    tile = large.get();
  }
  for (size_t at = start; at < end; at += step) {
    const size_t stop = std::min(end, at + step);
    decode_values(spec, args.dtype, values, k, at, stop, Into::kAssign, {tile});
    for (size_t j = std::max(at, begin); j < stop; ++j) f(j, tile[j - at]);
  }
  return {};
}

// What an encoding lost, for the residual: nothing where the element was not finite.
float lost_value(float element, float value) {
  const float lost = fsub(element, value);
  return is_finite_bits(float_bits(lost)) ? lost : 0.0f;
}

float finite_or_zero(float v) { return is_finite_bits(float_bits(v)) ? v : 0.0f; }

void put(Into into, float value, float& out) { out = into == Into::kAdd ? fadd(out, value) : value; }

void clear(const DecodeArgs& args) {
  if (args.into != Into::kAdd) std::fill(args.out, args.out + (args.end - args.begin), 0.0f);
}

Status decode_all_of(const EncodeArgs& args, const uint8_t* values, size_t k, auto f) {
  const DecodeArgs whole = {args.spec, args.dtype, args.block, args.count,
                            0,         args.count, Into::kAdd, nullptr};
  return for_each_value(whole, values, k, 0, k, f);
}

Status check_count(const char* name, size_t count) {
  if (count <= uint64_t{1} << 32) return {};
  return error(Code::kInvalidArgument, "{}: {} elements in one block; its 32-bit indices reach {}", name,
               count, uint64_t{1} << 32);
}

// Encodes the kept values. The dense codec counts what it saturates; the rest is counted here, as raw
// values are not looked at.
void encode_kept(const EncodeArgs& args, const float* kept, size_t k, uint8_t* values) {
  CodecCounts counts;
  BlockContext context = args.context;
  context.counts = &counts;
  const Elements from = {DType::kF32, kept, nullptr};
  encode_values(args.spec.values, args.dtype, from, k, context, {}, values);
  if (args.context.counts == nullptr) return;
  args.context.counts->elements += args.count;
  args.context.counts->saturated += counts.saturated;
  args.context.counts->non_finite += static_cast<uint64_t>(
      std::count_if(kept, kept + k, [](float v) { return !is_finite_bits(float_bits(v)); }));
}

}  // namespace

size_t TopK::layout_bytes(const CodecSpec& spec, DType dtype, size_t count) {
  if (count == 0) return 0;
  const size_t k = kept_count(spec.ratio, count);
  return index_block_bytes(spec.indices, count, k) + value_block_bytes(spec.values, dtype, k);
}

Status TopK::check_error_feedback(const CodecSpec& spec) {
  if (spec.values.kind == CodecKind::kNone) return {};
  return cgx::check_error_feedback(dense_spec(spec.values));
}

Status TopK::encode(const EncodeArgs& args) {
  if (args.count == 0) return {};
  CGX_RETURN_IF_ERROR(check_count(kName, args.count));
  const size_t k = kept_count(args.spec.ratio, args.count);
  float* after = args.residual.after;
  const Elements from = {args.dtype, args.x, args.residual.before};
  SparseScratch own;
  SparseScratch& scratch = args.context.scratch == nullptr ? own : *args.context.scratch;
  CGX_ASSIGN_OR_RETURN(const Kept kept, select_topk(from, args.count, k, after, scratch));
  encode_indices(args.spec.indices, kept.indices, args.count, k, args.block);
  uint8_t* values = args.block + index_block_bytes(args.spec.indices, args.count, k);
  encode_kept(args, kept.values, k, values);
  if (after == nullptr) return {};
  // Only where all that is kept is not finite may more such elements be left.
  if (std::none_of(kept.values, kept.values + k, [](float v) { return is_finite_bits(float_bits(v)); })) {
    std::transform(after, after + args.count, after, finite_or_zero);
  }
  return decode_all_of(args, values, k, [&](size_t j, float value) {
    float& lost = after[kept.indices[j]];
    lost = lost_value(lost, value);
  });
}

Status TopK::decode(const DecodeArgs& args) {
  if (args.count == 0) return {};
  CGX_RETURN_IF_ERROR(check_count(kName, args.count));
  const size_t k = kept_count(args.spec.ratio, args.count);
  IndexPart kept;
  CGX_RETURN_IF_ERROR(kept.read(args.spec.indices, args.block, args.count, k, args.begin, args.end));
  clear(args);
  const uint8_t* values = args.block + index_block_bytes(args.spec.indices, args.count, k);
  const size_t first = kept.first();
  return for_each_value(args, values, k, first, first + kept.size(), [&](size_t j, float value) {
    put(args.into, value, args.out[kept[j - first] - args.begin]);
  });
}

bool RandK::is_unbiased(const CodecSpec& spec) { return cgx::is_unbiased(dense_spec(spec.values)); }

Status RandK::check_error_feedback(const CodecSpec&) {
  return error(Code::kInvalidArgument,
               "randk may lose as much as the input's own square (omega >= 1), so its residual would grow "
               "without bound: drop +ef (it is unbiased without), or use topk");
}

size_t RandK::layout_bytes(const CodecSpec& spec, DType dtype, size_t count) {
  if (count == 0) return 0;
  return kRandKHeaderBytes + value_block_bytes(spec.values, dtype, kept_count(spec.ratio, count));
}

namespace {

struct Strata {
  RandomKey key;
  uint64_t first;
  uint64_t k;
  uint64_t count;

  uint64_t begin(uint64_t j) const { return stratum_begin(j, k, count); }
  uint64_t pick(uint64_t j) const { return stratum_pick(key, first, j, k, count); }
  float scale(uint64_t j) const { return static_cast<float>(begin(j + 1) - begin(j)); }
  // The stratum that holds element i: the only j with begin(j) <= i < begin(j + 1).
  uint64_t of(uint64_t i) const {
    uint64_t low = 0, high = k;  // begin(low) <= i < begin(high)
    while (high - low > 1) {
      const uint64_t middle = low + (high - low) / 2;
      (begin(middle) <= i ? low : high) = middle;
    }
    return low;
  }
};

// What stratum j sends: its drawn element, or its first non-finite one. `after`, where not null,
// becomes the elements.
float sample_stratum(const Elements& from, const Strata& strata, uint64_t j, float* after) {
  const uint64_t begin = strata.begin(j), end = strata.begin(j + 1), pick = strata.pick(j);
  float kept = 0, hidden = 0;
  bool found = false;
  float tile[kTile];
  for (uint64_t at = begin; at < end; at += kTile) {
    const size_t n = std::min<uint64_t>(kTile, end - at);
    load_elements(from, at, n, tile);
    if (after) std::transform(tile, tile + n, after + at, finite_or_zero);
    if (pick >= at && pick < at + n) kept = tile[pick - at];
    if (found) continue;
    uint32_t most = 0;
    for (size_t i = 0; i < n; ++i) most = std::max(most, magnitude_key(float_bits(tile[i])));
    if (is_finite_bits(most)) continue;
    found = true;
    hidden = *std::find_if(tile, tile + n, [](float v) { return !is_finite_bits(float_bits(v)); });
  }
  return found && is_finite_bits(float_bits(kept)) ? hidden : kept;
}

}  // namespace

Status RandK::encode(const EncodeArgs& args) {
  if (args.count == 0) return {};
  CGX_RETURN_IF_ERROR(check_count(kName, args.count));
  const BlockContext& context = args.context;
  CGX_CHECK((context.key.stage & kIndexStream) == 0 && context.first % kGroup == 0);
  const Strata strata = {context.key, context.first, kept_count(args.spec.ratio, args.count), args.count};
  const RandKHeader header = {context.key.seed,
                              context.key.operation,
                              context.key.tensor,
                              context.key.rank,
                              context.key.stage,
                              0,
                              static_cast<uint32_t>(context.first / kGroup)};
  memcpy(args.block, &header, sizeof(header));

  const std::unique_ptr<float[]> kept(new (std::nothrow) float[strata.k]);
  if (!kept) return error(Code::kResource, "rand-k: no memory for {} values", strata.k);
  float* after = args.residual.after;
  const Elements from = {args.dtype, args.x, args.residual.before};
  uint64_t saturated = 0;
  for (uint64_t j = 0; j < strata.k; ++j) {
    kept[j] = sample_stratum(from, strata, j, after);
    const float scaled = fmul(kept[j], strata.scale(j));
    saturated += is_finite_bits(float_bits(kept[j])) && !is_finite_bits(float_bits(scaled));
  }
  uint8_t* values = args.block + kRandKHeaderBytes;
  encode_kept(args, kept.get(), strata.k, values);
  if (context.counts) context.counts->saturated += saturated;
  if (after == nullptr) return {};
  return decode_all_of(args, values, strata.k, [&](size_t j, float value) {
    float& lost = after[strata.pick(j)];
    lost = lost_value(lost, scale_up(value, strata.scale(j)));
  });
}

Status RandK::decode(const DecodeArgs& args) {
  if (args.count == 0) return {};
  CGX_RETURN_IF_ERROR(check_count(kName, args.count));
  RandKHeader header;
  memcpy(&header, args.block, sizeof(header));
  if (header.zero != 0 || (header.stage & kIndexStream) != 0) {
    return error(Code::kCorrupt, "rand-k block: stage {} and zero byte {}; no encoder writes these",
                 header.stage, header.zero);
  }
  const RandomKey key = {header.seed, header.operation, header.tensor, header.rank, header.stage};
  const Strata strata = {key, uint64_t{header.first_group} * kGroup, kept_count(args.spec.ratio, args.count),
                         args.count};
  clear(args);
  if (args.begin == args.end) return {};
  const uint64_t low = strata.of(args.begin), high = strata.of(args.end - 1) + 1;
  const uint8_t* values = args.block + kRandKHeaderBytes;
  return for_each_value(args, values, strata.k, low, high, [&](size_t j, float value) {
    const uint64_t i = strata.pick(j);
    if (i < args.begin || i >= args.end) return;
    put(args.into, scale_up(value, strata.scale(j)), args.out[i - args.begin]);
  });
}

}  // namespace cgx
