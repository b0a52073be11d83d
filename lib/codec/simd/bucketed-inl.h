// Encoding of bucketed codecs as loops over their definitions: fold a bucket to its metadata, then a code an
// element, a group at a time in vectors from the elements to the packed bytes. Buckets that are not plain,
// the last few elements, and codecs whose arithmetic is written for one element only, go through arrays that
// stay in L1. Included once per instruction set.
#if defined(CGX_BUCKETED_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CGX_BUCKETED_INL_H_
#undef CGX_BUCKETED_INL_H_
#else
#define CGX_BUCKETED_INL_H_
#endif

#include "codec/codec_list.h"
#include "codec/simd/bucketed_decode-inl.h"
#include "codec/simd/elements-inl.h"
#include "codec/simd/fold-inl.h"
#include "codec/simd/pack-inl.h"
#include "codec/simd/random-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cgx {
namespace HWY_NAMESPACE {

// Elements of a bucket within a group.
struct Span {
  size_t at;   // of the first, in the block
  uint32_t i;  // of the first, in its group
  uint32_t n;
};

// A thing for each bucket, one or two, that four vectors of elements come from.
template <typename T, uint32_t kBuckets>
struct OfBuckets {
  T each[kBuckets];
  CGX_HD const T& of(uint32_t vector) const { return each[vector * kBuckets / 4]; }
};

template <typename C, typename Fold, typename S>
class BucketedEncoder {
 public:
  BucketedEncoder(const ValueSpec& spec, const Elements& from, size_t count, const BlockContext& context,
                  const GiveBack& back)
      : layout_(C::layout(spec, count)),
        group_bytes_(packed_bytes(kGroup, layout_.bits)),
        params_(C::params(spec)),
        is_random_(C::is_random(spec)),
        from_(from),
        source_(from),
        count_(count),
        context_(context),
        back_(back),
        random_(context.key),
        ahead_(layout_.elements() + (layout_.elements() > kAhead ? layout_.elements() : kAhead)) {}

  // A bucket of a group or more is a unit; the next one is folded ahead, so that the few long instructions
  // which make its coder run beside the encoding of this one.
  void run(uint8_t* out) {
    const size_t unit = layout_.elements();
    const bool ahead = layout_.bucket >= kGroup;
    Bucket next = {};
    if (ahead) next = fold(0, count_ < unit ? count_ : unit);
    for (size_t at = 0; at < count_; at += unit) {
      const size_t m = count_ - at < unit ? count_ - at : unit;
      const Bucket bucket = next;
      const size_t rest = count_ - at - m;
      if (ahead && rest != 0) next = fold(at + m, rest < unit ? rest : unit);
      out = encode_unit(bucket, at, m, out);
    }
  }

 private:
  using Params = typename C::Params;
  using Meta = typename C::Meta;
  using Coder = typename C::Coder;
  static constexpr bool kGivesBack = S::kFeedback != Feedback::kNone;

  struct Bucket {
    Meta meta;
    Coder coder;
    bool is_finite;
    bool is_plain;
  };

  // Both return where the next unit begins.
  uint8_t* encode_unit(const Bucket& bucket, size_t at, size_t m, uint8_t* out) {
    if (layout_.bucket < kGroup) return encode_small_buckets(at, static_cast<uint32_t>(m), out);
    wire_store(out, bucket.meta);
    uint8_t* packed = out + layout_.meta(1);
    for (size_t i = 0; i < m; i += kGroup) {
      const uint32_t n = static_cast<uint32_t>(m - i < kGroup ? m - i : kGroup);
      alignas(64) uint8_t codes[kGroup];
      seek(at + i);
      encode_span(bucket, {at + i, 0, n}, codes);
      packed = pack(codes, n, packed);
    }
    return packed;
  }

  // A group of them is a unit. All are folded first, so that their long instructions overlap.
  uint8_t* encode_small_buckets(size_t at, uint32_t n, uint8_t* out) {
    const uint32_t step = static_cast<uint32_t>(layout_.bucket);
    alignas(64) uint8_t codes[kGroup];
    Bucket buckets[kGroup / kLeastBucket];
    for (uint32_t i = 0, b = 0; i < n; i += step, ++b) {
      buckets[b] = fold(at + i, n - i < step ? n - i : step);
      wire_store(out + layout_.meta(b), buckets[b].meta);
    }
    seek(at);
    for (uint32_t i = 0, b = 0; i < n; i += step, ++b) {
      if constexpr (has_lanes<C>() && 4 * kLanes == 2 * kLeastBucket) {
        const bool two = step == kLeastBucket && n - i >= 2 * step;
        if (two && buckets[b].is_plain && buckets[b + 1].is_plain) {
          encode_lanes<2>(buckets + b, {at + i, i, 2 * step}, codes);
          i += step;
          ++b;
          continue;
        }
      }
      encode_span(buckets[b], {at + i, i, n - i < step ? n - i : step}, codes);
    }
    return pack(codes, n, out + layout_.group(n, 0));
  }

  // Returns where the next group begins.
  uint8_t* pack(const uint8_t* codes, uint32_t n, uint8_t* out) const {
    pack_group(codes, n, layout_.bits, out);
    return out + (n == kGroup ? group_bytes_ : packed_bytes(n, layout_.bits));
  }

  Bucket fold(size_t at, size_t n) const {
    const Meta meta = C::meta(fold_bucket<Fold>(source_, from_, at, n), params_);
    const bool finite = C::is_finite(meta);
    bool plain = false;
    if constexpr (has_lanes<C>()) plain = finite && C::is_plain(meta);
    return {meta, C::coder(finite ? meta : Meta{}, params_), finite, plain};
  }

  void seek(size_t at) {
    if (is_random_) random_.seek(static_cast<uint32_t>((context_.first + at) / kGroup));
  }

  void encode_span(const Bucket& bucket, const Span& span, uint8_t* codes) const {
    uint32_t done = 0;
    if constexpr (has_lanes<C>()) {
      if (bucket.is_plain) {
        done = span.n - span.n % (4 * kLanes);
        encode_lanes<1>(&bucket, {span.at, span.i, done}, codes);
      }
    }
    if (done != span.n) encode_staged(bucket, {span.at + done, span.i + done, span.n - done}, codes);
  }

  template <uint32_t kBuckets>
  void encode_lanes(const Bucket* buckets, const Span& span, uint8_t* codes) const {
    is_random_ ? encode_lanes<kBuckets, true>(buckets, span, codes)
               : encode_lanes<kBuckets, false>(buckets, span, codes);
  }

  template <uint32_t kBuckets, bool kRandom>
  CGX_HD void encode_lanes(const Bucket* buckets, const Span& span, uint8_t* codes) const {
    const auto coders = of_buckets<kBuckets>(buckets, [](const Bucket& b) { return b.coder; });
    if constexpr (kGivesBack) {
      const auto encode = [&](auto values) HWY_ATTR {
        encode_vectors<kRandom>(coders, span, of_buckets<kBuckets>(buckets, values), codes);
      };
      const auto decoder = [&](const Bucket& b) HWY_ATTR { return C::decoder(b.meta, params_); };
      if (fit_a_table(layout_.bits)) {
        return encode([&](const Bucket& b) HWY_ATTR { return LookedUpValues<C>(decoder(b)); });
      }
      if constexpr (kByteTables && has_signs()) {  // without a sign, computing is as quick
        if (layout_.bits <= 4) {
          return encode([&](const Bucket& b) HWY_ATTR { return ByteTableValues<C>(decoder(b)); });
        }
      }
      encode([&](const Bucket& b) HWY_ATTR { return ComputedValues<C>(decoder(b)); });
    } else {
      encode_vectors<kRandom>(coders, span, OfBuckets<std::nullptr_t, 1>{}, codes);
    }
  }

  template <uint32_t kBuckets, typename F>
  CGX_HD static auto of_buckets(const Bucket* buckets, F f) {
    using T = decltype(f(*buckets));
    if constexpr (kBuckets == 1) {
      return OfBuckets<T, 1>{{f(buckets[0])}};
    } else {
      return OfBuckets<T, 2>{{f(buckets[0]), f(buckets[1])}};
    }
  }

  // What the loop needs is in locals: the bytes that it stores could be any member.
  template <bool kRandom, typename Values, uint32_t kBuckets, uint32_t kValued>
  CGX_HD void encode_vectors(const OfBuckets<Coder, kBuckets> coders, const Span& span,
                             const OfBuckets<Values, kValued> values, uint8_t* codes) const {
    // Signs are put on top of bytes, unless words are what values are made of.
    constexpr bool kByBytes = !kGivesBack || are_of_bytes<Values>();
    const S source = source_.from(span.at);
    const S next = source_.ahead(span.at, ahead_, count_, context_.read_next);
    const GiveBack back = back_.from(span.at);
    const GroupDraws draws = random_.group();
    uint8_t* out = codes + span.i;
    const size_t n = span.n;
    for (size_t i = 0; i < n; i += 4 * kLanes) {
      F32 x[4];
      U32 code[4];
      next.template prefetch<4 * kLanes>(i);
      source.load_all(i, x);
      HWY_UNROLL(4)
      for (uint32_t k = 0; k < 4; ++k) {
        const auto random = draw<kRandom>(draws, span.i + static_cast<uint32_t>(i), k);
        if constexpr (kByBytes && has_signs()) {
          code[k] = C::level_plain(x[k], coders.of(k), random);
        } else {
          code[k] = C::encode_plain(x[k], coders.of(k), random);
        }
      }
      Bytes bytes = to_bytes(code);
      if constexpr (kByBytes && has_signs())
        bytes = with_signs_at(bytes, coders.of(0).sign_shift, sign_bytes(x));
      if constexpr (kGivesBack) give_back_all(x, code, bytes, values, i, back);
      store_bytes<S::kSplits ? 2 : 1>(bytes, out + i);
    }
  }

  static constexpr bool has_signs() {
    return requires(F32 x, Coder coder, U32 draw) { C::level_plain(x, coder, draw); };
  }

  template <typename Values, uint32_t kBuckets>
  CGX_HD static void give_back_all(const F32 (&x)[4], const U32 (&code)[4], Bytes bytes,
                                   const OfBuckets<Values, kBuckets>& values, size_t i,
                                   const GiveBack& back) {
    F32 value[4];
    if constexpr (are_of_bytes<Values>()) {
      static_assert(kBuckets == 1);
      values.of(0).look_up(byte_lanes(bytes), value);  // block by block as they are
    } else {
      HWY_UNROLL(4)
      for (uint32_t k = 0; k < 4; ++k) value[k] = values.of(k)(code[k]);
    }
    HWY_UNROLL(4)
    for (uint32_t k = 0; k < 4; ++k) {
      give_back<S::kFeedback, true>(x[k], value[k], i + k * kLanes, back);
    }
  }

  template <bool kRandom>
  CGX_HD static auto draw(GroupDraws draws, uint32_t i, uint32_t k) {
    if constexpr (kRandom) {
      return draws.template at<S::kSplits>(i, k);
    } else {
      return U32(0x80000000u);  // a half: round to nearest
    }
  }

  // The codes of a bucket that is not finite are zeros, and its values NaN.
  HWY_NOINLINE void encode_staged(const Bucket& bucket, const Span& span, uint8_t* codes) const {
    alignas(64) float x[kGroup];
    alignas(64) float values[kGroup];
    alignas(64) uint32_t draws[kGroup];
    load_elements(from_.from(span.at), span.n, x);
    uint8_t* HWY_RESTRICT to = codes + span.i;
    if (bucket.is_finite) {
      draw(span, draws);
      const Coder coder = bucket.coder;
      for (uint32_t j = 0; j < span.n; ++j) {
        to[j] = static_cast<uint8_t>(C::encode(x[j], coder, draws[span.i + j]));
      }
    } else {
      for (uint32_t j = 0; j < span.n; ++j) to[j] = 0;
      count_specials(x, span.n, 0x7f800000u, context_.counts);
    }
    if constexpr (kGivesBack) {
      const auto decoder = C::decoder(bucket.meta, params_);
      for (uint32_t j = 0; j < span.n; ++j) {
        values[j] = bucket.is_finite ? C::decode(uint32_t{to[j]}, decoder) : bits_float(0x7fc00000u);
      }
      give_back(x, values, span.n, back_.from(span.at));
    }
  }

  void draw(const Span& span, uint32_t* HWY_RESTRICT draws) const {
    if (is_random_) return random_.draws(span.i, span.n, draws);
    for (uint32_t i = 0; i < span.n; ++i) draws[span.i + i] = 0x80000000u;  // a half: round to nearest
  }

  const UnitLayout layout_;
  const size_t group_bytes_;
  const Params params_;
  const bool is_random_;
  const Elements from_;
  const S source_;
  const size_t count_;
  const BlockContext& context_;
  const GiveBack back_;
  GroupRandom random_;
  // How far ahead memory is asked for: folds, which hide it from the hardware's own prefetching, are a unit
  // ahead themselves.
  const size_t ahead_;
};

// Codecs scaled by a norm have three folds.
template <typename C>
struct Bucketed {
  template <typename S>
  using Own = BucketedEncoder<C, typename C::Fold, S>;

  static void encode(const ValueSpec& spec, const Elements& from, size_t count, const BlockContext& context,
                     const GiveBack& back, uint8_t* out) {
    encode_from<Own>(spec, from, count, context, back, out);
  }
};

template <typename C>
struct Normed {
  template <typename S>
  using Inf = BucketedEncoder<C, NormFold<Norm::kInf>, S>;
  template <typename S>
  using L1 = BucketedEncoder<C, NormFold<Norm::kL1>, S>;
  template <typename S>
  using L2 = BucketedEncoder<C, NormFold<Norm::kL2>, S>;

  static void encode(const ValueSpec& spec, const Elements& from, size_t count, const BlockContext& context,
                     const GiveBack& back, uint8_t* out) {
    switch (spec.norm) {
      case Norm::kInf:
        return encode_from<Inf>(spec, from, count, context, back, out);
      case Norm::kL1:
        return encode_from<L1>(spec, from, count, context, back, out);
      case Norm::kL2:
        return encode_from<L2>(spec, from, count, context, back, out);
    }
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace cgx
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
