// natdither: natural dithering D_nat^{p,s} (arXiv 1905.10988): levels 2^(1-s), ..., 1/2, 1 of |x| / norm, and
// zero. With bits=4 and norm=inf it is LUQ's 4-bit format (arXiv 2112.10769). Inside the levels, adding 23
// random bits to the quotient's mantissa carries into its exponent with the right probability; below them, a
// coin decides between zero and the smallest level.
#include <array>

#include "base/hd.h"
#include "codec/codecs/params.h"
#include "codec/wire.h"

CGX_BEGIN_CODEC

struct NatDitherParams {
  uint32_t levels;
  uint32_t sign_shift;  // bits - 1
};

struct NatDitherCoder {
  float scale;        // of x, exact: keeps the inverse of a tiny or huge norm normal
  float inverse;      // 1 / (norm * scale)
  float to_smallest;  // 2^(levels - 1), in units of the smallest level
  uint32_t smallest;  // the smallest level's exponent field, 128 - levels
  uint32_t levels, sign_shift;
};

struct NatDitherDecoder {
  float norm;
  uint32_t offset;  // from a level to its exponent field
  uint32_t sign_shift;
};

// Norms whose inverse, or a quotient by it, would not be normal are divided by at an exact power of two.
inline constexpr uint32_t kNatDitherWide = 0x71800000u;  // 2^100
inline constexpr uint32_t kNatDitherTiny = 0x1f800000u;  // 2^-64

CGX_HD NatDitherCoder natdither_coder(float norm, const NatDitherParams& p) {
  const uint32_t u = float_bits(norm);
  const float scale = u < kNatDitherTiny ? 0x1p64f : (u >= kNatDitherWide ? 0x1p-64f : 1.0f);
  const float inverse = u == 0 ? 0.0f : fdiv(1.0f, fmul(norm, scale));
  return {scale,    inverse,     bits_float((126u + p.levels) << 23), 128u - p.levels,

          p.levels, p.sign_shift};
}

// Norms that need no scale.
CGX_HD bool natdither_is_plain(float norm) {
  const uint32_t u = float_bits(norm);
  return u == 0 || (u >= kNatDitherTiny && u < kNatDitherWide);
}

// Without the sign.
template <typename F, typename R>
CGX_HD auto natdither_level_plain(F x, const NatDitherCoder& coder, R draw) {
  const F q = fmul(bits_float(float_bits(x) & 0x7fffffffu), coder.inverse);
  const auto qu = float_bits(q);
  // Inside the levels the quotient's own bits are a fixed-point number of exponents; below them it is, in
  // units of the smallest level, less than 1.
  const auto below = less_signed(qu, coder.smallest << 23);
  const auto fixed =
      select_whole(below, fmul(fmul(q, coder.to_smallest), 0x1p23f), qu - ((coder.smallest - 1) << 23));
  return round_with(draw, smaller(fixed, coder.levels << 23));
}
template <typename F, typename R>
CGX_HD auto natdither_encode_plain(F x, const NatDitherCoder& coder, R draw) {
  return natdither_level_plain(x, coder, draw) |
         ((float_bits(x) >> (31 - coder.sign_shift)) & (1u << coder.sign_shift));
}

// Of any norm.
CGX_HD uint32_t natdither_encode(float x, const NatDitherCoder& coder, uint32_t draw) {
  return natdither_encode_plain(fmul(x, coder.scale), coder, draw);
}

CGX_HD NatDitherDecoder natdither_decoder(float norm, const NatDitherParams& p) {
  return {norm, 127u - p.levels, p.sign_shift};
}

// Of any norm.
template <typename U>
CGX_HD auto natdither_decode_plain(U code, const NatDitherDecoder& d) {
  const U sign = (code >> d.sign_shift) << 31;
  const U level = code & ((1u << d.sign_shift) - 1);
  const U factor = select(level == 0u, U(0u), (level + d.offset) << 23);
  return bits_float(float_bits(fmul(d.norm, bits_float(factor))) | sign);
}

// The same in two steps, of which the first is for bytes, of which vectors hold four times as many: the sign
// and the factor's exponent, which is at most 127. REQUIRES: natdither_has_factors(d).
template <typename B>
CGX_HD B natdither_factor(B code, const NatDitherDecoder& d) {
  const B level = code & ((1u << d.sign_shift) - 1);
  const B exponent = select(level == 0u, B(0u), level + d.offset);
  return select(code == level, exponent, exponent | 0x80u);
}
// True where a code is its own factor.
CGX_HD bool natdither_has_factor_codes(const NatDitherDecoder& d) {
  return d.sign_shift == 7 && d.offset == 0;
}
// REQUIRES: a factor's byte, extended by its sign. Shifted, the byte's own sign lands below that of the float
// and is cleared.
template <typename U>
CGX_HD auto natdither_times(U factor, const NatDitherDecoder& d) {
  return fmul(d.norm, bits_float((factor << 23) & 0xbfffffffu));
}
// True where no code is above the highest level.
CGX_HD bool natdither_has_factors(const NatDitherDecoder& d) {
  return (1u << d.sign_shift) - 1 + d.offset <= 127;
}

struct NatDither {
  static constexpr CodecKind kKind = CodecKind::kNatDither;
  static constexpr const char* kName = "natdither";
  static constexpr const char* kSummary =
      "natural dithering: power-of-two levels of |x| / norm and a sign; bits=4,norm=inf is LUQ's format";
  static constexpr std::array<ParamRow, 4> kParams = {{{kCodeBitsInfo, set_bits<2, 8>, get_bits},
                                                       {kNormInfo, set_norm, get_norm},
                                                       {kBucketInfo, set_bucket, get_bucket},
                                                       {kLevelsInfo, set_levels, get_levels}}};
  static constexpr CodecSpec kInitial = {.kind = kKind, .values = {.kind = kKind, .bits = 4, .bucket = 512}};
  static Status finish(CodecSpec& spec) { return finish_levels(spec); }

  static bool is_unbiased(const CodecSpec&) { return true; }
  // An error inside the levels is below half the element; below them it is below norm 2^(1 - levels), with
  // norm <= B max|x| (L1), sqrt(B) max|x| (L2), max|x| (inf) for a bucket of B.
  static Status check_error_feedback(const CodecSpec& spec) {
    const ValueSpec& v = spec.values;
    const double smallest =
        v.levels > 60 ? 0x1p-59 : 1.0 / static_cast<double>(uint64_t{1} << (v.levels - 1));
    const double lost = v.norm == Norm::kInf  ? smallest
                        : v.norm == Norm::kL2 ? smallest * smallest * v.bucket
                                              : smallest * v.bucket;
    if (lost < 1 && (v.bucket != 0 || v.norm == Norm::kInf)) return {};
    return error(
        Code::kInvalidArgument,
        "error feedback diverges here: a rounding can lose more than the largest element; use norm=inf "
        "with levels above 1, or more levels and smaller buckets");
  }

  static constexpr UnitLayout layout(const ValueSpec& spec, uint64_t count) {
    return {spec.bucket != 0 ? spec.bucket : count, spec.bits, sizeof(float)};
  }
  static constexpr size_t unit(const ValueSpec& spec) {
    return spec.bucket == 0 ? 0 : layout(spec, 0).elements();
  }
  static constexpr size_t unit_bytes(const ValueSpec& spec, size_t m) { return layout(spec, m).bytes(m); }

  // Bucketed, folded by a norm.
  using Meta = float;
  using Coder = NatDitherCoder;
  using Decoder = NatDitherDecoder;
  using Params = NatDitherParams;
  static Params params(const ValueSpec& spec) { return {spec.levels, spec.bits - 1u}; }
  static bool is_random(const ValueSpec&) { return true; }
  CGX_HD static Meta meta(float norm, const Params&) { return norm; }
  CGX_HD static bool is_finite(Meta norm) { return is_finite_bits(float_bits(norm)); }
  CGX_HD static Coder coder(Meta norm, const Params& p) { return natdither_coder(norm, p); }
  CGX_HD static uint32_t encode(float x, const Coder& coder, uint32_t draw) {
    return natdither_encode(x, coder, draw);
  }
  CGX_HD static Decoder decoder(Meta norm, const Params& p) { return natdither_decoder(norm, p); }
  CGX_HD static float decode(uint32_t code, const Decoder& d) { return natdither_decode_plain(code, d); }
  // Most buckets: the same codes and values for less, and for vectors.
  CGX_HD static bool is_plain(Meta norm) { return natdither_is_plain(norm); }
  template <typename F, typename R>
  CGX_HD static auto encode_plain(F x, const Coder& coder, R draw) {
    return natdither_encode_plain(x, coder, draw);
  }
  template <typename F, typename R>
  CGX_HD static auto level_plain(F x, const Coder& coder, R draw) {
    return natdither_level_plain(x, coder, draw);
  }
  template <typename U>
  CGX_HD static auto decode_plain(U code, const Decoder& d) {
    return natdither_decode_plain(code, d);
  }
  CGX_HD static bool has_factors(const Decoder& d) { return natdither_has_factors(d); }
  CGX_HD static bool has_factor_codes(const Decoder& d) { return natdither_has_factor_codes(d); }
  template <typename B>
  CGX_HD static B factor(B code, const Decoder& d) {
    return natdither_factor(code, d);
  }
  template <typename U>
  CGX_HD static auto times(U factor, const Decoder& d) {
    return natdither_times(factor, d);
  }
};

CGX_END_CODEC
