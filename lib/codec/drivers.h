// The loops that run the dense codecs' definitions over groups and buckets, compiled once for each CPU
// instruction set and chosen at run time. Every set gives the same bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "codec/codec.h"
#include "codec/spec.h"
#include "codec/value_block.h"

namespace cgx {

inline constexpr size_t kCodecKinds = static_cast<size_t>(CodecKind::kRandK) + 1;

// The encoding of whole units and perhaps a last partial one, never raw; arguments as in value_block.h.
// REQUIRES: what Into::kStream writes begins with a cache line.
struct DenseDriver {
  void (*encode)(const ValueSpec& spec, const Elements& from, size_t count, const BlockContext& context,
                 const GiveBack& back, uint8_t* out);
  void (*decode)(const ValueSpec& spec, const uint8_t* in, size_t count, size_t begin, size_t end, Into into,
                 Target to);
};

struct Drivers {
  DenseDriver dense[kCodecKinds];
  void (*load)(const Elements& from, size_t count, float* out);
  // The same elements in type `to` (fp16 and bf16 saturate).
  void (*store)(DType to, const float* x, size_t count, uint8_t* out);
  // Of elements x that decode to `values`.
  void (*give_back)(const float* x, const float* values, size_t count, const GiveBack& back);
};

// For the best instruction set of this CPU, or the forced one.
const Drivers& drivers();

}  // namespace cgx
