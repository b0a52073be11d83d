#include "plan/part.h"

#include <algorithm>

#include "codec/value_block.h"
#include "plan/reduce.h"

namespace cgx {

namespace {

// Elements summed, encoded and decoded at a time: the sum and what is decoded of it stay in L1 or L2.
constexpr uint64_t kTile = 8192;
// Sparse blocks are cut nowhere, but their sum is made in parts: each visits all inputs while it is in L2.
constexpr uint64_t kSparseTile = 32768;
// Results of an output this large are written past the cache, so that what they replace is not fetched: raw
// ones always, decoded ones where that is faster. From here on a copy and a reading of the result right after
// it take no longer together, for an output that other work has pushed out of the caches, as training does.
constexpr uint64_t kLargeBytes = 1 << 20;
// In place that pays only for what is decoded, and where the tensor has left the caches since it was encoded.
constexpr uint64_t kLargeInPlaceBytes = 16 << 20;
// Decoding fewer elements is not timed: reading the clock would show.
constexpr uint64_t kLeastTimed = 4096;

bool is_large_output(const RunArgs& args) {
  const uint64_t bytes = args.layout->count() * dtype_bytes(args.layout->dtype());
  return bytes >= (args.x == args.y ? kLargeInPlaceBytes : kLargeBytes);
}

float* reserve(std::vector<float>& floats, uint64_t count) {
  if (floats.size() < count) floats.resize(count);
  return floats.data();
}

}  // namespace

Arena::Arena(const RunArgs& run_args)
    : args(run_args),
      dtype(args.layout->dtype()),
      element_bytes(dtype_bytes(dtype)),
      into_shared(args.shared_writes != nullptr && args.shared_writes->way() == 1 ? plain_copy : stream_copy),
      is_large(is_large_output(args)),
      replaces_own(args.x == args.y) {}

uint64_t PartWork::tile_length() const {
  const uint64_t granule = part_.granule;
  return granule == 0 ? part_.count : granule * std::max<uint64_t>(1, kTile / granule);
}

// Where element `at` of the piece's block is encoded; a multiple of the granule.
uint64_t PartWork::bytes_before(uint64_t at) const {
  return at == 0 ? 0 : encoded_bytes(spec(step_.message), arena_.dtype, at);
}

BlockContext PartWork::context(uint64_t at) const {
  BlockContext context;
  context.key = arena_.args.key;
  context.key.tensor = part_.segment.tensor_id;
  context.key.stage = step_.stage;
  context.first = part_.piece.in_segment + at;
  context.counts = &scratch_.stats.counts;
  context.scratch = &scratch_.sparse;
  return context;
}

uint8_t* PartWork::draft() {
  const uint64_t begin = bytes_before(range_.begin);
  if (!arena_.shared) return block(step_.message) + begin;
  const size_t bytes = bytes_before(range_.end) - begin;
  if (scratch_.draft.size() < bytes) scratch_.draft.resize(bytes);
  return scratch_.draft.data();
}

void PartWork::publish(const uint8_t* draft) {
  if (!arena_.shared) return;
  const uint64_t begin = bytes_before(range_.begin);
  arena_.into_shared(block(step_.message) + begin, draft, bytes_before(range_.end) - begin);
}

Status PartWork::encode() {
  const uint64_t count = range_.end - range_.begin;
  if (part_.raw) {
    const uint64_t skip = range_.begin * arena_.element_bytes;
    arena_.into_message()(block(step_.message) + skip, x(range_.begin), count * arena_.element_bytes);
    return {};
  }
  uint8_t* out = draft();
  const Residual residual{from(part_.residual.contribution_before, range_.begin),
                          from(part_.residual.contribution_after, range_.begin)};
  CGX_RETURN_IF_ERROR(cgx::encode(spec(step_.message), arena_.dtype, x(range_.begin), count,
                                  context(range_.begin), residual, out));
  publish(out);
  return {};
}

Status PartWork::decode() {
  const uint8_t* in = block(step_.message);
  if (part_.raw) {
    const uint64_t skip = range_.begin * arena_.element_bytes;
    const Copy copy = arena_.past_caches() ? stream_copy : plain_copy;
    copy(y(range_.begin), in + skip, (range_.end - range_.begin) * arena_.element_bytes);
    return {};
  }
  const Encoded whole{in, {0, part_.count}};
  if (is_f32()) return decode_timed(whole);
  const uint64_t length = tile_length();
  for (uint64_t begin = range_.begin; begin < range_.end; begin += length) {
    CGX_RETURN_IF_ERROR(store(whole, {begin, std::min(begin + length, range_.end)}));
  }
  return {};
}

TwoWays& PartWork::large_outputs() const {
  const CodecSpec& codec = spec(step_.message);
  for (auto& [known, ways] : scratch_.large_outputs) {
    if (known == codec) return ways;
  }
  constexpr size_t kMost = 8;  // a schedule may change its codec at every step
  if (scratch_.large_outputs.size() == kMost) scratch_.large_outputs.clear();
  return scratch_.large_outputs.emplace_back(codec, TwoWays(1)).second;
}

Status PartWork::decode_timed(const Encoded& encoded) {
  const uint64_t count = range_.end - range_.begin;
  if (!arena_.is_large || count < kLeastTimed) return store(encoded, range_);
  const Timer::Clock::time_point start = Timer::Clock::now();
  CGX_RETURN_IF_ERROR(store(encoded, range_));
  large_outputs().learn(Timer::Clock::now() - start, count);
  return {};
}

Status PartWork::store(const Encoded& encoded, Range tile) {
  uint8_t* out = y(tile.begin);
  const uint64_t count = tile.end - tile.begin;
  float* values = is_f32() ? reinterpret_cast<float*>(out) : reserve(scratch_.values, count);
  const uint64_t first = encoded.range.begin;
  CGX_RETURN_IF_ERROR(cgx::decode_part(spec(step_.message), arena_.dtype, encoded.block,
                                       encoded.range.end - first, tile.begin - first, tile.end - first,
                                       streams() ? Into::kStream : Into::kAssign, values));
  if (!is_f32()) store_rounded(arena_.dtype, values, count, out);
  return {};
}

// Sums, rounds and stores a tile at a time: the sum never leaves the cache.
Status PartWork::reduce() {
  if (part_.raw) {
    reduce_raw();
    return {};
  }
  const bool into_y = step_.op == Step::Op::kReduce;
  const bool reads_x = std::find(step_.inputs.begin(), step_.inputs.end(), kOwnInput) != step_.inputs.end();
  const bool in_parts = sums_in_parts();
  const bool past_caches = is_f32() && arena_.past_caches();
  const bool direct = into_y && !reads_x && is_f32() && !(in_parts && past_caches);
  const uint64_t length = into_y && in_parts ? kSparseTile : tile_length();
  uint8_t* made = into_y ? nullptr : draft();
  for (uint64_t begin = range_.begin; begin < range_.end; begin += length) {
    const Range tile{begin, std::min(begin + length, range_.end)};
    const uint64_t count = tile.end - tile.begin;
    float* total = direct ? reinterpret_cast<float*>(y(begin)) : reserve(scratch_.sum, count);
    CGX_RETURN_IF_ERROR(sum(tile, total, in_parts));
    if ((into_y || step_.last) && arena_.args.scale != 1)
      scale_by(total, static_cast<float>(arena_.args.scale), count);
    if (into_y && !direct) store_sum(total, count, past_caches, y(begin));
    if (into_y) continue;
    const Timer timer(scratch_.stats.encode_seconds);
    CGX_RETURN_IF_ERROR(encode_sum(tile, total, made + bytes_before(begin) - bytes_before(range_.begin)));
  }
  if (!into_y) publish(made);
  return {};
}

void PartWork::store_sum(const float* sum, uint64_t count, bool past_caches, uint8_t* out) const {
  if (past_caches) {
    stream_copy(out, sum, count * sizeof(float));
  } else {
    store_rounded(arena_.dtype, sum, count, out);
  }
}

void PartWork::reduce_raw() {
  const uint64_t skip = range_.begin * arena_.element_bytes;
  scratch_.inputs.clear();
  for (uint32_t input : step_.inputs) {
    const uint8_t* elements = input == kOwnInput ? x(0) : block(input);
    scratch_.inputs.push_back(elements + skip);
  }
  const bool into_y = step_.op == Step::Op::kReduce || step_.last;
  uint8_t* message = step_.op == Step::Op::kReduce ? nullptr : block(step_.message) + skip;
  const double scale = into_y ? arena_.args.scale : 1;
  RawSum sum{arena_.dtype, arena_.args.op, scale, scratch_.inputs, nullptr, nullptr};
  sum.out = into_y ? y(range_.begin) : message;
  sum.copy = into_y ? message : nullptr;
  const Copy into_output = arena_.past_caches() ? stream_copy : plain_copy;
  sum.write_out = into_y ? into_output : arena_.into_message();
  sum.write_copy = arena_.into_message();
  cgx::reduce_raw(sum, range_.end - range_.begin);
}

// Sparse blocks are among what is summed, and what else is can be decoded in parts of kSparseTile.
bool PartWork::sums_in_parts() const {
  bool any_sparse = false;
  for (uint32_t input : step_.inputs) {
    if (input == kOwnInput) continue;
    const CodecSpec& from = spec(input);
    any_sparse = any_sparse || is_sparse(from);
    const uint64_t granule = is_sparse(from) ? value_granule(from.values) : cgx::granule(from);
    if (granule == 0 || (!is_sparse(from) && kSparseTile % granule != 0)) return false;
  }
  return any_sparse;
}

Status PartWork::sum(Range tile, float* sum, bool in_parts) {
  const uint64_t length = in_parts ? kSparseTile : tile.end - tile.begin;
  for (uint64_t begin = tile.begin; begin < tile.end; begin += length) {
    const Range one{begin, std::min(begin + length, tile.end)};
    CGX_RETURN_IF_ERROR(sum_inputs(one, sum + (begin - tile.begin)));
  }
  return {};
}

// The own elements and a block that begin the sum, in whichever order, make one pass.
Status PartWork::sum_inputs(Range tile, float* sum) {
  const auto& inputs = step_.inputs;
  const bool both = is_f32() && inputs.size() >= 2 && (inputs[0] == kOwnInput) != (inputs[1] == kOwnInput) &&
                    part_.residual.contribution_before == nullptr &&
                    part_.residual.contribution_after == nullptr;
  if (both) {
    const uint32_t block_of = inputs[inputs[0] == kOwnInput ? 1 : 0];
    CGX_RETURN_IF_ERROR(cgx::decode_part(spec(block_of), arena_.dtype, block(block_of), part_.count,
                                         tile.begin, tile.end, Into::kAdd, sum,
                                         reinterpret_cast<const float*>(x(tile.begin))));
  }
  for (size_t i = both ? 2 : 0; i < inputs.size(); ++i) {
    if (inputs[i] == kOwnInput) {
      CGX_RETURN_IF_ERROR(add_own(tile, i == 0, sum));
    } else {
      CGX_RETURN_IF_ERROR(cgx::decode_part(spec(inputs[i]), arena_.dtype, block(inputs[i]), part_.count,
                                           tile.begin, tile.end, i == 0 ? Into::kAssign : Into::kAdd, sum));
    }
  }
  return {};
}

// Where the own elements go straight into the final sum they take their residual along, and nothing of
// them is lost; where the sum is a hop's, the encoding that follows sees to the residual.
Status PartWork::add_own(Range tile, bool first, float* sum) {
  const uint64_t count = tile.end - tile.begin;
  const bool is_final = step_.op == Step::Op::kReduce || step_.last;
  const float* before = is_final ? from(part_.residual.contribution_before, tile.begin) : nullptr;
  float* after = is_final ? from(part_.residual.contribution_after, tile.begin) : nullptr;
  const uint8_t* own = x(tile.begin);
  if (first) {
    load_elements({arena_.dtype, own, before}, 0, count, sum);
  } else if (is_f32() && before == nullptr) {
    add_to(sum, reinterpret_cast<const float*>(own), count);
  } else {
    float* values = reserve(scratch_.values, count);
    load_elements({arena_.dtype, own, before}, 0, count, values);
    add_to(sum, values, count);
  }
  if (after != nullptr) std::fill_n(after, count, 0.0f);
  return {};
}

// What others decode goes to y in the same pass, where the codec can. `sum` is scratch afterwards.
Status PartWork::encode_sum(Range tile, float* sum, uint8_t* out) {
  const uint64_t count = tile.end - tile.begin;
  const CodecSpec& codec = spec(step_.message);
  const bool gives_back = step_.last && !is_sparse(codec);
  const SegmentResidual& r = part_.residual;
  Residual residual =
      step_.last ? Residual{from(r.sum_before, tile.begin), from(r.sum_after, tile.begin)}
                 : Residual{from(r.contribution_before, tile.begin), from(r.contribution_after, tile.begin)};
  // Past the caches the codec writes whole lines; what lies otherwise is copied there.
  const bool past_caches = streams() && arena_.past_caches();
  const bool copies = is_f32() && past_caches && !is_line_aligned(y(tile.begin));
  residual.past_caches = past_caches && !copies;
  if (gives_back) residual.decoded = is_f32() && !copies ? reinterpret_cast<float*>(y(tile.begin)) : sum;
  BlockContext key = context(tile.begin);
  if (is_f32() && tile.end + count <= range_.end) key.read_next = reinterpret_cast<const float*>(x(tile.end));
  if (is_f32()) {
    CGX_RETURN_IF_ERROR(cgx::encode(codec, arena_.dtype, sum, count, key, residual, out));
  } else if (is_sparse(codec)) {
    CGX_RETURN_IF_ERROR(encode_sparse_half(sum, key, residual, out));
  } else {
    encode_values(codec.values, arena_.dtype, {DType::kF32, sum, residual.before}, count, key,
                  {residual.after, residual.decoded}, out);
  }
  if (!step_.last) return {};
  if (!gives_back) return store({out, tile}, tile);
  if (copies) stream_copy(y(tile.begin), sum, count * sizeof(float));
  if (!is_f32()) store_rounded(arena_.dtype, sum, count, y(tile.begin));
  return {};
}

// Sparse blocks are made of elements in the tensor's own type: rounds the sum to it first, and counts
// that loss in the residual. `sum` is scratch afterwards.
Status PartWork::encode_sparse_half(float* sum, const BlockContext& context, Residual residual,
                                    uint8_t* block) {
  const uint64_t count = part_.count;
  float* exact = reserve(scratch_.values, count);
  load_elements({DType::kF32, sum, residual.before}, 0, count, exact);
  scratch_.halves.resize(std::max<size_t>(scratch_.halves.size(), count));
  store_rounded(arena_.dtype, exact, count, scratch_.halves.data());
  CGX_RETURN_IF_ERROR(cgx::encode(spec(step_.message), arena_.dtype, scratch_.halves.data(), count, context,
                                  {nullptr, residual.after}, block));
  if (residual.after == nullptr) return {};
  load_elements({arena_.dtype, scratch_.halves.data(), nullptr}, 0, count, sum);
  for (size_t i = 0; i < count; ++i) residual.after[i] += exact[i] - sum[i];
  return {};
}

}  // namespace cgx
