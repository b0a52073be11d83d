// Random bits as a pure function of (seed, operation, tensor, rank, stage, element): no state, so
// neither chunking nor threads nor the device can change a byte, and ranks' noise is independent.
//
// Philox4x32-7 (Salmon et al., SC'11; Random123), 16 consecutive counters for a group of 256
// elements. Element 64 w + 4 l + b of a group owns byte b of word w of lane l's output, and its
// 32-bit draw is that word rotated so that its own byte is on top. Each draw is exactly uniform on
// 32 bits; draws in one word share their low bytes in another order, which couples two elements'
// roundings only where the first 8 bits tie (docs/NUMERICS.md bounds the effect). SIMD of any width
// reads the words in order, a GPU thread takes one lane for four float4 loads.
#pragma once

#include <Random123/philox.h>

#include <cstdint>

#include "base/hd.h"

namespace cgx {

struct RandomKey {
  uint64_t seed = 0;
  uint32_t operation = 0;  // the communicator's count of collectives
  uint32_t tensor = 0;
  uint16_t rank = 0;
  uint8_t stage = 0;  // which rounding of this rank: 0 the contribution, 1 the owner's sum, ring hops
};

inline constexpr uint32_t kGroup = 256;      // elements that share 16 counters
inline constexpr uint32_t kGroupLanes = 16;  // counters a group

// Lane `lane` of group `group`: four 32-bit words.
CGX_HD void random_lane(const RandomKey& key, uint32_t group, uint32_t lane, uint32_t words[4]) {
  r123::Philox4x32_R<7>::ctr_type counter = {
      {group * kGroupLanes + lane, key.tensor, key.operation,
       static_cast<uint32_t>(key.rank) | (static_cast<uint32_t>(key.stage) << 16)}};
  r123::Philox4x32_R<7>::key_type k = {
      {static_cast<uint32_t>(key.seed), static_cast<uint32_t>(key.seed >> 32)}};
  auto out = r123::Philox4x32_R<7>()(counter, k);
  for (int w = 0; w < 4; ++w) words[w] = out[w];
}

// The draw of the element that owns byte `b` (0..3) of `word`.
CGX_HD uint32_t draw_from_word(uint32_t word, uint32_t b) {
  const uint32_t shift = (24u - 8u * b) & 31u;
  return shift == 0 ? word : (word << shift) | (word >> (32u - shift));
}

// The draw of one element: the definition that every driver must reproduce.
CGX_HD uint32_t random_draw(const RandomKey& key, uint64_t element) {
  const uint32_t group = static_cast<uint32_t>(element / kGroup);
  const uint32_t i = static_cast<uint32_t>(element % kGroup);
  uint32_t words[4];
  random_lane(key, group, (i % 64) / 4, words);
  return draw_from_word(words[i / 64], i % 4);
}

}  // namespace cgx
