// F32 and U32: a vector of floats and one of words with the operators and functions that base/hd.h has for
// one of them, so that a definition's own text runs on as many elements as the instruction set holds.
// Included once per instruction set.
#if defined(CGX_LANES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CGX_LANES_INL_H_
#undef CGX_LANES_INL_H_
#else
#define CGX_LANES_INL_H_
#endif

#include "base/half.h"
#include "base/hd.h"
#include "base/random.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace cgx {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128

// No vectors: a lane is the element itself.
inline constexpr bool kVectors = false;
inline constexpr uint32_t kLanes = 1;
using F32 = float;
using U32 = uint32_t;

CGX_HD float load_f16(const uint16_t* x) { return f16_to_f32(*x); }
CGX_HD float widened_f16(uint16_t h) { return f16_to_f32(h); }
CGX_HD void load_split_bf16(const uint16_t*, float (&)[4]) {}
CGX_HD float load_lanes(const float* x) { return *x; }
CGX_HD void store_lanes(float x, float* out) { *out = x; }
CGX_HD void stream_lanes(float x, float* out) { *out = x; }
CGX_HD bool is_vector_aligned(const float*) { return true; }
CGX_HD uint32_t load_halves(const uint16_t* x) { return *x; }
CGX_HD uint32_t load_bytes(const uint8_t* x) { return *x; }
CGX_HD void store_halves(uint32_t u, uint16_t* out) { *out = static_cast<uint16_t>(u); }
CGX_HD void store_bytes(const uint32_t (&u)[4], uint8_t* out) {
  for (uint32_t k = 0; k < 4; ++k) out[k] = static_cast<uint8_t>(u[k]);
}
CGX_HD void store_bits(const uint32_t (&)[4], uint32_t, uint8_t*) {}
CGX_HD uint32_t load_bits(const uint8_t* in, uint32_t first, uint32_t value) {
  return (static_cast<uint32_t>(*in) >> first & 1u) * value;
}
CGX_HD bool any_reaches(uint32_t u, uint32_t limit) { return u >= limit; }
CGX_HD bool bytes_within(const uint8_t*, uint8_t, uint8_t, uint8_t) { return false; }
struct Bytes {
  uint8_t b[4];
};
CGX_HD Bytes to_bytes(const uint32_t (&)[4]) { return {}; }
CGX_HD Bytes low_bytes(const uint32_t (&)[4]) { return {}; }
CGX_HD Bytes sign_bytes(const float (&)[4]) { return {}; }
template <uint32_t kRun = 1>
CGX_HD void store_bytes(Bytes, uint8_t*) {}
CGX_HD void store_signs(Bytes, uint8_t*) {}
CGX_HD bool bytes_within(Bytes, uint8_t, uint8_t) { return false; }
CGX_HD Bytes with_signs(Bytes bytes, uint8_t, Bytes) { return bytes; }
CGX_HD uint32_t lane_numbers() { return 0; }
CGX_HD float look_up(float table, uint32_t) { return table; }
using U8 = uint32_t;
inline constexpr uint32_t kByteLanes = 1;
CGX_HD U8 byte_lanes(Bytes bytes) { return bytes.b[0]; }
CGX_HD U8 load_byte_lanes(const uint8_t* x) { return *x; }
CGX_HD void store_byte_lanes(U8 b, uint8_t* out) { *out = static_cast<uint8_t>(b); }
CGX_HD Bytes with_signs_at(Bytes bytes, uint32_t, Bytes) { return bytes; }
CGX_HD U8 in_blocks(U8 b) { return b; }
CGX_HD U8 load_sign_bytes(const uint8_t*) { return 0; }
CGX_HD U8 low_signs(U8 b) { return b; }
CGX_HD void to_floats(U8, U8, float (&)[4]) {}
CGX_HD uint32_t load_signed_bytes(const uint8_t* x) { return static_cast<uint32_t>(static_cast<int8_t>(*x)); }

using Draw = uint32_t;

#else

using FloatTag = hn::ScalableTag<float>;
using WordTag = hn::ScalableTag<uint32_t>;
using IntTag = hn::ScalableTag<int32_t>;
using HalfTag = hn::Repartition<uint16_t, WordTag>;
inline constexpr uint32_t kLanes = hn::MaxLanes(WordTag());
inline constexpr bool kVectors = true;

struct U32 {
  using Vector = hn::Vec<WordTag>;
  Vector v;
  U32() = default;
  CGX_HD U32(uint32_t u) : v(hn::Set(WordTag(), u)) {}
  CGX_HD explicit U32(Vector vector) : v(vector) {}
};
struct F32 {
  using Vector = hn::Vec<FloatTag>;
  Vector v;
  F32() = default;
  CGX_HD F32(float x) : v(hn::Set(FloatTag(), x)) {}
  CGX_HD explicit F32(Vector vector) : v(vector) {}
};
struct Condition {
  hn::Mask<WordTag> m;
};

using cgx::bf16_to_f32;
using cgx::bits_float;
using cgx::f16_to_f32;
using cgx::f32_to_bf16;
using cgx::f32_to_f16;
using cgx::fadd;
using cgx::float_bits;
using cgx::fmul;
using cgx::fsub;
using cgx::is_finite_bits;
using cgx::larger;
using cgx::larger_signed;
using cgx::less_signed;
using cgx::round_with;
using cgx::select;
using cgx::select_whole;
using cgx::smaller;
using cgx::sort_key;
using cgx::to_float;
using cgx::whole_part;

CGX_HD U32 operator+(U32 a, U32 b) { return U32(hn::Add(a.v, b.v)); }
CGX_HD U32 operator-(U32 a, U32 b) { return U32(hn::Sub(a.v, b.v)); }
CGX_HD U32 operator&(U32 a, U32 b) { return U32(hn::And(a.v, b.v)); }
CGX_HD U32 operator|(U32 a, U32 b) { return U32(hn::Or(a.v, b.v)); }
CGX_HD U32 operator^(U32 a, U32 b) { return U32(hn::Xor(a.v, b.v)); }
// x86 takes one operation for a distance a lane, and two for a distance that is the same for all but not
// known to the compiler.
inline constexpr bool kShiftsLanes = HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX2;
CGX_HD U32 operator>>(U32 a, uint32_t n) {
  if (kShiftsLanes && !__builtin_constant_p(n)) return U32(hn::Shr(a.v, hn::Set(WordTag(), n)));
  return U32(hn::ShiftRightSame(a.v, static_cast<int>(n)));
}
CGX_HD U32 operator<<(U32 a, uint32_t n) {
  if (kShiftsLanes && !__builtin_constant_p(n)) return U32(hn::Shl(a.v, hn::Set(WordTag(), n)));
  return U32(hn::ShiftLeftSame(a.v, static_cast<int>(n)));
}
CGX_HD Condition operator<(U32 a, U32 b) { return {hn::Lt(a.v, b.v)}; }
CGX_HD Condition operator>(U32 a, U32 b) { return {hn::Lt(b.v, a.v)}; }
CGX_HD Condition operator==(U32 a, U32 b) { return {hn::Eq(a.v, b.v)}; }

CGX_HD U32 float_bits(F32 x) { return U32(hn::BitCast(WordTag(), x.v)); }
CGX_HD F32 bits_float(U32 u) { return F32(hn::BitCast(FloatTag(), u.v)); }
CGX_HD F32 fadd(F32 a, F32 b) { return F32(hn::Add(a.v, b.v)); }
CGX_HD F32 fsub(F32 a, F32 b) { return F32(hn::Sub(a.v, b.v)); }
CGX_HD F32 fmul(F32 a, F32 b) { return F32(hn::Mul(a.v, b.v)); }

// Highway's own conversion also corrects what is out of range.
CGX_HD U32 whole_part(F32 x) {
#if HWY_TARGET == HWY_AVX3
  return U32(U32::Vector{_mm512_cvttps_epi32(x.v.raw)});
#elif HWY_TARGET == HWY_AVX2
  return U32(U32::Vector{_mm256_cvttps_epi32(x.v.raw)});
#elif HWY_TARGET == HWY_SSE4
  return U32(U32::Vector{_mm_cvttps_epi32(x.v.raw)});
#else
  return U32(hn::BitCast(WordTag(), hn::ConvertTo(IntTag(), x.v)));
#endif
}
CGX_HD F32 to_float(U32 u) { return F32(hn::ConvertTo(FloatTag(), hn::BitCast(IntTag(), u.v))); }

CGX_HD U32 select(Condition c, U32 yes, U32 no) { return U32(hn::IfThenElse(c.m, yes.v, no.v)); }
CGX_HD F32 select(Condition c, F32 yes, F32 no) {
  return F32(hn::IfThenElse(hn::RebindMask(FloatTag(), c.m), yes.v, no.v));
}
CGX_HD U32 smaller(U32 a, U32 b) { return U32(hn::Min(a.v, b.v)); }
CGX_HD U32 select_whole(Condition c, F32 x, U32 no) { return select(c, whole_part(x), no); }
CGX_HD Condition less_signed(U32 a, U32 b) {
  return {hn::RebindMask(WordTag(), hn::Lt(hn::BitCast(IntTag(), a.v), hn::BitCast(IntTag(), b.v)))};
}
CGX_HD U32 larger(U32 a, U32 b) { return U32(hn::Max(a.v, b.v)); }
CGX_HD U32 larger_signed(U32 a, U32 b) {
  return U32(hn::BitCast(WordTag(), hn::Max(hn::BitCast(IntTag(), a.v), hn::BitCast(IntTag(), b.v))));
}

// The draws of the definition, before the shuffle that makes them of the words that each 128-bit block holds:
// element b of a word takes it with byte b on top.
struct Draw {
  U32::Vector words;
  uint32_t place;  // in bytes of the orders: where the first lane's element is
};
// The shuffles. Of 48 lanes, the first 16 are a block's elements in order; of 16 more, 4 are the first half
// of every second 4, as load_split_bf16() gives them, and the last 16 are those between.
struct DrawOrders {
  alignas(64) uint8_t draws[192] = {};
  alignas(64) uint8_t shifted[192] = {};  // draws without the lowest byte, shifted right by it
  alignas(64) uint8_t halves[64] = {};    // bytes 2 and 3 alone, for two blocks of 16 elements

  constexpr DrawOrders() {
    for (uint32_t lane = 0; lane < 48; ++lane) {
      const uint32_t element = lane < 16 ? lane : lane / 4 % 2 * 8 + (lane / 16 - 1) * 4 + lane % 4;
      for (uint32_t k = 0; k < 4; ++k) {
        draws[4 * lane + k] = byte(element, k);
        shifted[4 * lane + k] = k == 3 ? 128 : byte(element, k + 1);
      }
    }
    for (uint32_t i = 0; i < 64; ++i) halves[i] = byte(i / 2 % 16, 2 + i % 2);
  }

  // Byte k of the draw of element 4 l + b is byte (b + 1 + k) % 4 of word l.
  static constexpr uint8_t byte(uint32_t element, uint32_t k) {
    return static_cast<uint8_t>(element / 4 * 4 + (element + 1 + k) % 4);
  }
};
inline constexpr DrawOrders kDrawOrders;
CGX_HD U32 shuffled(Draw draw, const uint8_t* order) {
  const hn::Repartition<uint8_t, WordTag> d8;
  return U32(
      hn::BitCast(WordTag(), hn::TableLookupBytesOr0(hn::BitCast(d8, draw.words), hn::Load(d8, order))));
}
CGX_HD U32 operator>>(Draw draw, uint32_t n) { return shuffled(draw, kDrawOrders.draws + draw.place) >> n; }
// 24 of the draw's bits and one fraction bit more than the definition has: the bit below the 23 cannot carry.
CGX_HD U32 round_with(Draw draw, U32 fixed) {
  return (fixed + fixed + shuffled(draw, kDrawOrders.shifted + draw.place)) >> 24;
}
CGX_HD U32 round_with(U32 draw, U32 fixed) { return (fixed + (draw >> 9)) >> 23; }

CGX_HD Condition is_finite_bits(U32 u) {
  const auto exponent = hn::BitCast(IntTag(), hn::And(u.v, hn::Set(WordTag(), 0x7f800000u)));
  return {hn::RebindMask(WordTag(), hn::Lt(exponent, hn::Set(IntTag(), 0x7f800000)))};
}
CGX_HD U32 sort_key(U32 u) {
  const auto sign = hn::BitCast(WordTag(), hn::ShiftRight<31>(hn::BitCast(IntTag(), u.v)));
  return u ^ (U32(sign) | 0x80000000u);
}

// Halves as words, one in the low bits of each lane.
CGX_HD F32 bf16_to_f32(U32 h) { return bits_float(h << 16); }
CGX_HD U32 f32_to_bf16(F32 x) {
  const U32 u = float_bits(x);
  const U32 rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  return select((u & 0x7fffffffu) > 0x7f800000u, (u >> 16) | 0x40u, rounded);
}

#if HWY_TARGET == HWY_AVX3
CGX_HD F32 load_f16(const uint16_t* x) {
  return F32(F32::Vector{_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x)))});
}
CGX_HD F32 f16_to_f32(U32 h) { return F32(F32::Vector{_mm512_cvtph_ps(_mm512_cvtepi32_epi16(h.v.raw))}); }
CGX_HD float widened_f16(uint16_t h) { return _cvtsh_ss(h); }
CGX_HD U32 f32_to_f16(F32 x) {
  return U32(U32::Vector{_mm512_cvtepu16_epi32(_mm512_cvtps_ph(x.v.raw, _MM_FROUND_TO_NEAREST_INT))});
}
#elif HWY_TARGET == HWY_AVX2
CGX_HD F32 load_f16(const uint16_t* x) {
  return F32(F32::Vector{_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x)))});
}
CGX_HD F32 f16_to_f32(U32 h) {
  return F32(F32::Vector{_mm256_cvtph_ps(hn::TruncateTo(hn::Rebind<uint16_t, WordTag>(), h.v).raw)});
}
CGX_HD float widened_f16(uint16_t h) { return _cvtsh_ss(h); }
CGX_HD U32 f32_to_f16(F32 x) {
  return U32(U32::Vector{_mm256_cvtepu16_epi32(_mm256_cvtps_ph(x.v.raw, _MM_FROUND_TO_NEAREST_INT))});
}
#else
// No instruction for it: an element at a time.
CGX_HD float widened_f16(uint16_t h) { return cgx::f16_to_f32(h); }
CGX_HD F32 load_f16(const uint16_t* x) {
  alignas(64) float wide[kLanes];
  for (uint32_t i = 0; i < kLanes; ++i) wide[i] = cgx::f16_to_f32(x[i]);
  return F32(hn::Load(FloatTag(), wide));
}
CGX_HD F32 f16_to_f32(U32 h) {
  alignas(64) uint32_t half[kLanes];
  alignas(64) float wide[kLanes];
  hn::Store(h.v, WordTag(), half);
  for (uint32_t i = 0; i < kLanes; ++i) wide[i] = cgx::f16_to_f32(static_cast<uint16_t>(half[i]));
  return F32(hn::Load(FloatTag(), wide));
}
CGX_HD U32 f32_to_f16(F32 x) {
  alignas(64) float wide[kLanes];
  alignas(64) uint32_t half[kLanes];
  hn::Store(x.v, FloatTag(), wide);
  for (uint32_t i = 0; i < kLanes; ++i) half[i] = cgx::f32_to_f16(wide[i]);
  return U32(hn::Load(WordTag(), half));
}
#endif

CGX_HD F32 load_lanes(const float* x) { return F32(hn::LoadU(FloatTag(), x)); }
CGX_HD void store_lanes(F32 x, float* out) { hn::StoreU(x.v, FloatTag(), out); }
// Past the caches. REQUIRES: is_vector_aligned(out).
CGX_HD void stream_lanes(F32 x, float* out) { hn::Stream(x.v, FloatTag(), out); }
CGX_HD bool is_vector_aligned(const float* x) {
  return reinterpret_cast<uintptr_t>(x) % (kLanes * sizeof(float)) == 0;
}
CGX_HD U32 load_halves(const uint16_t* x) {
  return U32(hn::PromoteTo(WordTag(), hn::LoadU(hn::Rebind<uint16_t, WordTag>(), x)));
}
CGX_HD U32 load_bytes(const uint8_t* x) {
  return U32(hn::PromoteTo(WordTag(), hn::LoadU(hn::Rebind<uint8_t, WordTag>(), x)));
}
// The low halves.
CGX_HD void store_halves(U32 u, uint16_t* out) {
  hn::StoreU(hn::TruncateTo(hn::Rebind<uint16_t, WordTag>(), u.v), hn::Rebind<uint16_t, WordTag>(), out);
}
using ByteTag = hn::Repartition<uint8_t, WordTag>;
using Bytes = hn::Vec<ByteTag>;
using HalfVector = hn::Vec<HalfTag>;
// Two vectors of words in one of halves, and two of these in one of bytes, block by block as the instructions
// give them; what does not fit saturates, and a sign stays one.
CGX_HD HalfVector to_halves(U32 a, U32 b) {
  const hn::Repartition<int16_t, WordTag> d16;
  const IntTag di;
  return hn::BitCast(HalfTag(), hn::ReorderDemote2To(d16, hn::BitCast(di, a.v), hn::BitCast(di, b.v)));
}
#if HWY_TARGET == HWY_AVX3
CGX_HD Bytes unsigned_bytes(HalfVector a, HalfVector b) { return Bytes{_mm512_packus_epi16(a.raw, b.raw)}; }
CGX_HD Bytes signed_bytes(HalfVector a, HalfVector b) { return Bytes{_mm512_packs_epi16(a.raw, b.raw)}; }
#elif HWY_TARGET == HWY_AVX2
CGX_HD Bytes unsigned_bytes(HalfVector a, HalfVector b) { return Bytes{_mm256_packus_epi16(a.raw, b.raw)}; }
CGX_HD Bytes signed_bytes(HalfVector a, HalfVector b) { return Bytes{_mm256_packs_epi16(a.raw, b.raw)}; }
#elif HWY_TARGET == HWY_SSE4
CGX_HD Bytes unsigned_bytes(HalfVector a, HalfVector b) { return Bytes{_mm_packus_epi16(a.raw, b.raw)}; }
CGX_HD Bytes signed_bytes(HalfVector a, HalfVector b) { return Bytes{_mm_packs_epi16(a.raw, b.raw)}; }
#else
// Without saturating: the low bytes, and the high ones.
CGX_HD Bytes of_turns(HalfVector even, HalfVector odd) {
  const ByteTag d8;
  HWY_ALIGN static constexpr uint8_t kOrder[16] = {0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15};
  return hn::TableLookupBytes(hn::BitCast(d8, hn::Or(even, odd)), hn::LoadDup128(d8, kOrder));
}
CGX_HD Bytes unsigned_bytes(HalfVector a, HalfVector b) {
  return of_turns(hn::And(a, hn::Set(HalfTag(), 0xff)), hn::ShiftLeft<8>(b));
}
CGX_HD Bytes signed_bytes(HalfVector a, HalfVector b) {
  return of_turns(hn::ShiftRight<8>(a), hn::And(b, hn::Set(HalfTag(), 0xff00)));
}
#endif

// Of four vectors of words. REQUIRES: each is below 256.
CGX_HD Bytes to_bytes(const U32 (&u)[4]) {
  return unsigned_bytes(to_halves(u[0], u[1]), to_halves(u[2], u[3]));
}
// The low bytes. REQUIRES: each word is below 2^15.
CGX_HD Bytes low_bytes(const U32 (&u)[4]) {
  const auto mask = hn::Set(HalfTag(), 0xff);
  return unsigned_bytes(hn::And(to_halves(u[0], u[1]), mask), hn::And(to_halves(u[2], u[3]), mask));
}
// Bytes whose top bits are the floats' signs.
CGX_HD Bytes sign_bytes(const F32 (&x)[4]) {
  return signed_bytes(to_halves(float_bits(x[0]), float_bits(x[1])),
                      to_halves(float_bits(x[2]), float_bits(x[3])));
}
// Such bytes as elements are in order, of 4 / kRun vectors: a block of a vector gave kRun words of bytes.
template <uint32_t kRun>
CGX_HD Bytes in_order(Bytes bytes) {
  if constexpr (kLanes == 4) {
    return bytes;
  } else {
    constexpr uint32_t kWords = kLanes / 4 * kRun;  // of a vector
    HWY_ALIGN uint32_t order[kLanes];
    for (uint32_t i = 0; i < kLanes; ++i) {
      order[i] = i % kWords / kRun * 4 + i / kWords * kRun + i % kRun;
    }
    const auto indices = hn::IndicesFromVec(WordTag(), hn::Load(WordTag(), order));
    return hn::BitCast(ByteTag(), hn::TableLookupLanes(hn::BitCast(WordTag(), bytes), indices));
  }
}

template <uint32_t kRun = 1>
CGX_HD void store_bytes(Bytes bytes, uint8_t* out) {
  hn::StoreU(in_order<kRun>(bytes), ByteTag(), out);
}
// REQUIRES: each word is below 256.
CGX_HD void store_bytes(const U32 (&u)[4], uint8_t* out) { store_bytes(to_bytes(u), out); }
// Their top bits, in order.
template <uint32_t kRun = 1>
CGX_HD void store_signs(Bytes bytes, uint8_t* out) {
  const hn::RebindToSigned<ByteTag> d;
  const auto ordered = hn::BitCast(d, in_order<kRun>(bytes));
#if HWY_ARCH_X86
  hn::StoreMaskBits(d, hn::MaskFromVec(ordered), out);  // which the top bits alone decide
#else
  hn::StoreMaskBits(d, hn::Lt(ordered, hn::Zero(d)), out);
#endif
}

// Whether `mask` is set in each of four vectors' words, as bits in order.
CGX_HD void store_bits(const U32 (&u)[4], uint32_t mask, uint8_t* out) {
  uint8_t bits[4][8];
  for (uint32_t k = 0; k < 4; ++k) {
    hn::StoreMaskBits(WordTag(), hn::TestBit(u[k].v, hn::Set(WordTag(), mask)), bits[k]);
  }
  if constexpr (kLanes == 4) {
    out[0] = static_cast<uint8_t>(bits[0][0] | bits[1][0] << 4);
    out[1] = static_cast<uint8_t>(bits[2][0] | bits[3][0] << 4);
  } else {
    for (uint32_t k = 0; k < 4; ++k) memcpy(out + k * kLanes / 8, bits[k], kLanes / 8);
  }
}
// `value` where a bit is set, from bit `first` (0 where 8 lanes or more) of the bytes on.
CGX_HD U32 load_bits(const uint8_t* in, uint32_t first, uint32_t value) {
  uint8_t bits[8] = {};
  memcpy(bits, in, kLanes < 8 ? 1 : kLanes / 8);
  if constexpr (kLanes < 8) bits[0] = static_cast<uint8_t>(bits[0] >> first);
  return U32(hn::IfThenElseZero(hn::LoadMaskBits(WordTag(), bits), hn::Set(WordTag(), value)));
}

// Each lane's neighbour at a distance of a power of two (both ways).
template <uint32_t kDistance>
CGX_HD U32 swapped_lanes(U32 u) {
  const auto order = hn::Xor(hn::Iota(WordTag(), 0), hn::Set(WordTag(), kDistance));
  return U32(hn::TableLookupLanes(u.v, hn::IndicesFromVec(WordTag(), order)));
}
CGX_HD bool any_reaches(U32 u, uint32_t limit) {
  return !hn::AllTrue(WordTag(), hn::Lt(u.v, hn::Set(WordTag(), limit)));
}
CGX_HD bool bytes_within(Bytes bytes, uint8_t first, uint8_t last) {
  const ByteTag d;
  const auto limit = hn::Set(d, static_cast<uint8_t>(last - first));
  return hn::AllTrue(d, hn::Eq(hn::Max(hn::Sub(bytes, hn::Set(d, first)), limit), limit));
}
// The bytes less `offset`, with the top bits of `signs`. REQUIRES: these are below 128.
CGX_HD Bytes with_signs(Bytes bytes, uint8_t offset, Bytes signs) {
  const ByteTag d;
  return hn::OrAnd(hn::Sub(bytes, hn::Set(d, offset)), signs, hn::Set(d, 0x80));
}
// True where all of a group's bytes are first..last, apart from the bits outside of `mask`.
CGX_HD bool bytes_within(const uint8_t* group, uint8_t mask, uint8_t first, uint8_t last) {
  const ByteTag d;
  auto farthest = hn::Zero(d);
  for (size_t i = 0; i < kGroup; i += hn::Lanes(d)) {
    const auto byte = hn::And(hn::LoadU(d, group + i), hn::Set(d, mask));
    farthest = hn::Max(farthest, hn::Sub(byte, hn::Set(d, first)));
  }
  const auto limit = hn::Set(d, static_cast<uint8_t>(last - first));
  return hn::AllTrue(d, hn::Eq(hn::Max(farthest, limit), limit));
}

// Bytes with the operators of words, as many as a vector holds.
struct U8 {
  Bytes v;
  CGX_HD U8(uint32_t u) : v(hn::Set(ByteTag(), static_cast<uint8_t>(u))) {}
  CGX_HD explicit U8(Bytes vector) : v(vector) {}
};
struct ByteCondition {
  hn::Mask<ByteTag> m;
};
inline constexpr uint32_t kByteLanes = 4 * kLanes;
// What enters a byte from its neighbour is left to be masked off.
CGX_HD U8 operator>>(U8 a, uint32_t n) {
  return U8(hn::BitCast(ByteTag(), hn::ShiftRightSame(hn::BitCast(HalfTag(), a.v), static_cast<int>(n))));
}
CGX_HD U8 operator+(U8 a, U8 b) { return U8(hn::Add(a.v, b.v)); }
CGX_HD U8 operator&(U8 a, U8 b) { return U8(hn::And(a.v, b.v)); }
CGX_HD U8 operator|(U8 a, U8 b) { return U8(hn::Or(a.v, b.v)); }
CGX_HD ByteCondition operator==(U8 a, U8 b) { return {hn::Eq(a.v, b.v)}; }
CGX_HD U8 select(ByteCondition c, U8 yes, U8 no) { return U8(hn::IfThenElse(c.m, yes.v, no.v)); }
CGX_HD U8 byte_lanes(Bytes bytes) { return U8(bytes); }
CGX_HD U8 load_byte_lanes(const uint8_t* x) { return U8(hn::LoadU(ByteTag(), x)); }
CGX_HD void store_byte_lanes(U8 b, uint8_t* out) { hn::StoreU(b.v, ByteTag(), out); }
// Bytes in order as what follows takes them: interleaving twice makes four vectors of words, and works within
// blocks of 128 bits.
CGX_HD U8 in_blocks(U8 b) {
  if constexpr (kLanes == 4) {
    return b;
  } else {
    HWY_ALIGN uint32_t order[kLanes];
    for (uint32_t i = 0; i < kLanes; ++i) order[i] = i % 4 * (kLanes / 4) + i / 4;
    const auto indices = hn::IndicesFromVec(WordTag(), hn::Load(WordTag(), order));
    return U8(hn::BitCast(ByteTag(), hn::TableLookupLanes(hn::BitCast(WordTag(), b.v), indices)));
  }
}
CGX_HD void words_of_halves(HalfVector low, HalfVector high, F32& first, F32& second) {
  first = F32(hn::BitCast(FloatTag(), hn::InterleaveLower(HalfTag(), low, high)));
  second = F32(hn::BitCast(FloatTag(), hn::InterleaveUpper(HalfTag(), low, high)));
}
// Four vectors of bf16 by one operation each: of each block of 8 elements the first half is in one vector and
// the second in the next.
CGX_HD void load_split_bf16(const uint16_t* x, F32 (&out)[4]) {
  const auto zero = hn::Zero(HalfTag());
  words_of_halves(zero, hn::LoadU(HalfTag(), x), out[0], out[1]);
  words_of_halves(zero, hn::LoadU(HalfTag(), x + 2 * kLanes), out[2], out[3]);
}
// Bytes 0 to 3 of floats, each from in_blocks().
CGX_HD void to_floats(U8 byte0, U8 byte1, U8 byte2, U8 byte3, F32 (&x)[4]) {
  const ByteTag d8;
  const auto halves = [](Bytes bytes) HWY_ATTR { return hn::BitCast(HalfTag(), bytes); };
  words_of_halves(halves(hn::InterleaveLower(d8, byte0.v, byte1.v)),
                  halves(hn::InterleaveLower(d8, byte2.v, byte3.v)), x[0], x[1]);
  words_of_halves(halves(hn::InterleaveUpper(d8, byte0.v, byte1.v)),
                  halves(hn::InterleaveUpper(d8, byte2.v, byte3.v)), x[2], x[3]);
}
// Powers of two by their exponent bytes, and bytes whose lowest bits are their signs, both from in_blocks().
CGX_HD void to_floats(U8 exponents, U8 signs, F32 (&x)[4]) {
  const ByteTag d8;
  const auto top_half = [](Bytes both) HWY_ATTR { return hn::ShiftLeft<7>(hn::BitCast(HalfTag(), both)); };
  const auto zero = hn::Zero(HalfTag());
  words_of_halves(zero, top_half(hn::InterleaveLower(d8, exponents.v, signs.v)), x[0], x[1]);
  words_of_halves(zero, top_half(hn::InterleaveUpper(d8, exponents.v, signs.v)), x[2], x[3]);
}
// A byte of ones or zeros for each bit, in order.
CGX_HD U8 load_sign_bytes(const uint8_t* bits) {
  return U8(hn::VecFromMask(ByteTag(), hn::LoadMaskBits(ByteTag(), bits)));
}
// Their top bits in the lowest ones; what is in the others is of no use.
CGX_HD U8 low_signs(U8 b) {
  return U8(hn::BitCast(ByteTag(), hn::ShiftRight<7>(hn::BitCast(HalfTag(), b.v))));
}

// Tables of 16 floats that bytes below 16 are looked up in.
struct ByteTable {
  U8 bytes[4] = {0u, 0u, 0u, 0u};  // byte k of all of them, in each block of 128 bits
  // value(codes): the values of a vector of codes.
  template <typename Value>
  CGX_HD explicit ByteTable(Value value) {
    static_assert(16 % kLanes == 0);
    U32 all[4];
    HWY_UNROLL(4)
    for (uint32_t k = 0; k < 4; ++k) {
      all[k] = float_bits(value(U32(hn::Iota(WordTag(), k * kLanes % 16))));
    }
    HWY_UNROLL(4)
    for (int n = 0; n < 4; ++n) {
      U32 part[4];
      for (uint32_t k = 0; k < 4; ++k) {
        part[k] = U32(hn::And(hn::ShiftRightSame(all[k].v, 8 * n), hn::Set(WordTag(), 0xff)));
      }
      bytes[n] = U8(in_order<1>(to_bytes(part)));
    }
  }
  // Of codes from in_blocks().
  CGX_HD void look_up(U8 codes, F32 (&x)[4]) const {
    const auto byte = [&](const U8& of_all) HWY_ATTR { return U8(hn::TableLookupBytes(of_all.v, codes.v)); };
    to_floats(byte(bytes[0]), byte(bytes[1]), byte(bytes[2]), byte(bytes[3]), x);
  }
};

// Extended by their signs to words.
CGX_HD U32 load_signed_bytes(const uint8_t* x) {
  const hn::Rebind<int8_t, WordTag> d8;
  return U32(
      hn::BitCast(WordTag(), hn::PromoteTo(IntTag(), hn::LoadU(d8, reinterpret_cast<const int8_t*>(x)))));
}

// The bytes with the top bits of `signs` at bit `place`.
CGX_HD Bytes with_signs_at(Bytes bytes, uint32_t place, Bytes signs) {
  return (U8(bytes) | ((U8(signs) >> (7 - place)) & (1u << place))).v;
}

// 0, 1, 2, ...
CGX_HD U32 lane_numbers() { return U32(hn::Iota(WordTag(), 0)); }
// Lane u[i] of the table for each i. REQUIRES: u[i] < kLanes.
CGX_HD F32 look_up(F32 table, U32 u) {
  return F32(hn::TableLookupLanes(table.v, hn::IndicesFromVec(FloatTag(), u.v)));
}

#endif

}  // namespace HWY_NAMESPACE
}  // namespace cgx
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
