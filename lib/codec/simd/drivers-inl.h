// The table of one instruction set's drivers: every dense codec of the list in the loops of its shape.
// Included once per instruction set.
#if defined(CGX_DRIVERS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CGX_DRIVERS_INL_H_
#undef CGX_DRIVERS_INL_H_
#else
#define CGX_DRIVERS_INL_H_
#endif

#include "hwy/highway.h"
// After highway.h.
#include "codec/codec_list.h"
#include "codec/simd/bucketed-inl.h"
#include "codec/simd/bucketed_decode-inl.h"
#include "codec/simd/elements-inl.h"
#include "codec/simd/elementwise-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cgx {
namespace HWY_NAMESPACE {

template <typename C>
constexpr DenseDriver driver_of() {
  if constexpr (requires { typename C::Fold; }) {
    return {&Bucketed<C>::encode, &BucketedDecoder<C>::run};
  } else if constexpr (requires { typename C::Meta; }) {
    return {&Normed<C>::encode, &BucketedDecoder<C>::run};
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
  all.give_back = &give_back;
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
