// Cuts a block of values into encoded units and raw elements, and hands the units to the drivers.
#include "codec/value_block.h"

#include <algorithm>
#include <cstring>

#include "base/random.h"
#include "base/stream_copy.h"
#include "codec/codec_row.h"
#include "codec/drivers.h"

namespace cgx {
namespace {

constexpr size_t kTile = 1024;  // elements; 4 KiB of fp32 on the stack

// How a block of `count` is cut: [0, encoded) in units, the rest raw.
struct Cut {
  size_t encoded;
  size_t encoded_bytes;
};

Cut cut_block(const ValueSpec& spec, DType raw, size_t count) {
  const CodecRow& row = codec_row(spec.kind);
  const size_t element = dtype_bytes(raw);
  const size_t unit = row.unit(spec);
  const size_t full = unit == 0 ? 0 : count / unit * unit;
  Cut cut = {0, 0};
  if (full != 0) {
    const size_t bytes = row.unit_bytes(spec, unit);
    if (bytes >= unit * element) return cut;
    cut = {full, count / unit * bytes};
  }
  const size_t rest = count - full;
  const size_t rest_bytes = rest == 0 ? 0 : row.unit_bytes(spec, rest);
  if (rest_bytes < rest * element) cut = {count, cut.encoded_bytes + rest_bytes};
  return cut;
}

void encode_raw(DType raw, const Elements& from, size_t count, const GiveBack& back, uint8_t* out) {
  const size_t element = dtype_bytes(raw);
  if (from.dtype == raw && from.before == nullptr) {
    memcpy(out, from.x, count * element);
    if (back.after != nullptr) std::fill_n(back.after, count, 0.0f);
    if (back.decoded != nullptr) decode_values({}, raw, out, count, 0, count, Into::kAssign, {back.decoded});
    return;
  }
  const Drivers& d = drivers();
  for (size_t at = 0; at < count; at += kTile) {
    const size_t n = std::min(kTile, count - at);
    float tile[kTile];
    d.load(from.from(at), n, tile);
    d.store(raw, tile, n, out + at * element);
    if (back.after == nullptr && back.decoded == nullptr) continue;
    float stored[kTile];
    decode_values({}, raw, out + at * element, n, 0, n, Into::kAssign, {stored});
    d.give_back(tile, stored, n, back.from(at));
  }
}

// Only whole lines are written past the caches, and elements of a vector lie as their block's begin does:
// what begins elsewhere is decoded into the cache, a tile at a time, and copied from there.
void decode_and_stream(const DenseDriver& driver, const ValueSpec& spec, const uint8_t* block, size_t count,
                       size_t begin, size_t end, const Target& to) {
  if (is_line_aligned(to.out)) return driver.decode(spec, block, count, begin, end, Into::kStream, to);
  for (size_t at = begin; at < end;) {
    const size_t n = std::min(kTile - at % kTile, end - at);
    alignas(kLineBytes) float tile[kTile];
    driver.decode(spec, block, count, at, at + n, Into::kAssign, {tile});
    stream_copy(to.out + (at - begin), tile, n * sizeof(float));
    at += n;
  }
}

void decode_raw(DType raw, const uint8_t* in, size_t count, Into into, const Target& to) {
  if (raw == DType::kF32 && into != Into::kAdd) {
    (into == Into::kStream ? stream_copy : plain_copy)(to.out, in, count * sizeof(float));
    return;
  }
  const size_t element = dtype_bytes(raw);
  for (size_t at = 0; at < count; at += kTile) {
    const size_t n = std::min(kTile, count - at);
    alignas(4) uint8_t aligned[kTile * sizeof(float)];
    float tile[kTile];
    memcpy(aligned, in + at * element, n * element);
    drivers().load({raw, aligned, nullptr}, n, tile);
    float* out = to.out + at;
    if (into != Into::kAdd) {
      memcpy(out, tile, n * sizeof(float));
      continue;
    }
    if (to.addend != to.out) memcpy(out, to.addend + at, n * sizeof(float));
    for (size_t i = 0; i < n; ++i) out[i] = fadd(out[i], tile[i]);
  }
}

}  // namespace

void load_elements(const Elements& from, size_t begin, size_t count, float* out) {
  drivers().load(from.from(begin), count, out);
}

size_t value_granule(const ValueSpec& spec) { return codec_row(spec.kind).unit(spec); }

size_t value_block_bytes(const ValueSpec& spec, DType raw, size_t count) {
  const Cut cut = cut_block(spec, raw, count);
  return cut.encoded_bytes + (count - cut.encoded) * dtype_bytes(raw);
}

bool value_block_is_raw(const ValueSpec& spec, DType raw, size_t count) {
  return cut_block(spec, raw, count).encoded == 0;
}

void encode_values(const ValueSpec& spec, DType raw, const Elements& from, size_t count,
                   const BlockContext& context, const GiveBack& back, uint8_t* block) {
  const Cut cut = cut_block(spec, raw, count);
  if (context.counts != nullptr) context.counts->elements += count;
  if (cut.encoded != 0) {
    drivers().dense[static_cast<size_t>(spec.kind)].encode(spec, from, cut.encoded, context, back, block);
  }
  if (cut.encoded == count) return;
  encode_raw(raw, from.from(cut.encoded), count - cut.encoded, back.from(cut.encoded),
             block + cut.encoded_bytes);
}

void decode_values(const ValueSpec& spec, DType raw, const uint8_t* block, size_t count, size_t begin,
                   size_t end, Into into, Target to) {
  const Cut cut = cut_block(spec, raw, count);
  const size_t encoded_end = std::min(end, cut.encoded);
  if (begin < encoded_end) {
    const DenseDriver& driver = drivers().dense[static_cast<size_t>(spec.kind)];
    if (into == Into::kStream) {
      decode_and_stream(driver, spec, block, cut.encoded, begin, encoded_end, to);
    } else {
      driver.decode(spec, block, cut.encoded, begin, encoded_end, into, to);
    }
  }
  const size_t raw_begin = std::max(begin, cut.encoded);
  if (raw_begin >= end) return;
  decode_raw(raw, block + cut.encoded_bytes + (raw_begin - cut.encoded) * dtype_bytes(raw), end - raw_begin,
             into, to.from(raw_begin - begin));
}

}  // namespace cgx
