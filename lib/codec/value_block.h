// Blocks of values: how the dense codecs write `count` numbers, whole tensors or the kept values of a
// sparse codec. A block is full units in order and a last partial unit, which is stored raw where its
// encoding would not be smaller; so is the whole block where full units would not be.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/dtype.h"
#include "base/status.h"
#include "codec/codec.h"
#include "codec/spec.h"

namespace cgx {

// Where encoding reads: element i is x[i], of type `dtype` (fp32, fp16 or bf16), plus before[i] where
// `before` is not null.
struct Elements {
  DType dtype = DType::kF32;
  const void* x = nullptr;
  const float* before = nullptr;

  Elements from(size_t i) const {
    return {dtype, static_cast<const uint8_t*>(x) + i * dtype_bytes(dtype), before ? before + i : nullptr};
  }
};

// What encoding gives back, for each element where not null: what the block does not say of it
// (element - decoded value, or 0 where that is not finite), and the decoded value itself.
struct GiveBack {
  float* after = nullptr;
  float* decoded = nullptr;
  bool past_caches = false;  // `decoded` is written as by Into::kStream

  GiveBack from(size_t i) const {
    return {after ? after + i : nullptr, decoded ? decoded + i : nullptr, past_caches};
  }
};

// Where decoded values go; Into::kAdd adds them to `addend`, which may be `out`.
struct Target {
  float* out = nullptr;
  const float* addend = out;

  Target from(size_t i) const { return {out + i, addend + i}; }
};

// Copies elements [begin, begin + count) to out as fp32.
void load_elements(const Elements& from, size_t begin, size_t count, float* out);

// `raw` below is the type in which raw elements are stored: the tensor's own.
size_t value_block_bytes(const ValueSpec& spec, DType raw, size_t count);
// True where the block is nothing but raw elements.
bool value_block_is_raw(const ValueSpec& spec, DType raw, size_t count);
// Elements of a unit: blocks concatenate there; 0: the block is one unit.
size_t value_granule(const ValueSpec& spec);

// Encodes `count` elements. `back.after` may be `from.before`, and `back.decoded` may be where the elements
// are read, if they are fp32. Element i draws random number context.first + i.
void encode_values(const ValueSpec& spec, DType raw, const Elements& from, size_t count,
                   const BlockContext& context, const GiveBack& back, uint8_t* block);

// Decodes elements [begin, end) of a block of `count`, the first one to where `to` begins. REQUIRES: begin is
// a multiple of value_granule() (0 where that is 0) or of the block; any bytes decode.
void decode_values(const ValueSpec& spec, DType raw, const uint8_t* block, size_t count, size_t begin,
                   size_t end, Into into, Target to);

}  // namespace cgx
