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

// The draws of one group, by its words.
class GroupDraws {
 public:
  CGX_HD explicit GroupDraws(const uint32_t* words) : words_(words) {}

  // Draws of vector k, below 4, of those that begin with element i of the group; kSplit: of elements that are
  // loaded by load_split_bf16(). REQUIRES: i is a multiple of 16 and of kLanes, so that what depends on k is
  // known to the compiler.
  template <bool kSplit = false>
  CGX_HD Draw at(uint32_t i, uint32_t k) const {
#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128
    return draw_from_word(words_[(i + k) / 4], (i + k) % 4);
#else
    if constexpr (kSplit && kLanes > 4) {
      return {words_of_pair(i, k / 2), (1 + k % 2) * 64};
    } else {
      const uint32_t j = k * kLanes;
      return {hn::LoadDup128(WordTag(), word_of(i) + j / 16 * 4), j % 16 * 4};
    }
#endif
  }

#if HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128
  // The first 16 bits of the draws of twice as many elements: of pair k, below 2, of vectors.
  CGX_HD auto halves_at(uint32_t i, uint32_t k) const {
    const ByteTag d8;
    const auto order = hn::Load(d8, kDrawOrders.halves + k * 2 * kLanes % 16 * 2);
    return hn::BitCast(HalfTag(), hn::TableLookupBytes(hn::BitCast(d8, words_of_pair(i, k)), order));
  }
#endif

 private:
  // Word i / 4, a byte an element.
  CGX_HD const uint32_t* word_of(uint32_t i) const {
    return reinterpret_cast<const uint32_t*>(reinterpret_cast<const uint8_t*>(words_) + i);
  }

#if HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128
  // Of the elements of pair k, below 2, of vectors: in each block of halves the words of its 16 elements.
  CGX_HD U32::Vector words_of_pair(uint32_t i, uint32_t k) const {
    const uint32_t* first = word_of(i) + k * 2 * kLanes / 16 * 4;
    const auto words = hn::LoadDup128(WordTag(), first);
    if constexpr (kLanes < 16) return words;
    // 32 elements, of two blocks
    return hn::IfThenElse(hn::FirstN(WordTag(), 8), words, hn::LoadDup128(WordTag(), first + 4));
  }
#endif

  const uint32_t* words_;
};

// What all groups of one key have in common, and the words of one of them and its neighbours.
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
    const uint64_t of_operation = uint64_t{kMultiplier1} * key.operation;
    const auto c0 = static_cast<uint32_t>((of_operation >> 32) ^ key.tensor ^ keys_[0][0]);
    const uint64_t second = uint64_t{kMultiplier0} * c0;
    keys_[0][1] ^= uint64_t{key.rank} | (uint64_t{key.stage} << 16);
    keys_[1][0] ^= static_cast<uint32_t>(of_operation);
    keys_[1][1] ^= second >> 32;
    after_second_ = second;
    spread_keys();
  }

  // A group that follows another may be there already.
  void seek(uint32_t group) {
    const uint32_t first = group - group % kGroups;
    if (first != first_group_ || !filled_) fill(first);
    words_ = all_words_[group % kGroups];
  }

  // Of the group that was sought last.
  CGX_HD GroupDraws group() const { return GroupDraws(words_); }

  // Of elements [first, first + n) of the group, at their places in out[0, kGroup).
  HWY_NOINLINE void draws(uint32_t first, uint32_t n, uint32_t* HWY_RESTRICT out) const {
    for (uint32_t i = first - first % (4 * kLanes); i < first + n; i += 4 * kLanes) {
      for (uint32_t k = 0; k < 4; ++k) {
        const U32 lanes = group().at(i, k) >> 0;
        memcpy(out + i + k * kLanes, &lanes, sizeof(lanes));
      }
    }
  }

 private:
  static constexpr uint32_t kRounds = 7;
  static constexpr uint32_t kMultiplier0 = 0xD2511F53u;
  static constexpr uint32_t kMultiplier1 = 0xCD9E8D57u;

#if HWY_TARGET == HWY_SCALAR || HWY_TARGET == HWY_EMU128

  static constexpr uint32_t kGroups = 1;
  static constexpr uint32_t kCounters = 1;
  void spread_keys() {}

  CGX_HD void philox(uint32_t group, uint32_t lane) {
    uint32_t words[4];
    random_lane(key_, group, lane, words);
    for (uint32_t w = 0; w < 4; ++w) all_words_[0][w * kGroupLanes + lane] = words[w];
  }

#else

  // Four vectors of counters at once keep the multipliers busy: two groups of the widest. Where there are
  // only 16 registers, two: the next two do not wait for them.
  static constexpr uint32_t kPairs = kLanes == 16 ? 2 : 1;
  static constexpr uint32_t kCounters = kPairs * kLanes;
  static constexpr uint32_t kGroups = kCounters > kGroupLanes ? kCounters / kGroupLanes : 1;

  using WideTag = hn::ScalableTag<uint64_t>;
  using Wide = hn::Vec<WideTag>;
  struct Counters {  // only the low half of each 64-bit lane counts
    Wide c0, c1, c2, c3;
  };

#if HWY_TARGET == HWY_AVX3
  // An operand of one word for all lanes costs nothing.
  void spread_keys() {}
  CGX_HD Wide round_key(uint32_t round, uint32_t i) const { return hn::Set(WideTag(), keys_[round][i]); }
#else
  void spread_keys() {
    for (uint32_t round = 0; round < kRounds; ++round) {
      for (uint32_t i = 0; i < 2; ++i) {
        hn::Store(hn::Set(WideTag(), keys_[round][i]), WideTag(), wide_keys_[round][i]);
      }
    }
  }
  CGX_HD Wide round_key(uint32_t round, uint32_t i) const {
    return hn::Load(WideTag(), wide_keys_[round][i]);
  }
  HWY_ALIGN uint64_t wide_keys_[kRounds][2][kLanes / 2];
#endif

  // Every second counter from `counter` on, after two rounds.
  CGX_HD Counters begin(uint32_t counter) const {
    const WideTag d;
    const auto c0 = hn::Add(hn::Set(d, uint64_t{counter}), hn::Add(hn::Iota(d, 0), hn::Iota(d, 0)));
    const auto p0 = product(c0, kMultiplier0);
    const auto c2 = hn::Xor(hn::ShiftRight<32>(p0), round_key(0, 1));
    const auto p1 = product(c2, kMultiplier1);
    return {hn::Xor(hn::ShiftRight<32>(p1), round_key(1, 0)), p1, hn::Xor(p0, round_key(1, 1)),
            hn::Set(d, after_second_)};
  }
  CGX_HD static Wide product(Wide counter, uint32_t multiplier) {
    return hn::MulEven(hn::BitCast(WordTag(), counter), hn::Set(WordTag(), multiplier));
  }

  // Words of counters [lane, lane + kCounters) of the groups.
  CGX_HD void philox(uint32_t group, uint32_t lane) {
    const uint32_t counter = group * kGroupLanes + lane;
    Counters c[2 * kPairs];
    for (uint32_t pair = 0; pair < kPairs; ++pair) {
      c[2 * pair] = begin(counter + pair * kLanes);
      c[2 * pair + 1] = begin(counter + pair * kLanes + 1);
    }
    HWY_UNROLL(5)
    for (uint32_t round = 2; round < kRounds; ++round) {
      const auto k0 = round_key(round, 0);
      const auto k1 = round_key(round, 1);
      HWY_UNROLL(4)
      for (Counters& v : c) {
        const auto p0 = product(v.c0, kMultiplier0);
        const auto p1 = product(v.c2, kMultiplier1);
        v = {hn::Xor3(hn::ShiftRight<32>(p1), v.c1, k0), p1, hn::Xor3(hn::ShiftRight<32>(p0), v.c3, k1), p0};
      }
    }
    for (uint32_t pair = 0; pair < kPairs; ++pair) {
      const uint32_t at = lane + pair * kLanes;
      uint32_t* words = all_words_[at / kGroupLanes] + at % kGroupLanes;
      merge(c[2 * pair + 1].c0, c[2 * pair].c0, words);
      merge(c[2 * pair + 1].c1, c[2 * pair].c1, words + kGroupLanes);
      merge(c[2 * pair + 1].c2, c[2 * pair].c2, words + 2 * kGroupLanes);
      merge(c[2 * pair + 1].c3, c[2 * pair].c3, words + 3 * kGroupLanes);
    }
  }

  CGX_HD static void merge(Wide odd, Wide even, uint32_t* out) {
    const WordTag d;
    const auto high = hn::BitCast(d, hn::ShiftLeft<32>(odd));
    hn::Store(hn::OddEven(high, hn::BitCast(d, even)), d, out);
  }

#endif

  HWY_NOINLINE void fill(uint32_t first) {
    for (uint32_t lane = 0; lane < kGroups * kGroupLanes; lane += kCounters) philox(first, lane);
    first_group_ = first;
    filled_ = true;
  }

  HWY_ALIGN uint32_t all_words_[kGroups][4 * kGroupLanes];  // of a group: word w of lane l at 16 w + l
  const uint32_t* words_ = nullptr;
  uint32_t first_group_ = 0;
  bool filled_ = false;
  uint64_t keys_[kRounds][2];
  uint64_t after_second_;
  RandomKey key_;
};

}  // namespace HWY_NAMESPACE
}  // namespace cgx
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
