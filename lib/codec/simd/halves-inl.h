// natural_encode_plain() for fp16 and bf16 without widening them, so on twice as many elements at once: of
// the 23 mantissa bits that a draw is added to, those that halves lack are zeros, so only as many of the
// draw's first bits as halves have can carry. Included once per instruction set.
#if defined(CGX_HALVES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CGX_HALVES_INL_H_
#undef CGX_HALVES_INL_H_
#else
#define CGX_HALVES_INL_H_
#endif

#include "base/dtype.h"
#include "codec/codec_list.h"
#include "codec/simd/lanes-inl.h"
#include "codec/simd/random-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cgx {
namespace HWY_NAMESPACE {

#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128

template <DType kType>
class HalfExponents;  // not used

#else

// The rounded exponents of 4 kLanes halves.
template <DType kType>
class HalfExponents {
 public:
  // Of the halves from x on, which are those from i on of their group.
  CGX_HD HalfExponents(const uint16_t* x, GroupDraws draws, uint32_t i)
      : first_(hn::LoadU(HalfTag(), x)), second_(hn::LoadU(HalfTag(), x + 2 * kLanes)) {
    const auto first = rounded(first_, draws.halves_at(i, 0));
    const auto second = rounded(second_, draws.halves_at(i, 1));
    bytes_ = unsigned_bytes(hn::ShiftRight<kMantissa + 1>(first), hn::ShiftRight<kMantissa + 1>(second));
    if constexpr (kRebias != 0) bytes_ = hn::Add(bytes_, hn::Set(ByteTag(), kRebias));
  }

  // What of a codec's range is right here: the subnormals of fp16, which are none of a float, may round to
  // its smallest exponent, and its largest finite values to Inf's. What the sum of a NaN overflows to is 0.
  // Every codec's range and this one overlap.
  CGX_HD static ExponentRange range(ExponentRange of_floats) {
    if constexpr (kType == DType::kF16) {
      constexpr uint8_t kFirst = kRebias + 2, kLast = kRebias + 30;
      of_floats.first = of_floats.first < kFirst ? kFirst : of_floats.first;
      of_floats.last = of_floats.last > kLast ? kLast : of_floats.last;
    }
    return of_floats;
  }
  CGX_HD bool within(ExponentRange range) const { return bytes_within(bytes_, range.first, range.last); }

  CGX_HD void store_exponents(uint8_t* out) const { hn::StoreU(in_order<2>(bytes_), ByteTag(), out); }
  // A bit each, in order.
  CGX_HD void store_signs(uint8_t* out) const {
    HWY_NAMESPACE::store_signs<2>(signed_bytes(first_, second_), out);
  }
  // Exponents less `offset`, below a sign. REQUIRES: these are below 128.
  CGX_HD void store_signed(uint8_t offset, uint8_t* out) const {
    const auto codes = with_signs(bytes_, offset, signed_bytes(first_, second_));
    hn::StoreU(in_order<2>(codes), ByteTag(), out);
  }

 private:
  static constexpr int kMantissa = kType == DType::kF16 ? 10 : 7;
  static constexpr uint8_t kRebias = kType == DType::kF16 ? 127 - 15 : 0;

  // Twice the sum, without the sign: the bit of the draw below those that halves have cannot carry.
  CGX_HD static HalfVector rounded(HalfVector x, HalfVector draw) {
    return hn::Add(hn::Add(x, x), hn::ShiftRight<15 - kMantissa>(draw));
  }

  HalfVector first_, second_;
  Bytes bytes_;  // of both, block by block
};

#endif

}  // namespace HWY_NAMESPACE
}  // namespace cgx
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
