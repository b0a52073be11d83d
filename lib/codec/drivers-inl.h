// The two shapes of dense codecs, as loops over the definitions in codecs/: bucketed (fold a bucket to its
// metadata, then a code an element) and element by element. Work goes a group at a time through
// stack arrays that stay in L1: fp32 without a residual is read in place. Included once per
// instruction set; the compiler vectorises the inner loops.
#if defined(CGX_DRIVERS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CGX_DRIVERS_INL_H_
#undef CGX_DRIVERS_INL_H_
#else
#define CGX_DRIVERS_INL_H_
#endif

#include "base/half.h"
#include "codec/codec_list.h"
#include "codec/drivers.h"
#include "codec/pack-inl.h"
#include "codec/random-inl.h"
#include "codec/wire.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace cgx {
namespace HWY_NAMESPACE {

HWY_NOINLINE HWY_ATTR void load_elements(const Elements& from, size_t count, float* HWY_RESTRICT out) {
  if (from.dtype == DType::kF32) {
    const float* HWY_RESTRICT x = static_cast<const float*>(from.x);
    for (size_t i = 0; i < count; ++i) out[i] = x[i];
  } else {
    const uint16_t* HWY_RESTRICT x = static_cast<const uint16_t*>(from.x);
    if (from.dtype == DType::kF16) {
      for (size_t i = 0; i < count; ++i) out[i] = f16_to_f32(x[i]);
    } else {
      for (size_t i = 0; i < count; ++i) out[i] = bf16_to_f32(x[i]);
    }
  }
  if (from.before != nullptr) {
    const float* before = from.before;
    for (size_t i = 0; i < count; ++i) out[i] = fadd(out[i], before[i]);
  }
}

HWY_NOINLINE HWY_ATTR void store_elements(DType to, const float* HWY_RESTRICT x, size_t count,
                                          uint8_t* HWY_RESTRICT out) {
  if (to == DType::kF32) {
    for (size_t i = 0; i < count; ++i) wire_store(out + 4 * i, x[i]);
    return;
  }
  const CastCoder coder = {to == DType::kF16 ? HalfType::kFp16 : HalfType::kBf16};
  for (size_t i = 0; i < count; ++i) wire_store(out + 2 * i, cast_encode(x[i], coder));
}

// Elements as fp32: in place where they are that, else through the caller's buffer.
class Reader {
 public:
  explicit Reader(const Elements& from) : from_(from) {}
  bool in_place() const { return from_.dtype == DType::kF32 && from_.before == nullptr; }
  HWY_ATTR const float* read(size_t at, size_t count, float* HWY_RESTRICT buffer) const {
    if (in_place()) return static_cast<const float*>(from_.x) + at;
    load_elements(from_.from(at), count, buffer);
    return buffer;
  }
  // Asks for the elements that come up soon: a fold hides them from the hardware's own prefetching.
  HWY_ATTR void prefetch(size_t at, size_t count) const {
    if (!in_place() || at + kGroup > count) return;
    const float* x = static_cast<const float*>(from_.x) + at;
    for (size_t i = 0; i < kGroup; i += 16) __builtin_prefetch(x + i);
  }

 private:
  Elements from_;
};

// What was lost; a residual that would not be finite starts again from nothing.
HWY_NOINLINE HWY_ATTR void store_residual(const float* x, const float* HWY_RESTRICT decoded, size_t count,
                                          float* after) {
  for (size_t i = 0; i < count; ++i) {
    const float lost = fsub(x[i], decoded[i]);
    after[i] = bits_float(is_finite_bits(float_bits(lost)) ? float_bits(lost) : 0u);
  }
}

HWY_NOINLINE HWY_ATTR void emit(const float* HWY_RESTRICT values, size_t count, Into into,
                                float* HWY_RESTRICT out) {
  if (into == Into::kAdd) {
    for (size_t i = 0; i < count; ++i) out[i] = fadd(out[i], values[i]);
  } else {
    for (size_t i = 0; i < count; ++i) out[i] = values[i];
  }
}

HWY_NOINLINE HWY_ATTR uint32_t largest_magnitude(const float* x, size_t count) {
  uint32_t largest = 0;
  for (size_t i = 0; i < count; ++i) {
    const uint32_t u = float_bits(x[i]) & 0x7fffffffu;
    largest = u > largest ? u : largest;
  }
  return largest;
}

// Counts magnitudes (as bits) from `from` on as saturated, and what is not finite.
HWY_NOINLINE HWY_ATTR void count_specials(const float* x, size_t count, uint32_t from, CodecCounts* counts) {
  if (counts == nullptr || largest_magnitude(x, count) < from) return;
  for (size_t i = 0; i < count; ++i) {
    const uint32_t u = float_bits(x[i]) & 0x7fffffffu;
    if (u >= 0x7f800000u) {
      ++counts->non_finite;
    } else if (u >= from) {
      ++counts->saturated;
    }
  }
}

// Bucketed codecs: C is the definition, Fold how a bucket becomes its metadata.

template <typename C, typename Fold>
class Bucketed {
 public:
  static HWY_ATTR void encode(const ValueSpec& spec, const Elements& from, size_t count,
                              const BlockContext& context, float* after, uint8_t* out) {
    const UnitLayout layout = C::layout(spec, count);
    const size_t unit = layout.elements();
    const Bucketed b(spec, layout, Reader(from), count, context);
    for (size_t at = 0; at < count; at += unit) {
      const size_t m = count - at < unit ? count - at : unit;
      if (layout.bucket < kGroup) {
        b.encode_small(at, static_cast<uint32_t>(m), after, out);
      } else {
        b.encode_large(at, m, after, out);
      }
      out += layout.bytes(m);
    }
  }

  static HWY_ATTR void decode(const ValueSpec& spec, const uint8_t* in, size_t count, size_t begin,
                              size_t end, Into into, float* out) {
    const UnitLayout layout = C::layout(spec, count);
    const Params params = C::params(spec);
    const size_t unit = layout.elements();
    for (size_t at = begin / unit * unit; at < end; at += unit) {
      const size_t m = count - at < unit ? count - at : unit;
      const uint8_t* block = in + at / unit * layout.bytes(unit);
      const size_t first = begin > at ? begin - at : 0;
      const size_t last = end - at < m ? end - at : m;
      for (size_t i = first; i < last; i += kGroup) {
        decode_group(layout, params, block, m, i, last, into, out + (at + i - begin));
      }
    }
  }

 private:
  using Params = typename C::Params;
  using Meta = typename C::Meta;

  Bucketed(const ValueSpec& spec, const UnitLayout& layout, const Reader& reader, size_t count,
           const BlockContext& context)
      : layout_(layout),
        params_(C::params(spec)),
        random_(C::is_random(spec)),
        reader_(reader),
        count_(count),
        context_(context) {}

  // Buckets of a group or more: one bucket is the unit.
  HWY_ATTR void encode_large(size_t at, size_t m, float* after, uint8_t* out) const {
    float buffer[kGroup];
    const Meta meta = fold(at, m, buffer);
    wire_store(out + layout_.meta(0), meta);
    const bool finite = C::is_finite(meta);
    const auto coder = C::coder(finite ? meta : Meta{}, params_);
    for (size_t i = 0; i < m; i += kGroup) {
      const uint32_t n = static_cast<uint32_t>(m - i < kGroup ? m - i : kGroup);
      const float* x = reader_.read(at + i, n, buffer);
      reader_.prefetch(at + i + 2 * layout_.elements(), count_);
      alignas(64) uint32_t draws[kGroup];
      alignas(64) uint8_t codes[kGroup];
      draw(at + i, draws);
      if (finite) {
        encode_bucket(x, n, coder, draws, codes);
      } else {
        clear(x, n, codes);
      }
      pack_group(codes, n, layout_.bits, out + layout_.group(m, i / kGroup));
      if (after != nullptr) residual(x, n, meta, codes, after + at + i);
    }
  }

  // Several buckets in a group: the unit is one group.
  HWY_ATTR void encode_small(size_t at, uint32_t m, float* after, uint8_t* out) const {
    float buffer[kGroup];
    const float* x = reader_.read(at, m, buffer);
    alignas(64) uint32_t draws[kGroup];
    alignas(64) uint8_t codes[kGroup];
    draw(at, draws);
    const uint32_t bucket = static_cast<uint32_t>(layout_.bucket);
    for (uint32_t i = 0, j = 0; i < m; i += bucket, ++j) {
      const uint32_t n = m - i < bucket ? m - i : bucket;
      const Meta meta = C::meta(Fold::finish(fold_small(x + i, n)), params_);
      wire_store(out + layout_.meta(j), meta);
      if (C::is_finite(meta)) {
        encode_bucket(x + i, n, C::coder(meta, params_), draws + i, codes + i);
      } else {
        clear(x + i, n, codes + i);
      }
      if (after != nullptr) residual(x + i, n, meta, codes + i, after + at + i);
    }
    pack_group(codes, m, layout_.bits, out + layout_.group(m, 0));
  }

  HWY_ATTR void draw(size_t at, uint32_t* HWY_RESTRICT draws) const {
    if (random_) {
      group_draws(context_.key, static_cast<uint32_t>((context_.first + at) / kGroup), draws);
    } else {
      for (uint32_t i = 0; i < kGroup; ++i) draws[i] = 0x80000000u;  // a half: round to nearest
    }
  }

  // The codes of a bucket that is not finite are zeros.
  HWY_ATTR void clear(const float* x, uint32_t n, uint8_t* HWY_RESTRICT codes) const {
    for (uint32_t i = 0; i < n; ++i) codes[i] = 0;
    count_specials(x, n, 0x7f800000u, context_.counts);
  }

  static HWY_ATTR void encode_bucket(const float* HWY_RESTRICT x, uint32_t n, const typename C::Coder coder,
                                     const uint32_t* HWY_RESTRICT draws, uint8_t* HWY_RESTRICT codes) {
    for (uint32_t i = 0; i < n; ++i) codes[i] = static_cast<uint8_t>(C::encode(x[i], coder, draws[i]));
  }

  HWY_ATTR Meta fold(size_t at, size_t m, float* HWY_RESTRICT buffer) const {
    if constexpr (Fold::kAnyOrder) {
      auto state = Fold::identity();
      const size_t tile = reader_.in_place() ? m : kGroup;
      for (size_t i = 0; i < m; i += tile) {
        const size_t n = m - i < tile ? m - i : tile;
        state = Fold::merge(state, fold_any_order(reader_.read(at + i, n, buffer), n));
      }
      return C::meta(Fold::finish(state), params_);
    } else {
      typename Fold::State partial[Fold::kPartials];
      for (auto& p : partial) p = Fold::identity();
      for (size_t i = 0; i < m; i += kGroup) {
        const size_t n = m - i < kGroup ? m - i : kGroup;
        fold_strided(reader_.read(at + i, n, buffer), n, partial);
      }
      return C::meta(Fold::finish(butterfly(partial)), params_);
    }
  }

  static HWY_ATTR typename Fold::State fold_small(const float* HWY_RESTRICT x, uint32_t n) {
    if constexpr (Fold::kAnyOrder) {
      return fold_any_order(x, n);
    } else {
      typename Fold::State partial[Fold::kPartials];
      for (auto& p : partial) p = Fold::identity();
      fold_strided(x, n, partial);
      return butterfly(partial);
    }
  }

  static HWY_ATTR typename Fold::State fold_any_order(const float* HWY_RESTRICT x, size_t n) {
    auto state = Fold::identity();
    for (size_t i = 0; i < n; ++i) state = Fold::merge(state, Fold::lift(x[i]));
    return state;
  }

  // Element i of the bucket belongs to partial i % 64; x starts at a multiple of 64.
  template <typename State>
  static HWY_ATTR void fold_strided(const float* HWY_RESTRICT x, size_t n, State* HWY_RESTRICT partial) {
    constexpr size_t kPartials = Fold::kPartials;
    size_t i = 0;
    for (; i + kPartials <= n; i += kPartials) {
      for (size_t j = 0; j < kPartials; ++j) partial[j] = Fold::merge(partial[j], Fold::lift(x[i + j]));
    }
    for (size_t j = 0; i + j < n; ++j) partial[j] = Fold::merge(partial[j], Fold::lift(x[i + j]));
  }

  template <typename State>
  static HWY_ATTR State butterfly(State* HWY_RESTRICT partial) {
    for (size_t half = Fold::kPartials / 2; half != 0; half /= 2) {
      for (size_t j = 0; j < half; ++j) partial[j] = Fold::merge(partial[j], partial[j + half]);
    }
    return partial[0];
  }

  HWY_ATTR void residual(const float* x, uint32_t n, const Meta& meta, const uint8_t* codes,
                         float* after) const {
    alignas(64) float values[kGroup];
    decode_bucket(meta, params_, codes, n, Into::kAssign, values);
    store_residual(x, values, n, after);
  }

  static HWY_ATTR void decode_group(const UnitLayout& layout, const Params& params, const uint8_t* block,
                                    size_t m, size_t at, size_t last, Into into, float* HWY_RESTRICT out) {
    alignas(64) uint8_t unpacked[kGroup];
    const uint32_t n = static_cast<uint32_t>(m - at < kGroup ? m - at : kGroup);
    const uint8_t* codes = block + layout.group(m, at / kGroup);
    if (layout.bits != 8) {
      unpack_group(codes, n, layout.bits, unpacked);
      codes = unpacked;
    }
    const uint32_t wanted = static_cast<uint32_t>(last - at < n ? last - at : n);
    const uint32_t bucket = layout.bucket < kGroup ? static_cast<uint32_t>(layout.bucket) : kGroup;
    for (uint32_t i = 0; i < wanted; i += bucket) {
      const Meta meta = wire_load<Meta>(block + layout.meta((at + i) / layout.bucket));
      const uint32_t size = wanted - i < bucket ? wanted - i : bucket;
      decode_bucket(meta, params, codes + i, size, into, out + i);
    }
  }

  static HWY_ATTR void decode_bucket(const Meta& meta, const Params& params,
                                     const uint8_t* HWY_RESTRICT codes, uint32_t n, Into into,
                                     float* HWY_RESTRICT out) {
    const auto decoder = C::decoder(meta, params);
    if (!C::is_finite(meta)) {
      const float nan = bits_float(0x7fc00000u);
      for (uint32_t i = 0; i < n; ++i) out[i] = nan;
    } else if (!C::is_plain(meta)) {
      alignas(64) float values[kGroup];
      for (uint32_t i = 0; i < n; ++i) values[i] = C::decode(codes[i], decoder);
      emit(values, n, into, out);
    } else if (into == Into::kAdd) {
      for (uint32_t i = 0; i < n; ++i) out[i] = fadd(out[i], C::decode_plain(codes[i], decoder));
    } else {
      for (uint32_t i = 0; i < n; ++i) out[i] = C::decode_plain(codes[i], decoder);
    }
  }

  const UnitLayout layout_;
  const Params params_;
  const bool random_;
  const Reader reader_;
  const size_t count_;
  const BlockContext& context_;
};

// Codecs scaled by a norm have three folds.
template <typename C>
struct Normed {
  static HWY_ATTR void encode(const ValueSpec& spec, const Elements& from, size_t count,
                              const BlockContext& context, float* after, uint8_t* out) {
    switch (spec.norm) {
      case Norm::kInf:
        return Bucketed<C, NormFold<Norm::kInf>>::encode(spec, from, count, context, after, out);
      case Norm::kL1:
        return Bucketed<C, NormFold<Norm::kL1>>::encode(spec, from, count, context, after, out);
      case Norm::kL2:
        return Bucketed<C, NormFold<Norm::kL2>>::encode(spec, from, count, context, after, out);
    }
  }
};

// Codecs without metadata: a code an element.

template <typename C>
class Elementwise {
 public:
  static HWY_ATTR void encode(const ValueSpec& spec, const Elements& from, size_t count,
                              const BlockContext& context, float* after, uint8_t* out) {
    const Coder coder = C::coder(spec);
    const Reader reader(from);
    for (size_t at = 0; at < count; at += kGroup) {
      const uint32_t n = static_cast<uint32_t>(count - at < kGroup ? count - at : kGroup);
      float buffer[kGroup];
      alignas(64) uint32_t draws[kGroup] = {};
      alignas(64) Code codes[kGroup];
      const float* x = reader.read(at, n, buffer);
      if constexpr (C::kRandom) {
        group_draws(context.key, static_cast<uint32_t>((context.first + at) / kGroup), draws);
      }
      encode_group(x, n, coder, draws, codes);
      count_specials(x, n, C::count_from(coder), context.counts);
      store_codes(codes, n, out + at / kGroup * C::unit_bytes(spec, kGroup));
      if (after != nullptr) {
        alignas(64) float values[kGroup];
        decode_group(codes, n, coder, Into::kAssign, values);
        store_residual(x, values, n, after + at);
      }
    }
  }

  static HWY_ATTR void decode(const ValueSpec& spec, const uint8_t* in, size_t count, size_t begin,
                              size_t end, Into into, float* out) {
    const Coder coder = C::coder(spec);
    for (size_t at = begin; at < end; at += kGroup) {
      const uint32_t n = static_cast<uint32_t>(count - at < kGroup ? count - at : kGroup);
      const uint32_t wanted = static_cast<uint32_t>(end - at < n ? end - at : n);
      alignas(64) Code codes[kGroup];
      load_codes(in + at / kGroup * C::unit_bytes(spec, kGroup), n, codes);
      decode_group(codes, wanted, coder, into, out + (at - begin));
    }
  }

 private:
  using Code = typename C::Code;
  using Coder = typename C::Coder;

  static HWY_ATTR void encode_group(const float* HWY_RESTRICT x, uint32_t n, const Coder coder,
                                    const uint32_t* HWY_RESTRICT draws, Code* HWY_RESTRICT codes) {
    for (uint32_t i = 0; i < n; ++i) codes[i] = C::encode(x[i], coder, draws[i]);
    for (uint32_t i = n; i < kGroup; ++i) codes[i] = 0;
  }

  static HWY_ATTR void decode_group(const Code* HWY_RESTRICT codes, uint32_t n, const Coder coder, Into into,
                                    float* HWY_RESTRICT out) {
    if (into == Into::kAdd) {
      for (uint32_t i = 0; i < n; ++i) out[i] = fadd(out[i], C::decode(codes[i], coder));
    } else {
      for (uint32_t i = 0; i < n; ++i) out[i] = C::decode(codes[i], coder);
    }
  }

  static HWY_ATTR void store_codes(const Code* HWY_RESTRICT codes, uint32_t n, uint8_t* HWY_RESTRICT out) {
    if constexpr (C::kCodeBits == 9) {
      pack_nine_bits(codes, n, out);
    } else {
      memcpy(out, codes, n * sizeof(Code));
    }
  }

  static HWY_ATTR void load_codes(const uint8_t* HWY_RESTRICT in, uint32_t n, Code* HWY_RESTRICT codes) {
    if constexpr (C::kCodeBits == 9) {
      unpack_nine_bits(in, n, codes);
    } else {
      memcpy(codes, in, n * sizeof(Code));
    }
  }
};

template <typename C>
constexpr DenseDriver driver_of() {
  if constexpr (requires { typename C::Fold; }) {
    return {&Bucketed<C, typename C::Fold>::encode, &Bucketed<C, typename C::Fold>::decode};
  } else if constexpr (requires { typename C::Meta; }) {
    return {&Normed<C>::encode, &Bucketed<C, NormFold<Norm::kInf>>::decode};
  } else if constexpr (requires { typename C::Code; }) {
    return {&Elementwise<C>::encode, &Elementwise<C>::decode};
  } else {
    return {nullptr, nullptr};
  }
}

template <typename... C>
constexpr Drivers drivers_of(CodecList<C...>) {
  Drivers all = {};
  ((all.dense[static_cast<size_t>(C::kKind)] = driver_of<C>()), ...);
  all.load = &load_elements;
  all.store = &store_elements;
  return all;
}

inline const Drivers* driver_table() {
  static constexpr Drivers kTable = drivers_of(DenseCodecs{});
  return &kTable;
}

}  // namespace HWY_NAMESPACE
}  // namespace cgx
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
