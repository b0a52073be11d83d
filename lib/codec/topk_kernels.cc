// Compares 64 elements at once with the bound; the bits of those that reach it are taken one by one, as many
// as are usual without a branch: how many there are is what a CPU cannot predict. (Compressing whole
// vectors is no faster, and slow where there is no instruction for it.)
#include "codec/topk_kernels.h"

#include <algorithm>
#include <bit>

#ifdef CGX_FUZZ  // as in drivers.cc
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX2 | HWY_AVX3_DL)
#else
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_AVX3_DL)
#endif
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "codec/topk_kernels.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "base/half.h"
#include "base/hd.h"
#include "codec/codecs/topk.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace cgx {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using Floats = hn::ScalableTag<float>;
using Keys = hn::RebindToSigned<Floats>;  // keys are below 2^31: signed comparisons are cheaper

constexpr size_t kAhead = 640;  // elements prefetched ahead

constexpr size_t kBlock = 64;  // elements, a bit each
constexpr uint64_t kLastBit = uint64_t{1} << (kBlock - 1);

// Which bits of a byte are set, in order.
struct SetBits {
  uint8_t at[256][8] = {};
  constexpr SetBits() {
    for (size_t byte = 0; byte < 256; ++byte) {
      for (uint8_t bit = 0, n = 0; bit < 8; ++bit) {
        if ((byte >> bit & 1) != 0) at[byte][n++] = bit;
      }
    }
  }
};
constexpr SetBits kSetBits;

// Elements of fp32, with all that may be beside them.
template <bool kAdd, bool kStore>
class Floats32 {
 public:
  Floats32(const Stretch& from, uint32_t bound)
      : x_(from.floats()), before_(from.before), sum_(from.sum), bound_(bound) {}

  HWY_ATTR HWY_INLINE void prefetch(size_t i) const {
    for (size_t line = 0; line < kBlock; line += 16) {
      __builtin_prefetch(x_ + i + kAhead + line);
      if constexpr (kAdd) __builtin_prefetch(before_ + i + kAhead + line, kStore);
    }
  }
  // Bit j: element i + j reaches the bound.
  HWY_ATTR HWY_INLINE uint64_t reaching_from(size_t i) const {
    const Floats d;
    const auto below = hn::Set(Keys(), static_cast<int32_t>(bound_ - 1));
    const size_t lanes = hn::Lanes(d);
    uint64_t bits = 0;
    for (size_t j = 0; j < kBlock; j += lanes) {
      auto v = hn::LoadU(d, x_ + i + j);
      if constexpr (kAdd) v = hn::Add(v, hn::LoadU(d, before_ + i + j));
      if constexpr (kStore) hn::StoreU(v, d, sum_ + i + j);
      uint64_t some = 0;
      hn::StoreMaskBits(Keys(), hn::Gt(hn::BitCast(Keys(), hn::Abs(v)), below),
                        reinterpret_cast<uint8_t*>(&some));
      bits |= some << j;
    }
    return bits;
  }
  // Of one that was not among reaching_from()'s.
  HWY_ATTR HWY_INLINE bool reaches(size_t i) const {
    const float x = kAdd ? fadd(x_[i], before_[i]) : x_[i];
    if constexpr (kStore) sum_[i] = x;
    return magnitude_key(float_bits(x)) >= bound_;
  }
  // Of those that were looked at.
  HWY_ATTR HWY_INLINE void gather(const uint32_t* indices, size_t count, float* values) const {
    const Floats d;
    const size_t lanes = hn::Lanes(d);
    size_t j = 0;
    for (; j + lanes <= count; j += lanes) {
      const auto at = hn::BitCast(Keys(), hn::LoadU(hn::RebindToUnsigned<Floats>(), indices + j));
      auto v = hn::GatherIndex(d, kStore ? sum_ : x_, at);
      if constexpr (kAdd && !kStore) v = hn::Add(v, hn::GatherIndex(d, before_, at));
      hn::StoreU(v, d, values + j);
    }
    for (; j < count; ++j) values[j] = at(indices[j]);
  }

 private:
  HWY_ATTR HWY_INLINE float at(size_t i) const {
    if constexpr (kStore) return sum_[i];
    return kAdd ? fadd(x_[i], before_[i]) : x_[i];
  }

  const float* x_;
  const float* before_;
  float* sum_;
  uint32_t bound_;
};

template <DType kType>
HWY_INLINE float widened(uint32_t half) {
  return kType == DType::kF16 ? f16_to_f32(half) : bf16_to_f32(half);
}

// Of halves' bits, each in the room of a float.
template <DType kType>
HWY_ATTR void widen_all(float* HWY_RESTRICT x, size_t count) {
  size_t i = 0;
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3
  if constexpr (kType == DType::kF16) {  // the instruction's results are those of widened()
    const Floats d;
    const hn::Rebind<uint16_t, Floats> d16;
    const hn::Rebind<hwy::float16_t, Floats> df16;
    for (; i + hn::Lanes(d) <= count; i += hn::Lanes(d)) {
      const auto halves =
          hn::TruncateTo(d16, hn::BitCast(hn::RebindToUnsigned<Floats>(), hn::LoadU(d, x + i)));
      hn::StoreU(hn::PromoteTo(d, hn::BitCast(df16, halves)), d, x + i);
    }
  }
#endif
  for (; i < count; ++i) x[i] = widened<kType>(float_bits(x[i]));
}

// Halves as they are, compared on 16 bits: twice as many at once.
template <DType kType>
class Halves {
 public:
  Halves(const Stretch& from, uint32_t bound) : x_(from.halves()), bound_(half_bound(bound)) {}

  HWY_ATTR HWY_INLINE void prefetch(size_t i) const {
    for (size_t line = 0; line < kBlock; line += 32) __builtin_prefetch(x_ + i + 2 * kAhead + line);
  }
  HWY_ATTR HWY_INLINE uint64_t reaching_from(size_t i) const {
    const hn::ScalableTag<int16_t> d;
    const hn::RebindToUnsigned<decltype(d)> du;
    const auto below = hn::Set(d, static_cast<int16_t>(bound_ - 1));
    const size_t lanes = hn::Lanes(d);
    uint64_t bits = 0;
    for (size_t j = 0; j < kBlock; j += lanes) {
      const auto magnitude = hn::And(hn::LoadU(du, x_ + i + j), hn::Set(du, 0x7fff));
      uint64_t some = 0;
      hn::StoreMaskBits(d, hn::Gt(hn::BitCast(d, magnitude), below), reinterpret_cast<uint8_t*>(&some));
      bits |= some << j;
    }
    return bits;
  }
  HWY_ATTR HWY_INLINE void gather(const uint32_t* indices, size_t count, float* values) const {
    for (size_t j = 0; j < count; ++j) values[j] = bits_float(x_[indices[j]]);
    widen_all<kType>(values, count);
  }
  HWY_ATTR HWY_INLINE bool reaches(size_t i) const { return (x_[i] & 0x7fffu) >= bound_; }

 private:
  // The smallest magnitude whose widened key is not below `bound`: the nearest, or the one above it. Inf's is
  // one of them.
  static uint32_t half_bound(uint32_t bound) {
    if constexpr (kType == DType::kBF16) return (bound + 0xffffu) >> 16;
    const uint32_t nearest = f32_to_f16(bits_float(bound));
    return nearest + (float_bits(widened<kType>(nearest)) < bound ? 1 : 0);
  }

  const uint16_t* x_;
  uint32_t bound_;
};

// As many indices as are usual are appended of each block, whether there are so many or not.
template <typename Input>
HWY_ATTR size_t collect_of(const Input input, const Stretch& from, float* HWY_RESTRICT values,
                           uint32_t* HWY_RESTRICT indices) {
  constexpr size_t kAlways = 3;
  const size_t usual = std::clamp(from.usual, kAlways, kKernelSlack);
  const size_t size = from.count;
  size_t count = 0;
  size_t i = 0;
  for (; i + kBlock <= size; i += kBlock) {
    input.prefetch(i);
    uint64_t bits = input.reaching_from(i);
    const size_t reached = static_cast<size_t>(std::popcount(bits));
    uint32_t* next = indices + count;
    const auto append = [&]() HWY_ATTR {  // of no bit: any, as it is not kept, and without a branch
      *next++ = static_cast<uint32_t>(i) + static_cast<uint32_t>(std::countr_zero(bits | kLastBit));
      bits &= bits - 1;
    };
    for (size_t j = 0; j < kAlways; ++j) append();
    for (size_t j = kAlways; j < usual; ++j) append();
    for (size_t j = usual; j < reached; ++j) append();
    count += reached;
  }
  for (; i < size; ++i) {
    indices[count] = static_cast<uint32_t>(i);
    count += input.reaches(i);
  }
  input.gather(indices, count, values);
  for (size_t j = 0; j < count; ++j) indices[j] += from.first;
  return count;
}

template <bool kAdd, bool kStore>
HWY_ATTR size_t collect_floats(const Stretch& from, uint32_t bound, float* values, uint32_t* indices) {
  return collect_of(Floats32<kAdd, kStore>(from, bound), from, values, indices);
}

HWY_ATTR size_t collect(const Stretch& from, uint32_t bound, float* values, uint32_t* indices) {
  if (from.dtype == DType::kF16) return collect_of(Halves<DType::kF16>(from, bound), from, values, indices);
  if (from.dtype == DType::kBF16) return collect_of(Halves<DType::kBF16>(from, bound), from, values, indices);
  if (from.before == nullptr) {
    return from.sum == nullptr ? collect_floats<false, false>(from, bound, values, indices)
                               : collect_floats<false, true>(from, bound, values, indices);
  }
  return from.sum == nullptr ? collect_floats<true, false>(from, bound, values, indices)
                             : collect_floats<true, true>(from, bound, values, indices);
}

HWY_ATTR HWY_INLINE auto keys(hn::Vec<Floats> x) { return hn::BitCast(Keys(), hn::Abs(x)); }

HWY_ATTR size_t count_reaching(const float* x, size_t count, uint32_t bound) {
  const Floats d;
  const auto below = hn::Set(Keys(), static_cast<int32_t>(bound - 1));
  const size_t lanes = hn::Lanes(d);
  const auto one_if = [&](size_t i) HWY_ATTR {
    return hn::VecFromMask(Keys(), hn::Gt(keys(hn::LoadU(d, x + i)), below));
  };
  auto sum0 = hn::Zero(Keys());  // minus the counts
  auto sum1 = sum0;
  size_t i = 0;
  for (; i + 2 * lanes <= count; i += 2 * lanes) {
    sum0 = hn::Add(sum0, one_if(i));
    sum1 = hn::Add(sum1, one_if(i + lanes));
  }
  const auto total = hn::SumOfLanes(Keys(), hn::Add(sum0, sum1));
  size_t reached = static_cast<uint32_t>(-hn::GetLane(total));
  for (; i < count; ++i) reached += magnitude_key(float_bits(x[i])) >= bound;
  return reached;
}

HWY_ATTR uint32_t largest(const float* x, size_t count) {
  const Floats d;
  const size_t lanes = hn::Lanes(d);
  auto most0 = hn::Zero(Keys());
  auto most1 = most0;
  size_t i = 0;
  for (; i + 2 * lanes <= count; i += 2 * lanes) {
    most0 = hn::Max(most0, keys(hn::LoadU(d, x + i)));
    most1 = hn::Max(most1, keys(hn::LoadU(d, x + i + lanes)));
  }
  const auto most = hn::MaxOfLanes(Keys(), hn::Max(most0, most1));
  uint32_t key = static_cast<uint32_t>(hn::GetLane(most));
  for (; i < count; ++i) key = std::max(key, magnitude_key(float_bits(x[i])));
  return key;
}

// Writes the lanes for which `stays` first, and more up to a whole vector; returns how many these are.
// (Highway's own goes by a table that GCC copies onto the stack at each use, and instructions that store only
// what is there are slow on some CPUs.)
template <class D>
HWY_ATTR HWY_INLINE size_t store_those(D d, hn::Vec<D> v, hn::Mask<D> stays, hn::TFromD<D>* out) {
  uint8_t bits[8] = {};
  hn::StoreMaskBits(d, stays, bits);
  const size_t count = static_cast<size_t>(std::popcount(static_cast<uint32_t>(bits[0] | bits[1] << 8)));
  if constexpr (hn::MaxLanes(d) == 4 || hn::MaxLanes(d) == 8) {
    const hn::RebindToUnsigned<D> du;
    const hn::Rebind<uint8_t, D> d8;
    const auto order = hn::PromoteTo(du, hn::LoadU(d8, kSetBits.at[bits[0]]));
    hn::StoreU(hn::TableLookupLanes(v, hn::IndicesFromVec(d, order)), d, out);
  } else {
    hn::StoreU(hn::Compress(v, stays), d, out);
  }
  return count;
}

HWY_ATTR size_t keep(float* x, uint32_t* indices, size_t count, uint32_t bound) {
  const Floats d;
  const hn::RebindToUnsigned<Floats> du;
  const auto below = hn::Set(Keys(), static_cast<int32_t>(bound - 1));
  const size_t lanes = hn::Lanes(d);
  size_t kept = 0;
  size_t i = 0;
  for (; i + lanes <= count; i += lanes) {  // what is stored beyond the kept was loaded before
    const auto v = hn::LoadU(d, x + i);
    const auto index = hn::LoadU(du, indices + i);
    const auto stays = hn::Gt(keys(v), below);
    store_those(du, index, hn::RebindMask(du, stays), indices + kept);
    kept += store_those(d, v, hn::RebindMask(d, stays), x + kept);
  }
  for (; i < count; ++i) {
    const float value = x[i];
    x[kept] = value;
    indices[kept] = indices[i];
    kept += magnitude_key(float_bits(value)) >= bound;
  }
  return kept;
}

HWY_ATTR size_t between(const float* x, size_t count, uint32_t low, uint32_t high, float* out) {
  const Floats d;
  const auto below = hn::Set(Keys(), static_cast<int32_t>(low - 1));
  const auto last = hn::Set(Keys(), static_cast<int32_t>(high - 1));
  const size_t lanes = hn::Lanes(d);
  size_t found = 0;
  size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    const auto v = hn::LoadU(d, x + i);
    const auto is_there = hn::AndNot(hn::Gt(keys(v), last), hn::Gt(keys(v), below));
    found += store_those(d, v, hn::RebindMask(d, is_there), out + found);
  }
  for (; i < count; ++i) {
    const uint32_t key = magnitude_key(float_bits(x[i]));
    out[found] = x[i];
    found += key >= low && key < high;
  }
  return found;
}

inline const TopKKernels* topk_table() {
  static constexpr TopKKernels kTable = {&collect, &count_reaching, &largest, &keep, &between};
  return &kTable;
}

}  // namespace HWY_NAMESPACE
}  // namespace cgx
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace cgx {

HWY_EXPORT(topk_table);
const TopKKernels& topk_kernels() { return *HWY_DYNAMIC_DISPATCH(topk_table)(); }

}  // namespace cgx
#endif
