// natural: natural compression C_nat (arXiv 1905.10988): a power of two on either side of x, stochastically
// and exactly unbiased. Adding 23 random bits to the mantissa carries into the exponent with probability
// mantissa / 2^23; sign and exponent, 9 bits, are what travels.
#pragma once

#include <array>

#include "base/hd.h"
#include "codec/codecs/params.h"
#include "codec/wire.h"

namespace cgx {

// Sign and exponent field in 9 bits. Inf and NaN become Inf; what would round to 2^128 saturates at 2^127.
CGX_HD uint32_t natural_encode(float x, uint32_t draw) {
  const uint32_t u = float_bits(x);
  const uint32_t code = (u + (draw >> 9)) >> 23;
  const bool overflow = (code & 0xffu) == 0xffu;
  return is_finite_bits(u) ? code - (overflow ? 1u : 0u) : u >> 23;
}

CGX_HD float natural_decode(uint32_t code) { return bits_float(code << 23); }

struct Natural {
  static constexpr CodecKind kKind = CodecKind::kNatural;
  static constexpr const char* kName = "natural";
  static constexpr const char* kSummary = "natural compression: sign and exponent, 9 bits, no metadata";
  static constexpr std::span<const ParamRow> kParams = {};
  static constexpr CodecSpec kInitial = {.kind = kKind, .values = {.kind = kKind}};

  static bool is_unbiased(const CodecSpec&) { return true; }
  static constexpr size_t unit(const ValueSpec&) { return kGroup; }
  static constexpr size_t unit_bytes(const ValueSpec&, size_t m) {
    return natural_group_bytes(static_cast<uint32_t>(m));
  }

  // Element by element.
  using Code = uint16_t;
  struct Coder {};
  static constexpr int kCodeBits = 9;
  static constexpr bool kRandom = true;
  static Coder coder(const ValueSpec&) { return {}; }
  CGX_HD static Code encode(float x, const Coder&, uint32_t draw) {
    return static_cast<Code>(natural_encode(x, draw));
  }
  CGX_HD static float decode(Code code, const Coder&) { return natural_decode(code); }
  // Magnitudes (as bits) from which the encoder has something to count: above 2^127.
  static uint32_t count_from(const Coder&) { return 0x7f000001u; }
};

}  // namespace cgx
