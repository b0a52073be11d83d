// Folds of buckets: in any order and so in vectors, or by the 64 strided partial results of the definition.
// Included once per instruction set.
#if defined(CGX_FOLD_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CGX_FOLD_INL_H_
#undef CGX_FOLD_INL_H_
#else
#define CGX_FOLD_INL_H_
#endif

#include "codec/simd/elements-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cgx {
namespace HWY_NAMESPACE {

// Every lane of a state becomes the merge of all. A state has fields of words only.
template <typename Fold, uint32_t kDistance = kLanes / 2, typename Lanes>
CGX_HD Lanes merge_lanes(const Lanes& state) {
  if constexpr (kDistance == 0) {
    return state;
  } else {
    struct Fields {
      U32 of[sizeof(Lanes) / sizeof(U32)];
    };
    auto fields = __builtin_bit_cast(Fields, state);
    for (U32& field : fields.of) field = swapped_lanes<kDistance>(field);
    return merge_lanes<Fold, kDistance / 2>(Fold::merge(state, __builtin_bit_cast(Lanes, fields)));
  }
}

template <typename State, typename Lanes>
CGX_HD State first_lane(const Lanes& state) {
  constexpr uint32_t kFields = sizeof(State) / sizeof(uint32_t);
  static_assert(sizeof(Lanes) == kFields * sizeof(U32));
  struct Fields {
    U32 of[kFields];
  };
  struct Words {
    uint32_t of[kFields];
  };
  const auto fields = __builtin_bit_cast(Fields, state);
  Words words;
  for (uint32_t f = 0; f < kFields; ++f) memcpy(&words.of[f], &fields.of[f], sizeof(uint32_t));
  return __builtin_bit_cast(State, words);
}

// REQUIRES: n is a multiple of 2 kLanes, and not 0.
template <typename Fold, typename S>
CGX_HD auto fold_lanes(const S& source, size_t at, size_t n) {
  auto a = Fold::lift(source.load(at));
  auto b = Fold::lift(source.load(at + kLanes));
  HWY_UNROLL(4)
  for (size_t i = 2 * kLanes; i < n; i += 2 * kLanes) {
    a = Fold::merge(a, Fold::lift(source.load(at + i)));
    b = Fold::merge(b, Fold::lift(source.load(at + i + kLanes)));
  }
  using State = decltype(Fold::lift(0.0f));
  return first_lane<State>(merge_lanes<Fold>(Fold::merge(a, b)));
}

// Halves keep their order when they are widened: their extremes are found on 16 bits, two a lane, and only
// those two are widened. A NaN sorts beyond all else, and so is one of them.
struct HalfExtremes {
  uint16_t low, high;
};

#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128

CGX_HD HalfExtremes half_extremes(const uint16_t* x, size_t n) { return {x[0], x[n - 1]}; }  // not used
CGX_HD uint16_t largest_magnitude(const uint16_t* x, size_t n) { return x[n - 1]; }          // not used

#else

// The smallest of the halves in a vector.
template <class D>
CGX_HD uint16_t smallest_half(D d, hn::Vec<D> halves) {
  if constexpr (hn::MaxLanes(d) > 8) {
    const hn::Half<D> half;
    return smallest_half(half, hn::Min(hn::UpperHalf(half, halves), hn::LowerHalf(half, halves)));
  } else {
    return hn::GetLane(hn::MinOfLanes(d, halves));
  }
}
CGX_HD uint16_t largest_half(hn::Vec<HalfTag> halves) {
  return static_cast<uint16_t>(~smallest_half(HalfTag(), hn::Not(halves)));
}

HWY_NOINLINE HalfExtremes half_extremes_by_keys(const uint16_t* x, size_t n) {
  const HalfTag d16;
  const hn::Repartition<int16_t, WordTag> di16;
  auto low = hn::Set(d16, 0xffff);
  auto high = hn::Zero(d16);
  for (size_t i = 0; i < n; i += 2 * kLanes) {
    const auto half = hn::LoadU(d16, x + i);
    const auto sign = hn::BitCast(d16, hn::ShiftRight<15>(hn::BitCast(di16, half)));
    const auto key = hn::Xor(half, hn::Or(sign, hn::Set(d16, 0x8000)));
    low = hn::Min(low, key);
    high = hn::Max(high, key);
  }
  const auto half = [](uint32_t key) {
    return static_cast<uint16_t>(key ^ ((key & 0x8000u) != 0 ? 0x8000u : 0xffffu));
  };
  return {half(smallest_half(d16, low)), half(largest_half(high))};
}

// Of halves of both signs: MaxMinFold::OfBothSigns says why. REQUIRES: n is a multiple of 2 kLanes, and not
// 0.
CGX_HD HalfExtremes half_extremes(const uint16_t* x, size_t n) {
  const HalfTag d16;
  const hn::Repartition<int16_t, WordTag> di16;
  auto low = hn::LoadU(d16, x);
  auto high = hn::BitCast(di16, low);
  HWY_UNROLL(4)
  for (size_t i = 2 * kLanes; i < n; i += 2 * kLanes) {
    const auto half = hn::LoadU(d16, x + i);
    low = hn::Max(low, half);
    high = hn::Max(high, hn::BitCast(di16, half));
  }
  const uint16_t smallest = largest_half(low);
  // From signed to unsigned order and back.
  const auto unsigned_order = hn::Xor(hn::BitCast(d16, high), hn::Set(d16, 0x8000));
  const auto largest = static_cast<uint16_t>(largest_half(unsigned_order) ^ 0x8000u);
  if (HWY_LIKELY((smallest & 0x8000u) != 0 && (largest & 0x8000u) == 0)) return {smallest, largest};
  return half_extremes_by_keys(x, n);
}

// The largest of halves without their signs. REQUIRES: as above.
CGX_HD uint16_t largest_magnitude(const uint16_t* x, size_t n) {
  const HalfTag d16;
  const auto magnitudes = hn::Set(d16, 0x7fff);
  auto largest = hn::Zero(d16);
  HWY_UNROLL(4)
  for (size_t i = 0; i < n; i += 2 * kLanes) {
    largest = hn::Max(largest, hn::And(hn::LoadU(d16, x + i), magnitudes));
  }
  return largest_half(largest);
}

#endif

// fold_lanes() by the quicker fold for elements of both signs, where there is one and they are.
template <typename Fold, typename S>
CGX_HD auto fold_lanes_quickly(const S& source, size_t at, size_t n) {
  if constexpr (requires { typename Fold::OfBothSigns; }) {
    using Quick = typename Fold::OfBothSigns;
    const auto state = fold_lanes<Quick>(source, at, n);
    if (HWY_LIKELY(Quick::holds(state))) return Quick::finish(state);
  }
  return fold_lanes<Fold>(source, at, n);
}

template <typename Fold, typename S>
auto fold_any_order(const S& source, const Elements& from, size_t at, size_t n) {
  auto state = Fold::identity();
  size_t done = 0;
  if constexpr (kVectors && requires(F32 x) { Fold::lift(x); }) {
    done = n - n % (2 * kLanes);
    if (done != 0) {
      if constexpr (S::kPlainHalves && requires { Fold::kOfMagnitudes; }) {
        state = Fold::lift(S::widened(largest_magnitude(source.stored(at), done)));
      } else if constexpr (S::kPlainHalves) {
        const HalfExtremes extremes = half_extremes(source.stored(at), done);
        state = Fold::merge(Fold::lift(S::widened(extremes.low)), Fold::lift(S::widened(extremes.high)));
      } else {
        state = fold_lanes_quickly<Fold>(source, at, done);
      }
    }
  }
  float x[kGroup];
  for (; done < n; done += kGroup) {
    const size_t m = n - done < kGroup ? n - done : kGroup;
    load_elements(from.from(at + done), m, x);
    for (size_t i = 0; i < m; ++i) state = Fold::merge(state, Fold::lift(x[i]));
  }
  return state;
}

// Element i of the bucket belongs to partial i % 64; x starts at a multiple of 64.
template <typename Fold>
void fold_strided(const float* HWY_RESTRICT x, size_t n, typename Fold::State* HWY_RESTRICT partial) {
  constexpr size_t kPartials = Fold::kPartials;
  size_t i = 0;
  for (; i + kPartials <= n; i += kPartials) {
    for (size_t j = 0; j < kPartials; ++j) partial[j] = Fold::merge(partial[j], Fold::lift(x[i + j]));
  }
  for (size_t j = 0; i + j < n; ++j) partial[j] = Fold::merge(partial[j], Fold::lift(x[i + j]));
}

template <typename Fold>
auto fold_in_order(const Elements& from, size_t at, size_t n) {
  typename Fold::State partial[Fold::kPartials];
  for (auto& p : partial) p = Fold::identity();
  float buffer[kGroup];
  const bool in_place = from.dtype == DType::kF32 && from.before == nullptr;
  const size_t step = in_place ? n : kGroup;
  for (size_t i = 0; i < n; i += step) {
    const size_t m = n - i < step ? n - i : step;
    const float* x = buffer;
    if (in_place) {
      x = static_cast<const float*>(from.x) + at + i;
    } else {
      load_elements(from.from(at + i), m, buffer);
    }
    fold_strided<Fold>(x, m, partial);
  }
  for (size_t half = Fold::kPartials / 2; half != 0; half /= 2) {
    for (size_t j = 0; j < half; ++j) partial[j] = Fold::merge(partial[j], partial[j + half]);
  }
  return partial[0];
}

template <typename Fold, typename S>
HWY_NOINLINE auto fold_bucket(const S& source, const Elements& from, size_t at, size_t n) {
  if constexpr (Fold::kAnyOrder) {
    return Fold::finish(fold_any_order<Fold>(source, from, at, n));
  } else {
    return Fold::finish(fold_in_order<Fold>(from, at, n));
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace cgx
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
