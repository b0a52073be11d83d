#include "base/two_ways.h"

#include <gtest/gtest.h>

#include <array>

namespace cgx {
namespace {

using std::chrono::nanoseconds;

// How many of `uses` go the second way, where the ways take so long for 1000 of something.
int second_of(int uses, std::array<int64_t, 2> took, TwoWays& ways) {
  int second = 0;
  for (int i = 0; i < uses; ++i) {
    second += static_cast<int>(ways.way());
    ways.learn(nanoseconds(took[ways.way()]), 1000);
  }
  return second;
}

TEST(TwoWays, TakesTheFasterOneAndTriesTheOtherNowAndThen) {
  TwoWays first(1), second(1);
  EXPECT_EQ(first.way(), 0U) << "nothing is known yet";
  second_of(1000, {900, 1000}, first);
  EXPECT_LE(second_of(1280, {900, 1000}, first), 10) << "a trial every 128 uses";
  second_of(1000, {1000, 900}, second);
  EXPECT_GE(second_of(1280, {1000, 900}, second), 1270);
}

TEST(TwoWays, TakesTheSecondForWhatItIsWorth) {
  TwoWays ways(2);
  second_of(1000, {1000, 1900}, ways);
  EXPECT_GE(second_of(1280, {1000, 1900}, ways), 1270);
  EXPECT_LE(second_of(1280, {1000, 2100}, ways), 20) << "seen within a few uses";
}

TEST(TwoWays, AUseThatWasKeptFromItsCoreChangesNothing) {
  TwoWays ways(0.9);
  second_of(1000, {1000, 800}, ways);
  int second = 0;
  for (int i = 0; i < 128; ++i) {
    const bool was_kept = i % 10 == 0;
    second += was_kept ? second_of(1, {4'000'000, 4'000'000}, ways) : second_of(1, {1000, 800}, ways);
  }
  EXPECT_GE(second, 127) << "one trial";
}

TEST(TwoWays, FollowsRanksThatMoveToOtherCores) {
  TwoWays ways(1);
  second_of(1000, {1000, 800}, ways);
  EXPECT_LE(second_of(1280, {1000, 4000}, ways), 20) << "seen within a few uses";
  EXPECT_GE(second_of(1280, {1000, 800}, ways), 1280 - 128 - 10) << "seen at the next trial";
}

TEST(TwoWays, HowMuchIsDoneInAUseDoesNotMatter) {
  TwoWays ways(1);
  int second = 0;
  for (int i = 0; i < 1280; ++i) {
    const size_t amount = i % 7 == 0 ? 100 : 10'000;
    const bool slow = ways.way() == 1;
    second += slow ? 1 : 0;
    ways.learn(nanoseconds(static_cast<int64_t>(amount) * (slow ? 3 : 2)), amount);
  }
  EXPECT_LE(second, 10 + 8) << "trials, which are closer to each other at first";
}

}  // namespace
}  // namespace cgx
