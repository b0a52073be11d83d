// Bucketed codecs as loops over their definitions: fold a bucket to its metadata, then a code an element, a
// group at a time in vectors from the elements to the packed bytes. Buckets that are not plain, the last
// few elements, and codecs whose arithmetic is written for one element only, go through arrays that
// stay in L1. Included once per instruction set.
#if defined(CGX_BUCKETED_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CGX_BUCKETED_INL_H_
#undef CGX_BUCKETED_INL_H_
#else
#define CGX_BUCKETED_INL_H_
#endif

#include "codec/codec_list.h"
#include "codec/simd/elements-inl.h"
#include "codec/simd/fold-inl.h"
#include "codec/simd/pack-inl.h"
#include "codec/simd/random-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cgx {
namespace HWY_NAMESPACE {

// True where C's arithmetic for plain buckets is also that of vectors.
template <typename C>
constexpr bool has_lanes() {
  if constexpr (!kVectors) {
    return false;
  } else if constexpr (requires { typename C::Meta; }) {
    return requires(F32 x, U32 u, typename C::Coder c, typename C::Decoder d) {
      C::encode_plain(x, c, u);
      C::decode_plain(u, d);
    };
  } else {
    return requires(F32 x, U32 u, typename C::Coder c) {
      C::encode(x, c, u);
      C::decode(u, c);
    };
  }
}

// Elements of a bucket within a group.
struct Span {
  size_t at;   // of the first, in the block
  uint32_t i;  // of the first, in its group
  uint32_t n;
};

// The values of a span's codes as vectors: looked up where they fit in one, else computed.
template <typename C>
class LaneDecoder {
 public:
  LaneDecoder(const typename C::Decoder& decoder, uint32_t bits)
      : decoder_(decoder), is_table_(kLanes >= 8 && bits < 32 && (1u << bits) <= kLanes) {
    if (is_table_) table_ = C::decode_plain(lane_numbers(), decoder);
  }
  bool is_table() const { return is_table_; }
  template <bool kTable>
  CGX_HD F32 value(U32 code) const {
    if constexpr (kTable && kLanes >= 8) {
      return look_up(table_, code);
    } else {
      return C::decode_plain(code, decoder_);
    }
  }

 private:
  const typename C::Decoder decoder_;
  const bool is_table_;
  F32 table_;
};

template <typename C, typename Fold, typename S>
class BucketedEncoder {
 public:
  BucketedEncoder(const ValueSpec& spec, const Elements& from, size_t count, const BlockContext& context,
                  const GiveBack& back)
      : layout_(C::layout(spec, count)),
        params_(C::params(spec)),
        is_random_(C::is_random(spec)),
        from_(from),
        source_(from),
        count_(count),
        context_(context),
        back_(back),
        random_(context.key) {}

  void run(uint8_t* out) {
    const size_t unit = layout_.elements();
    for (size_t at = 0; at < count_; at += unit) {
      const size_t m = count_ - at < unit ? count_ - at : unit;
      encode_unit(at, m, out);
      out += layout_.bytes(m);
    }
  }

 private:
  using Params = typename C::Params;
  using Meta = typename C::Meta;
  using Coder = typename C::Coder;

  void encode_unit(size_t at, size_t m, uint8_t* out) {
    Bucket bucket;
    for (size_t i = 0; i < m; i += kGroup) {
      const uint32_t n = static_cast<uint32_t>(m - i < kGroup ? m - i : kGroup);
      alignas(64) uint8_t codes[kGroup];
      seek(at + i);
      const uint32_t step = layout_.bucket < n ? static_cast<uint32_t>(layout_.bucket) : n;
      for (uint32_t j = 0; j < n; j += step) {
        if ((i + j) % layout_.bucket == 0) {
          const size_t rest = m - i - j;
          bucket = fold(at + i + j, rest < layout_.bucket ? rest : layout_.bucket);
          wire_store(out + layout_.meta((i + j) / layout_.bucket), bucket.meta);
        }
        encode_span(bucket, {at + i + j, j, n - j < step ? n - j : step}, codes);
      }
      pack_group(codes, n, layout_.bits, out + layout_.group(m, i / kGroup));
    }
  }

  struct Bucket {
    Meta meta;
    Coder coder;
    bool is_finite;
    bool is_plain;
  };

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
        is_random_ ? encode_lanes<true>(bucket, span, done, codes)
                   : encode_lanes<false>(bucket, span, done, codes);
      }
    }
    if (done != span.n) encode_staged(bucket, {span.at + done, span.i + done, span.n - done}, codes);
  }

  template <bool kRandom>
  CGX_HD void encode_lanes(const Bucket& bucket, const Span& span, uint32_t n, uint8_t* codes) const {
    const Coder coder = bucket.coder;
    const size_t ahead = upcoming(span.at);
    const LaneDecoder<C> decoder(C::decoder(bucket.meta, params_), S::kFeedback ? layout_.bits : 32);
    for (uint32_t i = 0; i < n; i += 4 * kLanes) {
      U32 code[4];
      HWY_UNROLL(4)
      for (uint32_t k = 0; k < 4; ++k) {
        const uint32_t j = i + k * kLanes;
        source_.prefetch(ahead + j);
        const F32 x = source_.load(span.at + j);
        code[k] = C::encode_plain(x, coder, kRandom ? random_.at(span.i + j) : U32(0x80000000u));
        if constexpr (S::kFeedback) {
          const F32 value = decoder.is_table() ? decoder.template value<true>(code[k])
                                               : decoder.template value<false>(code[k]);
          give_back(x, value, span.at + j, back_);
        }
      }
      store_bytes(code, codes + span.i + i);
    }
  }

  // What to ask for early: a fold hides the next elements from the hardware's own prefetching.
  size_t upcoming(size_t at) const {
    const size_t next = at + 2 * layout_.elements();
    return next + kGroup <= count_ ? next : at;
  }

  // The codes of a bucket that is not finite are zeros, and its values NaN.
  HWY_NOINLINE void encode_staged(const Bucket& bucket, const Span& span, uint8_t* codes) const {
    alignas(64) float x[kGroup];
    alignas(64) float values[kGroup];
    alignas(64) uint32_t draws[kGroup];
    load_elements(from_.from(span.at), span.n, x);
    uint8_t* HWY_RESTRICT to = codes + span.i;
    if (bucket.is_finite) {
      draw(draws);
      const Coder coder = bucket.coder;
      for (uint32_t j = 0; j < span.n; ++j) {
        to[j] = static_cast<uint8_t>(C::encode(x[j], coder, draws[span.i + j]));
      }
    } else {
      for (uint32_t j = 0; j < span.n; ++j) to[j] = 0;
      count_specials(x, span.n, 0x7f800000u, context_.counts);
    }
    if constexpr (S::kFeedback) {
      const auto decoder = C::decoder(bucket.meta, params_);
      for (uint32_t j = 0; j < span.n; ++j) {
        values[j] = bucket.is_finite ? C::decode(uint32_t{to[j]}, decoder) : bits_float(0x7fc00000u);
      }
      give_back(x, values, span.n, back_.from(span.at));
    }
  }

  void draw(uint32_t* HWY_RESTRICT draws) const {
    if (is_random_) return random_.draws(draws);
    for (uint32_t i = 0; i < kGroup; ++i) draws[i] = 0x80000000u;  // a half: round to nearest
  }

  const UnitLayout layout_;
  const Params params_;
  const bool is_random_;
  const Elements from_;
  const S source_;
  const size_t count_;
  const BlockContext& context_;
  const GiveBack back_;
  GroupRandom random_;
};

template <typename C>
class BucketedDecoder {
 public:
  static void run(const ValueSpec& spec, const uint8_t* in, size_t count, size_t begin, size_t end, Into into,
                  float* out) {
    const BucketedDecoder d(C::layout(spec, count), C::params(spec), into);
    const size_t unit = d.layout_.elements();
    for (size_t at = begin / unit * unit; at < end; at += unit) {
      const size_t m = count - at < unit ? count - at : unit;
      const uint8_t* block = in + at / unit * d.layout_.bytes(unit);
      const size_t first = begin > at ? begin - at : 0;
      const size_t last = end - at < m ? end - at : m;
      for (size_t i = first; i < last; i += kGroup) {
        d.decode_group(block, m, i, last, out + (at + i - begin));
      }
    }
  }

 private:
  using Params = typename C::Params;
  using Meta = typename C::Meta;

  BucketedDecoder(const UnitLayout& layout, const Params& params, Into into)
      : layout_(layout), params_(params), into_(into) {}

  void decode_group(const uint8_t* block, size_t m, size_t at, size_t last, float* HWY_RESTRICT out) const {
    alignas(64) uint8_t unpacked[kGroup];
    const uint32_t n = static_cast<uint32_t>(m - at < kGroup ? m - at : kGroup);
    const uint8_t* codes = block + layout_.group(m, at / kGroup);
    if (layout_.bits != 8) {
      unpack_group(codes, n, layout_.bits, unpacked);
      codes = unpacked;
    }
    const uint32_t wanted = static_cast<uint32_t>(last - at < n ? last - at : n);
    const uint32_t bucket = layout_.bucket < kGroup ? static_cast<uint32_t>(layout_.bucket) : kGroup;
    for (uint32_t i = 0; i < wanted; i += bucket) {
      const Meta meta = wire_load<Meta>(block + layout_.meta((at + i) / layout_.bucket));
      const uint32_t size = wanted - i < bucket ? wanted - i : bucket;
      into_ == Into::kAdd ? decode_span<Into::kAdd>(meta, codes + i, size, out + i)
                          : decode_span<Into::kAssign>(meta, codes + i, size, out + i);
    }
  }

  template <Into kInto>
  void decode_span(const Meta& meta, const uint8_t* HWY_RESTRICT codes, uint32_t n,
                   float* HWY_RESTRICT out) const {
    const auto decoder = C::decoder(meta, params_);
    const bool finite = C::is_finite(meta);
    uint32_t done = 0;
    if constexpr (has_lanes<C>()) {
      if (finite && C::is_plain(meta)) {
        done = n - n % kLanes;
        const LaneDecoder<C> lanes(decoder, layout_.bits);
        lanes.is_table() ? decode_lanes<kInto, true>(lanes, codes, done, out)
                         : decode_lanes<kInto, false>(lanes, codes, done, out);
      }
    }
    if (done == n) return;
    alignas(64) float values[kGroup];
    for (uint32_t i = done; i < n; ++i) {
      values[i] = finite ? C::decode(uint32_t{codes[i]}, decoder) : bits_float(0x7fc00000u);
    }
    emit(values + done, n - done, kInto, out + done);
  }

  template <Into kInto, bool kTable>
  CGX_HD static void decode_lanes(const LaneDecoder<C>& lanes, const uint8_t* HWY_RESTRICT codes, uint32_t n,
                                  float* HWY_RESTRICT out) {
    for (uint32_t i = 0; i < n; i += kLanes) {
      emit<kInto>(lanes.template value<kTable>(load_bytes(codes + i)), out + i);
    }
  }

  const UnitLayout layout_;
  const Params params_;
  const Into into_;
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
