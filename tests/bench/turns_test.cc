// Who comes after whom within rounds.
#include "bench/turns.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <vector>

namespace cgx::bench {
namespace {

TEST(Turns, EachIsAsOftenAtEveryPlaceAndRightBehindEachOther) {
  for (size_t count = 1; count <= 13; ++count) {
    std::vector<std::vector<int>> at(count, std::vector<int>(count));
    std::vector<std::vector<int>> behind(count, std::vector<int>(count));
    for (size_t round = 0; round < 2 * count; ++round) {
      for (size_t place = 0; place < count; ++place) {
        const size_t one = whose_turn(place, round, count);
        ASSERT_LT(one, count);
        ++at[one][place];
        if (place != 0) ++behind[one][whose_turn(place - 1, round, count)];
      }
    }
    for (size_t one = 0; one < count; ++one) {
      for (size_t other = 0; other < count; ++other) {
        EXPECT_EQ(at[one][other], 2) << count;
        EXPECT_EQ(behind[one][other], one == other ? 0 : 2) << count;
      }
    }
  }
}

}  // namespace
}  // namespace cgx::bench
