// Compares 64 elements at once with the bound; the bits of those that reach it are taken one by one, the
// first few without a branch: how many there are is what a CPU cannot predict. (Compressing whole
// vectors is no faster, and slow where there is no instruction for it.)
#include "codec/topk_kernels.h"

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
#include "base/hd.h"
#include "codec/codecs/topk.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace cgx {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;
using Floats = hn::ScalableTag<float>;
using Keys = hn::RebindToSigned<Floats>;  // keys are below 2^31: signed comparisons are cheaper

constexpr size_t kAhead = 1024;  // elements prefetched ahead

constexpr size_t kBlock = 64;  // elements, a bit each

template <bool kAdd, bool kStore>
HWY_ATTR HWY_INLINE auto read(const Stretch& from, size_t i) {
  const Floats d;
  auto v = hn::LoadU(d, from.x + i);
  if constexpr (kAdd) v = hn::Add(v, hn::LoadU(d, from.before + i));
  if constexpr (kStore) hn::StoreU(v, d, from.sum + i);
  return v;
}

// Bit j: element i + j reaches the bound.
template <bool kAdd, bool kStore>
HWY_ATTR HWY_INLINE uint64_t reaching(const Stretch& from, size_t i, uint32_t bound) {
  const auto below = hn::Set(Keys(), static_cast<int32_t>(bound - 1));
  const size_t lanes = hn::Lanes(Floats());
  uint64_t bits = 0;
  for (size_t j = 0; j < kBlock; j += lanes) {
    const auto v = hn::Abs(read<kAdd, kStore>(from, i + j));
    uint64_t some = 0;
    hn::StoreMaskBits(Keys(), hn::Gt(hn::BitCast(Keys(), v), below), reinterpret_cast<uint8_t*>(&some));
    bits |= some << j;
  }
  return bits;
}

template <bool kAdd, bool kStore>
HWY_ATTR HWY_INLINE float element(const Stretch& from, size_t i) {
  if constexpr (kStore) return from.sum[i];
  if constexpr (kAdd) return fadd(from.x[i], from.before[i]);
  return from.x[i];
}

template <bool kAdd, bool kStore>
HWY_ATTR size_t collect_as(const Stretch& from, uint32_t bound, float* values, uint32_t* indices) {
  size_t count = 0;
  const auto append = [&](size_t i) HWY_ATTR {
    values[count] = element<kAdd, kStore>(from, i);
    indices[count] = static_cast<uint32_t>(from.first + i);
  };
  size_t i = 0;
  for (; i + kBlock <= from.count; i += kBlock) {
    for (size_t line = 0; line < kBlock; line += 16) {
      __builtin_prefetch(from.x + i + kAhead + line);
      if constexpr (kAdd) __builtin_prefetch(from.before + i + kAhead + line, kStore);
    }
    uint64_t bits = reaching<kAdd, kStore>(from, i, bound);
    for (int j = 0; j < 3; ++j) {
      append(i +
             (static_cast<size_t>(std::countr_zero(bits)) & (kBlock - 1)));  // of no bit: the first, not kept
      count += bits != 0;
      bits &= bits - 1;
    }
    for (; bits != 0; bits &= bits - 1) {
      append(i + static_cast<size_t>(std::countr_zero(bits)));
      ++count;
    }
  }
  for (; i < from.count; ++i) {
    if constexpr (kStore) from.sum[i] = kAdd ? fadd(from.x[i], from.before[i]) : from.x[i];
    append(i);
    count += magnitude_key(float_bits(values[count])) >= bound;
  }
  return count;
}

HWY_ATTR size_t collect(const Stretch& from, uint32_t bound, float* values, uint32_t* indices) {
  if (from.before == nullptr) {
    return from.sum == nullptr ? collect_as<false, false>(from, bound, values, indices)
                               : collect_as<false, true>(from, bound, values, indices);
  }
  return from.sum == nullptr ? collect_as<true, false>(from, bound, values, indices)
                             : collect_as<true, true>(from, bound, values, indices);
}

HWY_ATTR size_t count_reaching(const float* x, size_t count, uint32_t bound) {
  const Floats d;
  const auto below = hn::Set(Keys(), static_cast<int32_t>(bound - 1));
  const size_t lanes = hn::Lanes(d);
  const auto one_if = [&](size_t i) HWY_ATTR {
    return hn::VecFromMask(Keys(), hn::Gt(hn::BitCast(Keys(), hn::Abs(hn::LoadU(d, x + i))), below));
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

inline const TopKKernels* topk_table() {
  static constexpr TopKKernels kTable = {&collect, &count_reaching};
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
