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
  CGX_HD HalfExponents(const uint16_t* x, const GroupRandom& random, uint32_t i)
      : first_(hn::LoadU(HalfTag(), x)), second_(hn::LoadU(HalfTag(), x + 2 * kLanes)) {
    const auto first = rounded(first_, random.halves_at(i));
    const auto second = rounded(second_, random.halves_at(i + 2 * kLanes));
    if constexpr (kType == DType::kF16) {
      const auto fields = by_turns(hn::ShiftRight<kMantissa>(first), hn::ShiftRight<kMantissa - 8>(second));
      bytes_ = hn::Add(hn::And(fields, hn::Set(ByteTag(), 0x1f)), hn::Set(ByteTag(), kRebias));
    } else {
      bytes_ = by_turns(hn::ShiftRight<kMantissa>(first), hn::ShiftLeft<8 - kMantissa>(second));
    }
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

  CGX_HD void store_exponents(uint8_t* out) const { store_pairs(bytes_, out); }
  // A bit each, in order.
  CGX_HD void store_signs(uint8_t* out) const {
    store_signs_of(first_, out);
    store_signs_of(second_, out + kLanes / 4);
  }
  // Exponents less `offset`, below a sign. REQUIRES: these are below 128.
  CGX_HD void store_signed(uint8_t offset, uint8_t* out) const {
    const auto signs = by_turns(hn::ShiftRight<8>(first_), second_);
    const auto codes = hn::Sub(bytes_, hn::Set(ByteTag(), offset));
    store_pairs(hn::OrAnd(codes, signs, hn::Set(ByteTag(), 0x80)), out);
  }

 private:
  using HalfVector = hn::Vec<HalfTag>;
  static constexpr int kMantissa = kType == DType::kF16 ? 10 : 7;
  static constexpr uint8_t kRebias = kType == DType::kF16 ? 127 - 15 : 0;

  CGX_HD static HalfVector rounded(HalfVector x, HalfVector draw) {
    return hn::Add(x, hn::ShiftRight<16 - kMantissa>(draw));
  }
  // The low bytes of `even` and the high ones of `odd`.
  CGX_HD static Bytes by_turns(HalfVector even, HalfVector odd) {
    return hn::BitCast(ByteTag(), hn::IfVecThenElse(hn::Set(HalfTag(), 0xff00), odd, even));
  }
  CGX_HD static void store_pairs(Bytes bytes, uint8_t* out) {
    hn::StoreU(in_order<2>(bytes), ByteTag(), out);
  }
  CGX_HD static void store_signs_of(HalfVector x, uint8_t* out) {
    const hn::RebindToSigned<HalfTag> d;
    hn::StoreMaskBits(d, hn::Lt(hn::BitCast(d, x), hn::Zero(d)), out);
  }

  HalfVector first_, second_;
  Bytes bytes_;  // of first and second by turns
};

#endif

}  // namespace HWY_NAMESPACE
}  // namespace cgx
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
