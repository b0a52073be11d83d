// Packing a group's codes into the planes of wire.h and back, for any width, and natural's sign bits.
// Included once per instruction set.
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

// A whole group's plane of kWidth bits from bit `low` of its codes.
template <uint32_t kWidth>
HWY_ATTR void pack_plane(const uint8_t* HWY_RESTRICT codes, uint32_t low, uint8_t* HWY_RESTRICT out) {
  constexpr uint32_t kBytes = plane_bytes(kGroup, kWidth);
  constexpr uint32_t kMask = (1u << kWidth) - 1;
  for (uint32_t j = 0; j < kBytes; ++j) {
    uint32_t byte = 0;
    for (uint32_t k = 0; k < 8 / kWidth; ++k) {
      byte |= ((static_cast<uint32_t>(codes[j + k * kBytes]) >> low) & kMask) << (k * kWidth);
    }
    out[j] = static_cast<uint8_t>(byte);
  }
}

// Adds (ors) the plane's fields to the codes of a whole group.
template <uint32_t kWidth>
HWY_ATTR void unpack_plane(const uint8_t* HWY_RESTRICT in, uint32_t low, uint8_t* HWY_RESTRICT codes) {
  constexpr uint32_t kBytes = plane_bytes(kGroup, kWidth);
  constexpr uint32_t kMask = (1u << kWidth) - 1;
  for (uint32_t k = 0; k < 8 / kWidth; ++k) {
    for (uint32_t j = 0; j < kBytes; ++j) {
      const uint32_t field = (static_cast<uint32_t>(in[j]) >> (k * kWidth)) & kMask;
      codes[j + k * kBytes] = static_cast<uint8_t>(codes[j + k * kBytes] | (field << low));
    }
  }
}

HWY_NOINLINE HWY_ATTR void pack_group(const uint8_t* HWY_RESTRICT codes, uint32_t m, uint32_t bits,
                                      uint8_t* HWY_RESTRICT out) {
  uint32_t low = 0;
  for (uint32_t width = 8; width != 0; width /= 2) {
    if ((bits & width) == 0) continue;
    const uint32_t bytes = static_cast<uint32_t>(plane_bytes(m, width));
    if (m != kGroup) {
      const uint32_t mask = (1u << width) - 1;
      for (uint32_t j = 0; j < bytes; ++j) out[j] = 0;
      for (uint32_t i = 0; i < m; ++i) {
        const uint32_t field = (static_cast<uint32_t>(codes[i]) >> low) & mask;
        out[i % bytes] = static_cast<uint8_t>(out[i % bytes] | (field << (i / bytes * width)));
      }
    } else if (width == 8) {
      pack_plane<8>(codes, low, out);
    } else if (width == 4) {
      pack_plane<4>(codes, low, out);
    } else if (width == 2) {
      pack_plane<2>(codes, low, out);
    } else {
      pack_plane<1>(codes, low, out);
    }
    out += bytes;
    low += width;
  }
}

HWY_NOINLINE HWY_ATTR void unpack_group(const uint8_t* HWY_RESTRICT in, uint32_t m, uint32_t bits,
                                        uint8_t* HWY_RESTRICT codes) {
  for (uint32_t i = 0; i < kGroup; ++i) codes[i] = 0;
  uint32_t low = 0;
  for (uint32_t width = 8; width != 0; width /= 2) {
    if ((bits & width) == 0) continue;
    const uint32_t bytes = static_cast<uint32_t>(plane_bytes(m, width));
    if (m != kGroup) {
      const uint32_t mask = (1u << width) - 1;
      for (uint32_t i = 0; i < m; ++i) {
        const uint32_t field = (static_cast<uint32_t>(in[i % bytes]) >> (i / bytes * width)) & mask;
        codes[i] = static_cast<uint8_t>(codes[i] | (field << low));
      }
    } else if (width == 8) {
      unpack_plane<8>(in, low, codes);
    } else if (width == 4) {
      unpack_plane<4>(in, low, codes);
    } else if (width == 2) {
      unpack_plane<2>(in, low, codes);
    } else {
      unpack_plane<1>(in, low, codes);
    }
    in += bytes;
    low += width;
  }
}

// Signs of 9-bit codes, in bit i % 8 of byte i / 8, of a whole group; and back, as bit 8.
#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128

inline void pack_signs(const uint16_t* HWY_RESTRICT codes, uint8_t* HWY_RESTRICT signs) {
  for (uint32_t j = 0; j < kGroup / 8; ++j) {
    uint32_t byte = 0;
    for (uint32_t k = 0; k < 8; ++k) byte |= (static_cast<uint32_t>(codes[8 * j + k]) >> 8 & 1u) << k;
    signs[j] = static_cast<uint8_t>(byte);
  }
}
inline void unpack_signs(const uint8_t* HWY_RESTRICT signs, uint16_t* HWY_RESTRICT codes) {
  for (uint32_t i = 0; i < kGroup; ++i) {
    codes[i] = static_cast<uint16_t>((static_cast<uint32_t>(signs[i / 8]) >> (i % 8) & 1u) << 8);
  }
}

#else

inline HWY_ATTR void pack_signs(const uint16_t* HWY_RESTRICT codes, uint8_t* HWY_RESTRICT signs) {
  const hn::CappedTag<uint16_t, 32> d;
  const hn::RebindToSigned<decltype(d)> di;
  for (size_t i = 0; i < kGroup; i += hn::Lanes(d)) {
    const auto top = hn::BitCast(di, hn::ShiftLeft<7>(hn::LoadU(d, codes + i)));
    hn::StoreMaskBits(di, hn::Lt(top, hn::Zero(di)), signs + i / 8);
  }
}
inline HWY_ATTR void unpack_signs(const uint8_t* HWY_RESTRICT signs, uint16_t* HWY_RESTRICT codes) {
  const hn::CappedTag<uint16_t, 32> d;
  for (size_t i = 0; i < kGroup; i += hn::Lanes(d)) {
    const auto sign = hn::LoadMaskBits(d, signs + i / 8);
    hn::StoreU(hn::IfThenElseZero(sign, hn::Set(d, uint16_t{0x100})), d, codes + i);
  }
}

#endif

// 9-bit codes of m elements to natural's signs and exponents. `codes` holds kGroup, zeros after m.
HWY_NOINLINE HWY_ATTR void pack_nine_bits(const uint16_t* HWY_RESTRICT codes, uint32_t m,
                                          uint8_t* HWY_RESTRICT out) {
  uint8_t signs[kGroup / 8 + 8];  // a vector may be read or written past its own mask bits
  pack_signs(codes, signs);
  const size_t at = natural_exponents(m);
  memcpy(out, signs, at);
  for (uint32_t i = 0; i < m; ++i) out[at + i] = static_cast<uint8_t>(codes[i]);
}

HWY_NOINLINE HWY_ATTR void unpack_nine_bits(const uint8_t* HWY_RESTRICT in, uint32_t m,
                                            uint16_t* HWY_RESTRICT codes) {
  uint8_t signs[kGroup / 8 + 8] = {};
  const size_t at = natural_exponents(m);
  memcpy(signs, in, at);
  unpack_signs(signs, codes);
  for (uint32_t i = 0; i < m; ++i) codes[i] = static_cast<uint16_t>(codes[i] | in[at + i]);
}

}  // namespace HWY_NAMESPACE
}  // namespace cgx
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
