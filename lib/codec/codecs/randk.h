// Random-k: cuts the block into k strata of (almost) equal size, keeps one uniformly drawn element of
// each, and decodes it times the stratum's size: unbiased, with E|C(x)-x|^2 <= (d/k - 1)|x|^2 where k
// divides d. Indices do not travel: the block carries the random key that draws them again.
//
// A stratum that holds NaN or Inf gives its first such element in place of the drawn one, so that
// nothing non-finite stays hidden.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "base/hd.h"
#include "base/random.h"
#include "codec/codecs/topk.h"
#include "codec/wire.h"

namespace cgx {

// The draws of indices come from a stream of their own, beside that of the values' rounding.
inline constexpr uint8_t kIndexStream = 0x80;

// First element of stratum `j` of `k`; stratum k begins at `count`. REQUIRES: j <= k <= count <= 2^32.
CGX_HD uint64_t stratum_begin(uint64_t j, uint64_t k, uint64_t count) {
  return j == k ? count : j * count / k;  // j < k keeps the product below 2^64
}

// Uniform on [0, size) from 64 random bits: floor(bits * size / 2^64). Each outcome's probability is
// within 2^-64 of 1/size. REQUIRES: size <= 2^32.
CGX_HD uint64_t draw_below(uint32_t high, uint32_t low, uint64_t size) {
  return (high * size + ((low * size) >> 32)) >> 32;
}

// The element that stratum `j` keeps. Two strata share a counter; `first` is the block's first
// element in its tensor, so that blocks of one tensor draw from disjoint counters.
CGX_HD uint64_t stratum_pick(const RandomKey& key, uint64_t first, uint64_t j, uint64_t k, uint64_t count) {
  RandomKey index_key = key;
  index_key.stage = static_cast<uint8_t>(key.stage | kIndexStream);
  const uint64_t counter = (first + j) / 2;
  uint32_t words[4];
  random_lane(index_key, static_cast<uint32_t>(counter / kGroupLanes),
              static_cast<uint32_t>(counter % kGroupLanes), words);
  const uint32_t w = (j % 2) * 2;
  const uint64_t begin = stratum_begin(j, k, count);
  return begin + draw_below(words[w], words[w + 1], stratum_begin(j + 1, k, count) - begin);
}

// What a block begins with, byte for byte: all that stratum_pick() needs.
struct RandKHeader {
  uint64_t seed;
  uint32_t operation;
  uint32_t tensor;
  uint16_t rank;
  uint8_t stage;
  uint8_t zero;
  uint32_t first_group;  // of the block in its tensor
};
static_assert(sizeof(RandKHeader) == kRandKHeaderBytes);

// A kept value scaled up; finite values stay finite.
CGX_HD float scale_up(float value, float scale) {
  const float scaled = fmul(value, scale);
  if (is_finite_bits(float_bits(scaled)) || !is_finite_bits(float_bits(value))) return scaled;
  return bits_float((float_bits(value) & 0x80000000u) | 0x7f7fffffu);
}

struct RandK {
  static constexpr CodecKind kKind = CodecKind::kRandK;
  static constexpr const char* kName = "randk";
  static constexpr const char* kSummary = "one random element of each of k strata, scaled up: unbiased";
  static constexpr std::array<ParamRow, 1> kParams = {kRatioRow};
  static constexpr CodecSpec kInitial = {.kind = kKind, .ratio = 0.01, .values = {}};

  static bool is_unbiased(const CodecSpec& spec);
  static Status check_error_feedback(const CodecSpec& spec);
  static size_t layout_bytes(const CodecSpec& spec, DType dtype, size_t count);
  static Status encode(const EncodeArgs& args);
  static Status decode(const DecodeArgs& args);
};

}  // namespace cgx
