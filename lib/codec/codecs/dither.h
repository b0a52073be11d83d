// dither: standard dithering D_sta^{p,u} (QSGD at p = 2, TernGrad at p = inf, u = 1; arXiv 1905.10988): u
// uniform levels of |x| / norm, rounded stochastically in fixed point, beside a sign bit on top of the code.
#include <array>

#include "base/hd.h"
#include "codec/codecs/params.h"
#include "codec/wire.h"

CGX_BEGIN_CODEC

struct DitherParams {
  uint32_t levels;
  uint32_t sign_shift;  // bits - 1
};

struct DitherCoder {
  float scale;       // of x, exact: keeps the multiplier of a tiny norm finite
  float multiplier;  // levels 2^23 / norm
  uint32_t last;     // the highest level, in fixed point
  uint32_t sign_shift;
};

struct DitherDecoder {
  float unit;     // norm / levels, scaled
  float unscale;  // exact
  uint32_t sign_shift;
};

// Norms so large that a multiple of the unit may overflow, or so small that the unit would lose its bits,
// are divided at an exact power of two.
inline constexpr uint32_t kDitherWide = 0x7f000000u;  // 2^127
inline constexpr uint32_t kDitherTiny = 0x1f800000u;  // 2^-64

CGX_HD DitherCoder dither_coder(float norm, const DitherParams& p) {
  const float scale = float_bits(norm) < kDitherTiny ? 0x1p64f : 1.0f;
  const float multiplier =
      float_bits(norm) == 0 ? 0.0f : fdiv(fmul(static_cast<float>(p.levels), 0x1p23f), fmul(norm, scale));
  return {scale, multiplier, p.levels << 23, p.sign_shift};
}

// Norms that need no scale.
CGX_HD bool dither_is_plain(float norm) {
  const uint32_t u = float_bits(norm);
  return u == 0 || (u >= kDitherTiny && u < kDitherWide);
}

// Without the sign.
template <typename F, typename R>
CGX_HD auto dither_level_plain(F x, const DitherCoder& coder, R draw) {
  // At most 127 * 2^23 and a few ulps.
  const F position = fmul(bits_float(float_bits(x) & 0x7fffffffu), coder.multiplier);
  return round_with(draw, smaller(whole_part(position), coder.last));
}
template <typename F, typename R>
CGX_HD auto dither_encode_plain(F x, const DitherCoder& coder, R draw) {
  return dither_level_plain(x, coder, draw) |
         ((float_bits(x) >> (31 - coder.sign_shift)) & (1u << coder.sign_shift));
}

// Of any norm.
CGX_HD uint32_t dither_encode(float x, const DitherCoder& coder, uint32_t draw) {
  return dither_encode_plain(fmul(x, coder.scale), coder, draw);
}

CGX_HD DitherDecoder dither_decoder(float norm, const DitherParams& p) {
  const uint32_t u = float_bits(norm);
  const float scale = u >= kDitherWide ? 0x1p-2f : (u < kDitherTiny ? 0x1p64f : 1.0f);
  return {fdiv(fmul(norm, scale), static_cast<float>(p.levels)), fdiv(1.0f, scale), p.sign_shift};
}

template <typename U>
CGX_HD auto dither_decode_plain(U code, const DitherDecoder& d) {
  const U sign = (code >> d.sign_shift) << 31;
  const U level = code & ((1u << d.sign_shift) - 1);
  return bits_float(float_bits(fmul(d.unit, to_float(level))) | sign);
}

// Of any norm. Rounding can carry the top level just past FLT_MAX: it saturates.
CGX_HD float dither_decode(uint32_t code, const DitherDecoder& d) {
  const uint32_t u = float_bits(fmul(dither_decode_plain(code, d), d.unscale));
  return bits_float((u & 0x7fffffffu) == 0x7f800000u ? u - 1 : u);
}

struct Dither {
  static constexpr CodecKind kKind = CodecKind::kDither;
  static constexpr const char* kName = "dither";
  static constexpr const char* kSummary =
      "standard dithering (QSGD): uniform levels of |x| / norm and a sign";
  static constexpr std::array<ParamRow, 4> kParams = {{{kCodeBitsInfo, set_bits<2, 8>, get_bits},
                                                       {kNormInfo, set_norm, get_norm},
                                                       {kBucketInfo, set_bucket, get_bucket},
                                                       {kLevelsInfo, set_levels, get_levels}}};
  static constexpr CodecSpec kInitial = {.kind = kKind, .values = {.kind = kKind, .bits = 4, .bucket = 512}};
  static Status finish(CodecSpec& spec) { return finish_levels(spec); }

  static bool is_unbiased(const CodecSpec&) { return true; }
  // An error is below norm / levels; norm <= B max|x| (L1), sqrt(B) max|x| (L2), max|x| (inf) for a bucket of
  // B.
  static Status check_error_feedback(const CodecSpec& spec) {
    const ValueSpec& v = spec.values;
    const double levels = v.levels;
    const bool bounded = v.norm == Norm::kInf  ? levels > 1
                         : v.norm == Norm::kL2 ? v.bucket != 0 && levels * levels > v.bucket
                                               : v.bucket != 0 && levels > v.bucket;
    if (bounded) return {};
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
  using Coder = DitherCoder;
  using Decoder = DitherDecoder;
  using Params = DitherParams;
  static Params params(const ValueSpec& spec) { return {spec.levels, spec.bits - 1u}; }
  static bool is_random(const ValueSpec&) { return true; }
  CGX_HD static Meta meta(float norm, const Params&) { return norm; }
  CGX_HD static bool is_finite(Meta norm) { return is_finite_bits(float_bits(norm)); }
  CGX_HD static Coder coder(Meta norm, const Params& p) { return dither_coder(norm, p); }
  CGX_HD static uint32_t encode(float x, const Coder& coder, uint32_t draw) {
    return dither_encode(x, coder, draw);
  }
  CGX_HD static Decoder decoder(Meta norm, const Params& p) { return dither_decoder(norm, p); }
  CGX_HD static float decode(uint32_t code, const Decoder& d) { return dither_decode(code, d); }
  // Most buckets: the same codes and values for less, and for vectors.
  CGX_HD static bool is_plain(Meta norm) { return dither_is_plain(norm); }
  template <typename F, typename R>
  CGX_HD static auto encode_plain(F x, const Coder& coder, R draw) {
    return dither_encode_plain(x, coder, draw);
  }
  template <typename F, typename R>
  CGX_HD static auto level_plain(F x, const Coder& coder, R draw) {
    return dither_level_plain(x, coder, draw);
  }
  template <typename U>
  CGX_HD static auto decode_plain(U code, const Decoder& d) {
    return dither_decode_plain(code, d);
  }
};

CGX_END_CODEC
