// maxmin: 2^bits uniform levels between a bucket's smallest and largest element.
//
// A bucket's metadata is its min and the unit between levels, in fp32. An element's position among the
// levels is computed once, in fixed point with 23 fraction bits; adding 23 random bits (or a half) and
// shifting them out rounds it. Buckets so wide that max - min or a product of theirs could overflow, or so
// tiny that a unit would lose its bits, are computed at an exact power of two: the sign of the unit says so.
#include <array>
#include <string>

#include "base/hd.h"
#include "codec/codecs/params.h"
#include "codec/wire.h"

CGX_BEGIN_CODEC

struct MaxMinMeta {
  float min;
  float unit;  // negative: computed at the scale that its magnitude tells (maxmin_scale); NaN: not finite
};

// min and max as sort keys, so that the order of comparison does not matter and NaN shows.
struct MaxMinFold {
  static constexpr bool kAnyOrder = true;
  template <typename U>
  struct Extremes {
    U low, high;
  };
  using State = Extremes<uint32_t>;
  CGX_HD static State identity() { return {0xffffffffu, 0u}; }
  template <typename F>
  CGX_HD static auto lift(F x) {
    const auto key = sort_key(float_bits(x));
    return Extremes<decltype(sort_key(float_bits(x)))>{key, key};
  }
  template <typename U>
  CGX_HD static Extremes<U> merge(Extremes<U> a, Extremes<U> b) {
    return {smaller(a.low, b.low), larger(a.high, b.high)};
  }
  CGX_HD static State finish(State state) { return state; }

  // The same of elements of both signs, with half the work: of bits, the largest unsigned is the smallest
  // element if any is negative, and the largest signed the largest element if any is not.
  struct OfBothSigns {
    template <typename U>
    struct Extremes {
      U low, high;
    };
    using State = Extremes<uint32_t>;
    template <typename F>
    CGX_HD static auto lift(F x) {
      const auto bits = float_bits(x);
      return Extremes<decltype(float_bits(x))>{bits, bits};
    }
    template <typename U>
    CGX_HD static Extremes<U> merge(Extremes<U> a, Extremes<U> b) {
      return {larger(a.low, b.low), larger_signed(a.high, b.high)};
    }
    CGX_HD static bool holds(State state) { return (state.low >> 31) != 0 && (state.high >> 31) == 0; }
    CGX_HD static MaxMinFold::State finish(State state) {
      return {sort_key(state.low), sort_key(state.high)};
    }
  };
};

inline constexpr uint32_t kMaxMinWide = 0x7e800000u;  // 2^126: a magnitude from which products may overflow
inline constexpr uint32_t kMaxMinTiny = 0x1f800000u;  // 2^-64: below it a unit may be too small to invert
// A scaled unit of a tiny bucket is at most 2^1, of a wide one at least 2^93.
CGX_HD float maxmin_scale(float unit) {
  return bits_float(float_bits(unit) & 0x7fffffffu) > 4.0f ? 0x1p-2f : 0x1p64f;
}

struct MaxMinCoder {
  float scale;       // of x, exact
  float min;         // scaled
  float multiplier;  // 2^23 / unit
  uint32_t last;     // the highest level, in fixed point
};

struct MaxMinDecoder {
  float min, unit;  // scaled
  float unscale;
};

// What a bucket's fold says about it.
CGX_HD MaxMinMeta maxmin_meta(MaxMinFold::State fold, uint32_t levels) {
  const uint32_t low = from_sort_key(fold.low);
  const uint32_t high = from_sort_key(fold.high);
  const float nan = bits_float(0x7fc00000u);
  if (!is_finite_bits(low) || !is_finite_bits(high)) return {nan, nan};
  const uint32_t a = low & 0x7fffffffu;
  const uint32_t b = high & 0x7fffffffu;
  const uint32_t largest = a > b ? a : b;
  const float min = bits_float(low);
  const float max = bits_float(high);
  const float intervals = static_cast<float>(levels);
  if (min == max) return {min, 0.0f};
  if (largest < kMaxMinWide && largest >= kMaxMinTiny) return {min, fdiv(fsub(max, min), intervals)};
  const float scale = largest >= kMaxMinWide ? 0x1p-2f : 0x1p64f;
  const float unit = fdiv(fsub(fmul(max, scale), fmul(min, scale)), intervals);
  return {min, bits_float(float_bits(unit) | 0x80000000u)};
}

CGX_HD bool maxmin_finite(MaxMinMeta meta) {
  return is_finite_bits(float_bits(meta.min)) && is_finite_bits(float_bits(meta.unit));
}
CGX_HD bool maxmin_scaled(MaxMinMeta meta) { return (float_bits(meta.unit) >> 31) != 0; }

// REQUIRES: maxmin_finite(meta), and meta from maxmin_meta().
CGX_HD MaxMinCoder maxmin_coder(MaxMinMeta meta, uint32_t levels) {
  const float scale = maxmin_scaled(meta) ? maxmin_scale(meta.unit) : 1.0f;
  const float unit = bits_float(float_bits(meta.unit) & 0x7fffffffu);
  const float multiplier = float_bits(unit) == 0 ? 0.0f : fdiv(0x1p23f, unit);
  return {scale, fmul(meta.min, scale), multiplier, levels << 23};
}

// Of a bucket that is not scaled.
template <typename F, typename R>
CGX_HD auto maxmin_encode_plain(F x, const MaxMinCoder& coder, R draw) {
  // At most (2^8 - 1) 2^23 and a few ulps: fits an int.
  const F position = fmul(fsub(x, coder.min), coder.multiplier);
  return round_with(draw, smaller(whole_part(position), coder.last));
}

// Of any bucket.
CGX_HD uint32_t maxmin_encode(float x, const MaxMinCoder& coder, uint32_t draw) {
  return maxmin_encode_plain(fmul(x, coder.scale), coder, draw);
}

CGX_HD MaxMinDecoder maxmin_decoder(MaxMinMeta meta) {
  const float scale = maxmin_scaled(meta) ? maxmin_scale(meta.unit) : 1.0f;
  const float unit = bits_float(float_bits(meta.unit) & 0x7fffffffu);
  return {fmul(meta.min, scale), unit, fdiv(1.0f, scale)};
}

// Of a bucket that is not scaled; it cannot overflow.
template <typename U>
CGX_HD auto maxmin_decode_plain(U level, const MaxMinDecoder& d) {
  return fadd(d.min, fmul(d.unit, to_float(level)));
}

// Of any bucket. Rounding can carry the top level of a wide one just past FLT_MAX: it saturates.
CGX_HD float maxmin_decode(uint32_t level, const MaxMinDecoder& d) {
  const float value = fmul(maxmin_decode_plain(level, d), d.unscale);
  const uint32_t u = float_bits(value);
  return d.unscale > 1.0f && (u & 0x7fffffffu) == 0x7f800000u ? bits_float(u - 1) : value;
}

struct MaxMin {
  static constexpr CodecKind kKind = CodecKind::kMaxMin;
  static constexpr const char* kName = "maxmin";
  static constexpr const char* kSummary = "uniform levels between each bucket's minimum and maximum";
  static constexpr std::array<std::string_view, 2> kRoundings = {"stochastic", "nearest"};  // as Rounding
  static constexpr std::array<ParamRow, 3> kParams = {
      {{{"bits", "1..8", "4", "width of a code"}, set_bits<1, 8>, get_bits},
       {kBucketInfo, set_bucket, get_bucket},
       {{"rounding", "stochastic|nearest", "stochastic",
         "stochastic is unbiased, nearest has half the error"},
        [](std::string_view v, CodecSpec& s) { return set_choice(kRoundings, v, s.values.rounding); },
        [](const CodecSpec& s) { return std::string(kRoundings[static_cast<size_t>(s.values.rounding)]); }}}};
  static constexpr CodecSpec kInitial = {.kind = kKind, .values = {.kind = kKind, .bits = 4, .bucket = 512}};

  static bool is_unbiased(const CodecSpec& spec) { return spec.values.rounding == Rounding::kStochastic; }
  // An error is below one unit, (max - min) / levels <= 2 max|x| / levels: with two levels or fewer the
  // largest residual can grow from step to step.
  static Status check_error_feedback(const CodecSpec& spec) {
    if (!is_unbiased(spec) || spec.values.bits >= 2) return {};
    return error(Code::kInvalidArgument,
                 "error feedback diverges at bits=1 with stochastic rounding: use bits=2 or more, or "
                 "rounding=nearest");
  }

  static constexpr UnitLayout layout(const ValueSpec& spec, uint64_t count) {
    return {spec.bucket != 0 ? spec.bucket : count, spec.bits, sizeof(MaxMinMeta)};
  }
  static constexpr size_t unit(const ValueSpec& spec) {
    return spec.bucket == 0 ? 0 : layout(spec, 0).elements();
  }
  static constexpr size_t unit_bytes(const ValueSpec& spec, size_t m) { return layout(spec, m).bytes(m); }

  // Bucketed.
  using Meta = MaxMinMeta;
  using Coder = MaxMinCoder;
  using Decoder = MaxMinDecoder;
  using Fold = MaxMinFold;
  struct Params {
    uint32_t levels;  // intervals between min and max
  };
  static Params params(const ValueSpec& spec) { return {(1u << spec.bits) - 1}; }
  static bool is_random(const ValueSpec& spec) { return spec.rounding == Rounding::kStochastic; }
  CGX_HD static Meta meta(Fold::State fold, const Params& p) { return maxmin_meta(fold, p.levels); }
  CGX_HD static bool is_finite(const Meta& meta) { return maxmin_finite(meta); }
  CGX_HD static Coder coder(const Meta& meta, const Params& p) { return maxmin_coder(meta, p.levels); }
  CGX_HD static uint32_t encode(float x, const Coder& coder, uint32_t draw) {
    return maxmin_encode(x, coder, draw);
  }
  CGX_HD static Decoder decoder(const Meta& meta, const Params&) { return maxmin_decoder(meta); }
  CGX_HD static float decode(uint32_t code, const Decoder& d) { return maxmin_decode(code, d); }
  // Most buckets: the same codes and values for less, and for vectors.
  CGX_HD static bool is_plain(const Meta& meta) { return !maxmin_scaled(meta); }
  template <typename F, typename R>
  CGX_HD static auto encode_plain(F x, const Coder& coder, R draw) {
    return maxmin_encode_plain(x, coder, draw);
  }
  template <typename U>
  CGX_HD static auto decode_plain(U code, const Decoder& d) {
    return maxmin_decode_plain(code, d);
  }
};

CGX_END_CODEC
