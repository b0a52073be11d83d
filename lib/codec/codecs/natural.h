// natural: natural compression C_nat (arXiv 1905.10988): a power of two on either side of x, stochastically
// and exactly unbiased. Adding 23 random bits to the mantissa carries into the exponent with probability
// mantissa / 2^23; sign and exponent, 9 bits, are what travels.
#include <array>

#include "base/hd.h"
#include "codec/codecs/params.h"
#include "codec/wire.h"

CGX_BEGIN_CODEC

// Sign and exponent field in 9 bits. Inf and NaN become Inf; what would round to 2^128 saturates at 2^127.
template <typename F, typename R>
CGX_HD auto natural_encode(F x, R draw) {
  const auto u = float_bits(x);
  const auto code = (u + (draw >> 9)) >> 23;
  const auto finite = select((code & 0xffu) == 0xffu, code - 1u, code);
  return select(is_finite_bits(u), finite, u >> 23);
}
// Of magnitudes up to 2^127.
template <typename F, typename R>
CGX_HD auto natural_encode_plain(F x, R draw) {
  return (float_bits(x) + (draw >> 9)) >> 23;
}

template <typename U>
CGX_HD auto natural_decode(U code) {
  return bits_float(code << 23);
}

// Of a codec whose code is a sign and natural's exponent byte less `offset`: the bytes that
// natural_encode_plain() may round to for this to be all there is to it.
struct ExponentRange {
  uint8_t first, last;
  uint8_t offset;
};

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
  template <typename F, typename R>
  CGX_HD static auto encode(F x, const Coder&, R draw) {
    return natural_encode(x, draw);
  }
  template <typename U>
  CGX_HD static auto decode(U code, const Coder&) {
    return natural_decode(code);
  }
  // Below 2^127 nothing can overflow; 0 is also what a NaN may overflow to.
  CGX_HD static ExponentRange exponents(const Coder&) { return {1, 253, 0}; }
  // Magnitudes (as bits) from which the encoder has something to count: above 2^127.
  static uint32_t count_from(const Coder&) { return 0x7f000001u; }
};

CGX_END_CODEC
