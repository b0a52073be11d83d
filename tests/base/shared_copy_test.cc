#include "base/shared_copy.h"

#include <gtest/gtest.h>

#include <cstring>
#include <vector>

namespace cgx {
namespace {

using std::chrono::nanoseconds;

// What a copy of 64 KiB takes by each way, between cores that share a cache and between others, in ns.
struct Cores {
  int64_t past_cache, ordinary;
};
constexpr Cores kShareACache = {2200, 7900};
constexpr Cores kShareNone = {2200, 28000};
constexpr size_t kBytes = 64 << 10;

// How many of `copies` are ordinary ones.
int ordinary_of(int copies, const Cores& cores, SharedCopy& copy) {
  int ordinary = 0;
  for (int i = 0; i < copies; ++i) {
    const bool is_ordinary = copy.choice() == plain_copy;
    ordinary += is_ordinary ? 1 : 0;
    copy.learn(nanoseconds(is_ordinary ? cores.ordinary : cores.past_cache), kBytes);
  }
  return ordinary;
}

TEST(SharedCopy, IsOrdinaryWhereCoresShareACacheAndSeldomTriedWhereTheyDoNot) {
  SharedCopy sharing, apart;
  EXPECT_EQ(sharing.choice(), stream_copy) << "nothing is known yet";
  ordinary_of(1000, kShareACache, sharing);
  EXPECT_GE(ordinary_of(1280, kShareACache, sharing), 1270) << "a trial of the other way every 128 copies";
  ordinary_of(1000, kShareNone, apart);
  EXPECT_LE(ordinary_of(1280, kShareNone, apart), 10);
}

TEST(SharedCopy, FollowsRanksThatMoveToOtherCores) {
  SharedCopy copy;
  ordinary_of(1000, kShareACache, copy);
  EXPECT_LE(ordinary_of(1280, kShareNone, copy), 20) << "seen within a few copies";
  EXPECT_GE(ordinary_of(1280, kShareACache, copy), 1280 - 128 - 10) << "seen at the next trial";
}

TEST(SharedCopy, ACopyThatWasKeptFromItsCoreChangesNothing) {
  SharedCopy copy;
  ordinary_of(1000, kShareACache, copy);
  int ordinary = 0;
  for (int i = 0; i < 128; ++i) {
    const bool was_kept = i % 10 == 0;
    ordinary += ordinary_of(1, was_kept ? Cores{4'000'000, 4'000'000} : kShareACache, copy);
  }
  EXPECT_GE(ordinary, 127) << "one trial";
}

TEST(SharedCopy, MemoryThatIsNewDoesNotDecideForLong) {
  SharedCopy copy;
  copy.learn(nanoseconds(16 * kShareNone.past_cache), kBytes);  // its pages had to be made
  EXPECT_LE(ordinary_of(300, kShareNone, copy), 12);
}

TEST(SharedCopy, CopiesEveryByteByEitherWay) {
  std::vector<uint8_t> from(20'000), to(20'000);
  for (size_t i = 0; i < from.size(); ++i) from[i] = static_cast<uint8_t>(i * 7 + i / 256);
  SharedCopy copy;
  for (const size_t bytes : {size_t{0}, size_t{1}, size_t{63}, size_t{4095}, size_t{4096}, size_t{9000}}) {
    for (size_t offset = 0; offset < 130; ++offset) {
      std::fill(to.begin(), to.end(), uint8_t{0xa5});
      copy.copy(to.data() + offset, from.data() + 1, bytes);
      stream_fence();
      ASSERT_EQ(std::memcmp(to.data() + offset, from.data() + 1, bytes), 0) << bytes << " at " << offset;
      ASSERT_EQ(to[offset + bytes], 0xa5);
    }
  }
}

}  // namespace
}  // namespace cgx
