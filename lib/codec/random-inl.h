// random_draw() of base/random.h for a whole group, in SIMD: 16 Philox counters side by side in 64-bit
// lanes (a product's high half lands where the next round wants it), then one byte shuffle that
// rotates each word for its four elements. Included once per instruction set.
#if defined(CGX_RANDOM_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CGX_RANDOM_INL_H_
#undef CGX_RANDOM_INL_H_
#else
#define CGX_RANDOM_INL_H_
#endif

#include "base/random.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace cgx {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128

HWY_NOINLINE void group_draws(const RandomKey& key, uint32_t group, uint32_t* HWY_RESTRICT draws) {
  for (uint32_t lane = 0; lane < kGroupLanes; ++lane) {
    uint32_t words[4];
    random_lane(key, group, lane, words);
    for (uint32_t i = 0; i < 16; ++i)
      draws[i / 4 * 64 + 4 * lane + i % 4] = draw_from_word(words[i / 4], i % 4);
  }
}

#else

// Words of 16 consecutive counters: word w of lane l at words[16 w + l].
inline HWY_ATTR void philox_group(const RandomKey& key, uint32_t group, uint32_t* HWY_RESTRICT words) {
  const hn::ScalableTag<uint64_t> d;
  const hn::Repartition<uint32_t, decltype(d)> d32;
  const auto m0 = hn::BitCast(d32, hn::Set(d, 0xD2511F53u));
  const auto m1 = hn::BitCast(d32, hn::Set(d, 0xCD9E8D57u));
  HWY_ALIGN uint64_t wide[4 * kGroupLanes];
  for (size_t lane = 0; lane < kGroupLanes; lane += hn::Lanes(d)) {
    // Only the low half of each 64-bit lane counts; the high one is whatever products left there.
    auto c0 = hn::Iota(d, uint64_t{group} * kGroupLanes + lane);
    auto c1 = hn::Set(d, uint64_t{key.tensor});
    auto c2 = hn::Set(d, uint64_t{key.operation});
    auto c3 = hn::Set(d, uint64_t{key.rank} | (uint64_t{key.stage} << 16));
    uint32_t k0 = static_cast<uint32_t>(key.seed);
    uint32_t k1 = static_cast<uint32_t>(key.seed >> 32);
    for (int round = 0; round < 7; ++round) {
      const auto p0 = hn::MulEven(hn::BitCast(d32, c0), m0);
      const auto p1 = hn::MulEven(hn::BitCast(d32, c2), m1);
      c0 = hn::Xor(hn::Xor(hn::ShiftRight<32>(p1), c1), hn::Set(d, uint64_t{k0}));
      c2 = hn::Xor(hn::Xor(hn::ShiftRight<32>(p0), c3), hn::Set(d, uint64_t{k1}));
      c1 = p1;
      c3 = p0;
      k0 += 0x9E3779B9u;
      k1 += 0xBB67AE85u;
    }
    hn::Store(c0, d, wide + lane);
    hn::Store(c1, d, wide + kGroupLanes + lane);
    hn::Store(c2, d, wide + 2 * kGroupLanes + lane);
    hn::Store(c3, d, wide + 3 * kGroupLanes + lane);
  }
  for (size_t i = 0; i < 4 * kGroupLanes; ++i) words[i] = static_cast<uint32_t>(wide[i]);
}

// draws[i] = random_draw(key, 256 group + i).
HWY_NOINLINE HWY_ATTR void group_draws(const RandomKey& key, uint32_t group, uint32_t* HWY_RESTRICT draws) {
  // Byte k of the draw of element 4 l + b is byte (b + 1 + k) % 4 of word l.
  HWY_ALIGN static constexpr uint8_t kRotate[64] = {
      1,  2,  3,  0,  2,  3,  0,  1,  3,  0,  1,  2,  0,  1,  2,  3,   //
      5,  6,  7,  4,  6,  7,  4,  5,  7,  4,  5,  6,  4,  5,  6,  7,   //
      9,  10, 11, 8,  10, 11, 8,  9,  11, 8,  9,  10, 8,  9,  10, 11,  //
      13, 14, 15, 12, 14, 15, 12, 13, 15, 12, 13, 14, 12, 13, 14, 15};
  HWY_ALIGN uint32_t words[4 * kGroupLanes];
  philox_group(key, group, words);
  const hn::CappedTag<uint8_t, 64> d;
  const hn::Repartition<uint32_t, decltype(d)> d32;
  const size_t lanes = hn::Lanes(d);
  for (size_t word = 0; word < 4 * kGroupLanes; word += 4) {
    const auto four = hn::BitCast(d, hn::LoadDup128(d32, words + word));
    for (size_t byte = 0; byte < 64; byte += lanes) {
      const auto rotated = hn::TableLookupBytes(four, hn::Load(d, kRotate + byte));
      hn::Store(hn::BitCast(d32, rotated), d32, draws + 4 * word + byte / 4);
    }
  }
}

#endif

}  // namespace HWY_NAMESPACE
}  // namespace cgx
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
