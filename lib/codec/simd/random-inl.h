// random_draw() of base/random.h for a group at a time: 16 Philox counters side by side in 64-bit lanes (a
// product's high half lands where the next round wants it); each draw is made of its word, by one byte
// shuffle, where it is used. Included once per instruction set.
#if defined(CGX_RANDOM_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CGX_RANDOM_INL_H_
#undef CGX_RANDOM_INL_H_
#else
#define CGX_RANDOM_INL_H_
#endif

#include "base/random.h"
#include "codec/simd/lanes-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace cgx {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

// What all groups of one key have in common, and the words of one of them.
class GroupRandom {
 public:
  explicit GroupRandom(const RandomKey& key) : key_(key) {
    uint32_t k0 = static_cast<uint32_t>(key.seed);
    uint32_t k1 = static_cast<uint32_t>(key.seed >> 32);
    for (uint32_t round = 0; round < kRounds; ++round) {
      keys_[round][0] = k0;
      keys_[round][1] = k1;
      k0 += 0x9E3779B9u;
      k1 += 0xBB67AE85u;
    }
    // Only the first counter differs in a group: half of the first two rounds is the same for all.
    const uint64_t first = uint64_t{kMultiplier1} * key.operation;
    const auto c0 = static_cast<uint32_t>((first >> 32) ^ key.tensor ^ keys_[0][0]);
    const uint64_t second = uint64_t{kMultiplier0} * c0;
    keys_[0][1] ^= uint64_t{key.rank} | (uint64_t{key.stage} << 16);
    keys_[1][0] ^= static_cast<uint32_t>(first);
    keys_[1][1] ^= second >> 32;
    after_second_ = second;
  }

  HWY_NOINLINE void seek(uint32_t group) {
    for (uint32_t lane = 0; lane < kGroupLanes; lane += kLanes) philox(group, lane);
  }

  // Draws of elements [i, i + kLanes) of the group. REQUIRES: i is a multiple of kLanes.
  CGX_HD U32 at(uint32_t i) const {
#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128
    return draw_from_word(words_[i / 4], i % 4);
#else
    // Byte k of the draw of element 4 l + b is byte (b + 1 + k) % 4 of word l.
    HWY_ALIGN static constexpr uint8_t kRotate[64] = {
        1,  2,  3,  0,  2,  3,  0,  1,  3,  0,  1,  2,  0,  1,  2,  3,   //
        5,  6,  7,  4,  6,  7,  4,  5,  7,  4,  5,  6,  4,  5,  6,  7,   //
        9,  10, 11, 8,  10, 11, 8,  9,  11, 8,  9,  10, 8,  9,  10, 11,  //
        13, 14, 15, 12, 14, 15, 12, 13, 15, 12, 13, 14, 12, 13, 14, 15};
    const hn::Repartition<uint8_t, WordTag> d8;
    const auto words = hn::LoadDup128(WordTag(), words_ + i / 16 * 4);
    const auto order = hn::Load(d8, kRotate + i % 16 * 4);
    return U32(hn::BitCast(WordTag(), hn::TableLookupBytes(hn::BitCast(d8, words), order)));
#endif
  }

  // All 256.
  HWY_NOINLINE void draws(uint32_t* HWY_RESTRICT out) const {
    for (uint32_t i = 0; i < kGroup; i += kLanes) {
      const U32 lanes = at(i);
      memcpy(out + i, &lanes, sizeof(lanes));
    }
  }

 private:
  static constexpr uint32_t kRounds = 7;
  static constexpr uint32_t kMultiplier0 = 0xD2511F53u;
  static constexpr uint32_t kMultiplier1 = 0xCD9E8D57u;

#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128

  CGX_HD void philox(uint32_t group, uint32_t lane) {
    uint32_t words[4];
    random_lane(key_, group, lane, words);
    for (uint32_t w = 0; w < 4; ++w) words_[w * kGroupLanes + lane] = words[w];
  }

#else

  struct Counters {  // only the low half of each 64-bit lane counts
    hn::Vec<hn::ScalableTag<uint64_t> > c0, c1, c2, c3;
  };

  // Every second counter from `counter` on.
  CGX_HD Counters rounds(uint32_t counter) const {
    const hn::ScalableTag<uint64_t> d;
    const WordTag d32;
    const auto m0 = hn::BitCast(d32, hn::Set(d, uint64_t{kMultiplier0}));
    const auto m1 = hn::BitCast(d32, hn::Set(d, uint64_t{kMultiplier1}));
    const auto c0 = hn::Add(hn::Set(d, uint64_t{counter}), hn::Add(hn::Iota(d, 0), hn::Iota(d, 0)));
    const auto p0 = hn::MulEven(hn::BitCast(d32, c0), m0);
    const auto c2 = hn::Xor(hn::ShiftRight<32>(p0), hn::Set(d, keys_[0][1]));
    const auto p1 = hn::MulEven(hn::BitCast(d32, c2), m1);
    Counters c = {hn::Xor(hn::ShiftRight<32>(p1), hn::Set(d, keys_[1][0])), p1,
                  hn::Xor(p0, hn::Set(d, keys_[1][1])), hn::Set(d, after_second_)};
    for (uint32_t round = 2; round < kRounds; ++round) {
      const auto q0 = hn::MulEven(hn::BitCast(d32, c.c0), m0);
      const auto q1 = hn::MulEven(hn::BitCast(d32, c.c2), m1);
      c.c0 = hn::Xor3(hn::ShiftRight<32>(q1), c.c1, hn::Set(d, keys_[round][0]));
      c.c2 = hn::Xor3(hn::ShiftRight<32>(q0), c.c3, hn::Set(d, keys_[round][1]));
      c.c1 = q1;
      c.c3 = q0;
    }
    return c;
  }

  // Words of counters [lane, lane + kLanes) of the group.
  CGX_HD void philox(uint32_t group, uint32_t lane) {
    const Counters even = rounds(group * kGroupLanes + lane);
    const Counters odd = rounds(group * kGroupLanes + lane + 1);
    merge(odd.c0, even.c0, words_ + lane);
    merge(odd.c1, even.c1, words_ + kGroupLanes + lane);
    merge(odd.c2, even.c2, words_ + 2 * kGroupLanes + lane);
    merge(odd.c3, even.c3, words_ + 3 * kGroupLanes + lane);
  }

  using Wide = hn::Vec<hn::ScalableTag<uint64_t> >;
  CGX_HD static void merge(Wide odd, Wide even, uint32_t* out) {
    const WordTag d;
    const auto high = hn::BitCast(d, hn::ShiftLeft<32>(odd));
    hn::Store(hn::OddEven(high, hn::BitCast(d, even)), d, out);
  }

#endif

  HWY_ALIGN uint32_t words_[4 * kGroupLanes];  // word w of lane l at 16 w + l
  uint64_t keys_[kRounds][2];
  uint64_t after_second_;
  RandomKey key_;
};

}  // namespace HWY_NAMESPACE
}  // namespace cgx
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
