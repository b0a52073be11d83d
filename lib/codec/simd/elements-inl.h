// Where encoders read and write elements: vectors of any input type with the residual added, staged copies of
// them for what is not worth a vector, what is given back, and what is counted. Included once per
// instruction set.
#if defined(CGX_ELEMENTS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CGX_ELEMENTS_INL_H_
#undef CGX_ELEMENTS_INL_H_
#else
#define CGX_ELEMENTS_INL_H_
#endif

#include "base/half.h"
#include "codec/drivers.h"
#include "codec/simd/lanes-inl.h"
#include "codec/wire.h"

HWY_BEFORE_NAMESPACE();
namespace cgx {
namespace HWY_NAMESPACE {

// What happens to elements beside their encoding; the cases that are worth loops of their own.
enum class Feedback {
  kNone,
  kResidual,  // added before, and kept after
  kDecoded,   // their values are given back
  kStreamed,  // the same, past the caches
  kAny,
};

// How many elements before they are read memory is asked for them: less is late where memory is slow.
inline constexpr size_t kAhead = 768;
inline constexpr size_t kOutputAhead = 512;
inline constexpr uint32_t kFloatsOfALine = 16;

// Elements a vector at a time.
template <DType kType, Feedback kFeedbackKind>
class Source {
 public:
  static constexpr DType kElement = kType;
  static constexpr Feedback kFeedback = kFeedbackKind;
  explicit Source(const Elements& from) : x_(static_cast<const Stored*>(from.x)), before_(from.before) {}

  // The same from element `at` on.
  CGX_HD Source from(size_t at) const {
    Source later = *this;
    later.x_ += at;
    if (has_before()) later.before_ += at;
    return later;
  }

  CGX_HD F32 load(size_t i) const {
    F32 x;
    if constexpr (kType == DType::kF32) {
      x = load_lanes(x_ + i);
    } else if constexpr (kType == DType::kF16) {
      x = load_f16(x_ + i);
    } else {
      x = bf16_to_f32(load_halves(x_ + i));
    }
    if (has_before()) x = fadd(x, load_lanes(before_ + i));
    return x;
  }

  // Four vectors, in order or, where that is quicker, as load_split_bf16() gives them.
  static constexpr bool kSplits = kVectors && kType == DType::kBF16 && kFeedback == Feedback::kNone;
  CGX_HD void load_all(size_t i, F32 (&x)[4]) const {
    if constexpr (kSplits) {
      load_split_bf16(x_ + i, x);
    } else {
      HWY_UNROLL(4)
      for (uint32_t k = 0; k < 4; ++k) x[k] = load(i + k * kLanes);
    }
  }

  // True where elements are halves and nothing is added to them.
  static constexpr bool kPlainHalves = kType != DType::kF32 && kFeedback == Feedback::kNone;
  const auto* stored(size_t i) const { return x_ + i; }
  static float widened(uint16_t half) { return kType == DType::kF16 ? widened_f16(half) : bf16_to_f32(half); }

  // Asks for elements [i, i + kCount).
  template <uint32_t kCount>
  CGX_HD void prefetch(size_t i) const {
    constexpr uint32_t kLine = 64 / sizeof(Stored);
    HWY_UNROLL(4)
    for (uint32_t j = 0; j < kCount; j += kLine) __builtin_prefetch(x_ + i + j);
    if (!has_before()) return;
    HWY_UNROLL(4)
    for (uint32_t j = 0; j < kCount; j += kFloatsOfALine) __builtin_prefetch(before_ + i + j);
  }
  // This at elements that may be read some time after those from `at` on, of `count`: `distance` later, or
  // what the caller says. For prefetch() alone.
  CGX_HD Source ahead(size_t at, size_t distance, size_t count, const float* read_next) const {
    const bool is_there = at + distance + kGroup <= count;
    Source later = from(is_there ? at + distance : at);
    if constexpr (kType == DType::kF32) {
      if (read_next != nullptr) later.x_ = read_next + at;
    }
    return later;
  }

 private:
  CGX_HD bool has_before() const {
    return kFeedback == Feedback::kResidual || (kFeedback == Feedback::kAny && before_ != nullptr);
  }

  using Stored = std::conditional_t<kType == DType::kF32, float, uint16_t>;
  const Stored* x_;
  const float* before_;
};

HWY_NOINLINE void load_elements(const Elements& from, size_t count, float* HWY_RESTRICT out) {
  if (from.dtype == DType::kF32) {
    const float* HWY_RESTRICT x = static_cast<const float*>(from.x);
    for (size_t i = 0; i < count; ++i) out[i] = x[i];
  } else {
    const uint16_t* HWY_RESTRICT x = static_cast<const uint16_t*>(from.x);
    size_t i = 0;
    if (from.dtype == DType::kF16) {
      if constexpr (kVectors) {
        for (; i + kLanes <= count; i += kLanes) store_lanes(load_f16(x + i), out + i);
      }
      for (; i < count; ++i) out[i] = f16_to_f32(x[i]);
    } else {
      for (; i < count; ++i) out[i] = bf16_to_f32(x[i]);
    }
  }
  if (from.before != nullptr) {
    const float* before = from.before;
    for (size_t i = 0; i < count; ++i) out[i] = fadd(out[i], before[i]);
  }
}

HWY_NOINLINE void store_elements(DType to, const float* HWY_RESTRICT x, size_t count,
                                 uint8_t* HWY_RESTRICT out) {
  if (to == DType::kF32) {
    memcpy(out, x, count * sizeof(float));
    return;
  }
  const HalfType half = to == DType::kF16 ? HalfType::kFp16 : HalfType::kBf16;
  for (size_t i = 0; i < count; ++i) {
    wire_store(out + 2 * i, static_cast<uint16_t>(cast_encode(x[i], CastCoder{half})));
  }
}

// What was lost; a residual that would not be finite starts again from nothing.
template <typename F>
CGX_HD F residual_of(F x, F value) {
  const F lost = fsub(x, value);
  return select(is_finite_bits(float_bits(lost)), lost, F(0.0f));
}

HWY_NOINLINE void give_back(const float* x, const float* HWY_RESTRICT values, size_t count,
                            const GiveBack& back) {
  if (back.after != nullptr) {
    for (size_t i = 0; i < count; ++i) back.after[i] = residual_of(x[i], values[i]);
  }
  if (back.decoded != nullptr) memcpy(back.decoded, values, count * sizeof(float));
}
// kPlain: nothing here is or becomes infinite.
template <Feedback kFeedback, bool kPlain>
CGX_HD void give_back(F32 x, F32 value, size_t i, const GiveBack& back) {
  constexpr bool kAny = kFeedback == Feedback::kAny;
  if (kFeedback == Feedback::kResidual || (kAny && back.after != nullptr)) {
    store_lanes(kPlain ? fsub(x, value) : residual_of(x, value), back.after + i);
  }
  if (kFeedback == Feedback::kDecoded || (kAny && back.decoded != nullptr)) {
    store_lanes(value, back.decoded + i);
  }
  if (kFeedback == Feedback::kStreamed) stream_lanes(value, back.decoded + i);
}

// What a later group is added to or overwrites: the hardware alone asks for it too late.
template <Into kInto>
CGX_HD void ask_ahead(const Target& to) {
  if constexpr (kInto == Into::kStream) return;
  const float* x = (kInto == Into::kAdd ? to.addend : to.out) + kOutputAhead;
  HWY_UNROLL(16)
  for (uint32_t i = 0; i < kGroup; i += kFloatsOfALine) __builtin_prefetch(x + i);
}
template <Into kInto>
CGX_HD void emit(F32 value, const Target& to, size_t i) {
  if constexpr (kInto == Into::kStream) {
    stream_lanes(value, to.out + i);
  } else {
    store_lanes(kInto == Into::kAdd ? fadd(load_lanes(to.addend + i), value) : value, to.out + i);
  }
}
HWY_NOINLINE void emit(const float* HWY_RESTRICT values, size_t count, Into into, const Target& to) {
  if (into == Into::kAdd) {
    for (size_t i = 0; i < count; ++i) to.out[i] = fadd(to.addend[i], values[i]);
  } else {
    for (size_t i = 0; i < count; ++i) to.out[i] = values[i];
  }
}

// Counts magnitudes (as bits) from `from` on as saturated, and what is not finite.
HWY_NOINLINE void count_specials(const float* x, size_t count, uint32_t from, CodecCounts* counts) {
  if (counts == nullptr) return;
  for (size_t i = 0; i < count; ++i) {
    const uint32_t u = float_bits(x[i]) & 0x7fffffffu;
    if (u >= 0x7f800000u) {
      ++counts->non_finite;
    } else if (u >= from) {
      ++counts->saturated;
    }
  }
}

inline Feedback feedback_of(const Elements& from, const GiveBack& back) {
  const bool before = from.before != nullptr;
  const bool after = back.after != nullptr;
  const bool decoded = back.decoded != nullptr;
  if (!before && !after) {
    const bool streams = back.past_caches && is_vector_aligned(back.decoded);
    return decoded ? (streams ? Feedback::kStreamed : Feedback::kDecoded) : Feedback::kNone;
  }
  return before && after && !decoded ? Feedback::kResidual : Feedback::kAny;
}

// Calls Encoder<Source>::run(), for the source that fits the elements.
template <template <typename> class Encoder>
void encode_from(const ValueSpec& spec, const Elements& from, size_t count, const BlockContext& context,
                 const GiveBack& back, uint8_t* out) {
  const Feedback feedback = feedback_of(from, back);
  const bool none = feedback == Feedback::kNone;
  if (from.dtype == DType::kF16) {
    none ? Encoder<Source<DType::kF16, Feedback::kNone>>(spec, from, count, context, back).run(out)
         : Encoder<Source<DType::kF16, Feedback::kAny>>(spec, from, count, context, back).run(out);
  } else if (from.dtype == DType::kBF16) {
    none ? Encoder<Source<DType::kBF16, Feedback::kNone>>(spec, from, count, context, back).run(out)
         : Encoder<Source<DType::kBF16, Feedback::kAny>>(spec, from, count, context, back).run(out);
  } else if (none) {
    Encoder<Source<DType::kF32, Feedback::kNone>>(spec, from, count, context, back).run(out);
  } else if (feedback == Feedback::kResidual) {
    Encoder<Source<DType::kF32, Feedback::kResidual>>(spec, from, count, context, back).run(out);
  } else if (feedback == Feedback::kDecoded) {
    Encoder<Source<DType::kF32, Feedback::kDecoded>>(spec, from, count, context, back).run(out);
  } else if (feedback == Feedback::kStreamed) {
    Encoder<Source<DType::kF32, Feedback::kStreamed>>(spec, from, count, context, back).run(out);
  } else {
    Encoder<Source<DType::kF32, Feedback::kAny>>(spec, from, count, context, back).run(out);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace cgx
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
