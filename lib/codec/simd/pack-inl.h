// Packing a group's codes into the planes of wire.h and back, for any width: whole groups as shifts and ors
// of byte vectors, a last partial group code by code. Included once per instruction set.
#if defined(CGX_PACK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CGX_PACK_INL_H_
#undef CGX_PACK_INL_H_
#else
#define CGX_PACK_INL_H_
#endif

#include "codec/wire.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace cgx {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// Any group, code by code.
inline void pack_any(const uint8_t* HWY_RESTRICT codes, uint32_t m, uint32_t bits,
                     uint8_t* HWY_RESTRICT out) {
  uint32_t low = 0;
  for (uint32_t width = 8; width != 0; width /= 2) {
    if ((bits & width) == 0) continue;
    const uint32_t bytes = static_cast<uint32_t>(plane_bytes(m, width));
    const uint32_t mask = (1u << width) - 1;
    for (uint32_t j = 0; j < bytes; ++j) out[j] = 0;
    for (uint32_t at = 0, shift = 0; at < m; at += bytes, shift += width) {
      const uint32_t n = m - at < bytes ? m - at : bytes;
      for (uint32_t j = 0; j < n; ++j) {
        out[j] =
            static_cast<uint8_t>(out[j] | ((static_cast<uint32_t>(codes[at + j]) >> low) & mask) << shift);
      }
    }
    out += bytes;
    low += width;
  }
}

inline void unpack_any(const uint8_t* HWY_RESTRICT in, uint32_t m, uint32_t bits,
                       uint8_t* HWY_RESTRICT codes) {
  for (uint32_t i = 0; i < m; ++i) codes[i] = 0;
  uint32_t low = 0;
  for (uint32_t width = 8; width != 0; width /= 2) {
    if ((bits & width) == 0) continue;
    const uint32_t bytes = static_cast<uint32_t>(plane_bytes(m, width));
    const uint32_t mask = (1u << width) - 1;
    for (uint32_t at = 0, shift = 0; at < m; at += bytes, shift += width) {
      const uint32_t n = m - at < bytes ? m - at : bytes;
      for (uint32_t j = 0; j < n; ++j) {
        codes[at + j] =
            static_cast<uint8_t>(codes[at + j] | ((static_cast<uint32_t>(in[j]) >> shift) & mask) << low);
      }
    }
    in += bytes;
    low += width;
  }
}

#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128

template <uint32_t kBits>
CGX_HD void pack_planes(const uint8_t* codes, uint8_t* out) {
  pack_any(codes, kGroup, kBits, out);
}
template <uint32_t kBits>
CGX_HD void unpack_planes(const uint8_t* in, uint8_t* codes) {
  unpack_any(in, kGroup, kBits, codes);
}

#else

// Shifts of fields that do not leave their byte (what enters it from a neighbour is masked off).
template <int kBits, typename Bytes>
CGX_HD Bytes shift_right(Bytes bytes) {
  const hn::DFromV<Bytes> d;
  const hn::Repartition<uint16_t, decltype(d)> d16;
  return hn::BitCast(d, hn::ShiftRight<kBits>(hn::BitCast(d16, bytes)));
}
template <int kBits, typename Bytes>
CGX_HD Bytes shift_left(Bytes bytes) {
  const hn::DFromV<Bytes> d;
  const hn::Repartition<uint16_t, decltype(d)> d16;
  return hn::BitCast(d, hn::ShiftLeft<kBits>(hn::BitCast(d16, bytes)));
}

// A whole group's plane of kWidth bits from bit kLow of its codes: field k of the plane's byte vector at j.
template <uint32_t kWidth, uint32_t kLow, uint32_t k, typename D>
CGX_HD hn::Vec<D> gather_fields(D d, const uint8_t* codes) {
  constexpr uint32_t kBytes = plane_bytes(kGroup, kWidth);
  const auto field = hn::And(shift_right<kLow>(hn::Load(d, codes + k * kBytes)),
                             hn::Set(d, static_cast<uint8_t>((1u << kWidth) - 1)));
  const auto placed = shift_left<k * kWidth>(field);
  if constexpr ((k + 1) * kWidth == 8) {
    return placed;
  } else {
    return hn::Or(placed, gather_fields<kWidth, kLow, k + 1>(d, codes));
  }
}

template <uint32_t kWidth, uint32_t kLow, uint32_t k, typename D>
CGX_HD void scatter_fields(D d, hn::Vec<D> plane, uint8_t* codes) {
  constexpr uint32_t kBytes = plane_bytes(kGroup, kWidth);
  const auto field = shift_left<kLow>(
      hn::And(shift_right<k * kWidth>(plane), hn::Set(d, static_cast<uint8_t>((1u << kWidth) - 1))));
  uint8_t* at = codes + k * kBytes;
  hn::Store(kLow == 0 ? field : hn::Or(field, hn::Load(d, at)), d, at);
  if constexpr ((k + 1) * kWidth != 8) scatter_fields<kWidth, kLow, k + 1>(d, plane, codes);
}

// The same of a plane of single bits, where a vector holds two such planes: two fields at once.
constexpr uint32_t kBitPlane = plane_bytes(kGroup, 1);
using BitPlanes = hn::CappedTag<uint8_t, 2 * kBitPlane>;
constexpr bool kHoldsBitPlanes = hn::MaxLanes(BitPlanes()) == 2 * kBitPlane;
template <uint32_t kLow, uint32_t k = 0>
CGX_HD void scatter_bits(const uint8_t* HWY_RESTRICT plane, uint8_t* HWY_RESTRICT codes) {
  const BitPlanes d;
  const auto once = hn::LoadU(hn::Half<BitPlanes>(), plane);
  const auto fields = hn::ConcatLowerLower(d, hn::Set(d, uint8_t{2u << k}), hn::Set(d, uint8_t{1u << k}));
  const auto is_set = hn::TestBit(hn::Combine(d, once, once), fields);
  const auto bit = hn::IfThenElseZero(is_set, hn::Set(d, uint8_t{1u << kLow}));
  uint8_t* at = codes + k * kBitPlane;
  hn::Store(kLow == 0 ? bit : hn::Or(bit, hn::Load(d, at)), d, at);
  if constexpr (k + 2 != 8) scatter_bits<kLow, k + 2>(plane, codes);
}

// All planes of a whole group from the widest down. `codes` is aligned to 64 bytes.
template <uint32_t kBits, uint32_t kWidth = 8, uint32_t kLow = 0>
CGX_HD void pack_planes(const uint8_t* HWY_RESTRICT codes, uint8_t* HWY_RESTRICT out) {
  if constexpr ((kBits & kWidth) != 0) {
    constexpr uint32_t kBytes = plane_bytes(kGroup, kWidth);
    const hn::CappedTag<uint8_t, kBytes> d;
    for (uint32_t j = 0; j < kBytes; j += static_cast<uint32_t>(hn::Lanes(d))) {
      hn::StoreU(gather_fields<kWidth, kLow, 0>(d, codes + j), d, out + j);
    }
    pack_planes<kBits, kWidth / 2, kLow + kWidth>(codes, out + kBytes);
  } else if constexpr (kWidth != 0) {
    pack_planes<kBits, kWidth / 2, kLow>(codes, out);
  }
}

template <uint32_t kBits, uint32_t kWidth = 8, uint32_t kLow = 0>
CGX_HD void unpack_planes(const uint8_t* HWY_RESTRICT in, uint8_t* HWY_RESTRICT codes) {
  if constexpr ((kBits & kWidth) != 0 && kWidth == 1 && kHoldsBitPlanes) {
    scatter_bits<kLow>(in, codes);
  } else if constexpr ((kBits & kWidth) != 0) {
    constexpr uint32_t kBytes = plane_bytes(kGroup, kWidth);
    const hn::CappedTag<uint8_t, kBytes> d;
    for (uint32_t j = 0; j < kBytes; j += static_cast<uint32_t>(hn::Lanes(d))) {
      scatter_fields<kWidth, kLow, 0>(d, hn::LoadU(d, in + j), codes + j);
    }
    unpack_planes<kBits, kWidth / 2, kLow + kWidth>(in + kBytes, codes);
  } else if constexpr (kWidth != 0) {
    unpack_planes<kBits, kWidth / 2, kLow>(in, codes);
  }
}

#endif

HWY_NOINLINE void pack_group(const uint8_t* HWY_RESTRICT codes, uint32_t m, uint32_t bits,
                             uint8_t* HWY_RESTRICT out) {
  if (m != kGroup) return pack_any(codes, m, bits, out);
  switch (bits) {
    case 1:
      return pack_planes<1>(codes, out);
    case 2:
      return pack_planes<2>(codes, out);
    case 3:
      return pack_planes<3>(codes, out);
    case 4:
      return pack_planes<4>(codes, out);
    case 5:
      return pack_planes<5>(codes, out);
    case 6:
      return pack_planes<6>(codes, out);
    case 7:
      return pack_planes<7>(codes, out);
    default:
      return pack_planes<8>(codes, out);
  }
}

HWY_NOINLINE void unpack_group(const uint8_t* HWY_RESTRICT in, uint32_t m, uint32_t bits,
                               uint8_t* HWY_RESTRICT codes) {
  if (m != kGroup) return unpack_any(in, m, bits, codes);
  switch (bits) {
    case 1:
      return unpack_planes<1>(in, codes);
    case 2:
      return unpack_planes<2>(in, codes);
    case 3:
      return unpack_planes<3>(in, codes);
    case 4:
      return unpack_planes<4>(in, codes);
    case 5:
      return unpack_planes<5>(in, codes);
    case 6:
      return unpack_planes<6>(in, codes);
    case 7:
      return unpack_planes<7>(in, codes);
    default:
      return unpack_planes<8>(in, codes);
  }
}

// Natural's 9-bit codes of m elements: signs in bit i % 8 of byte i / 8, then exponents.
inline void pack_nine_bits(const uint16_t* codes, uint32_t m, uint8_t* out) {
  const size_t at = natural_exponents(m);
  for (size_t j = 0; j < at; ++j) out[j] = 0;
  for (uint32_t i = 0; i < m; ++i) {
    out[i / 8] = static_cast<uint8_t>(out[i / 8] | (codes[i] >> 8 & 1u) << i % 8);
    out[at + i] = static_cast<uint8_t>(codes[i]);
  }
}

inline void unpack_nine_bits(const uint8_t* in, uint32_t m, uint16_t* codes) {
  const size_t at = natural_exponents(m);
  for (uint32_t i = 0; i < m; ++i) {
    const uint32_t sign = static_cast<uint32_t>(in[i / 8]) >> i % 8 & 1u;
    codes[i] = static_cast<uint16_t>(in[at + i] | sign << 8);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace cgx
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
