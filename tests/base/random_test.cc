// The random stream: known answers of Philox, and the layout that the wire format freezes.
#include "base/random.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

namespace cgx {
namespace {

TEST(Random, IsPhilox4x32WithSevenRounds) {
  // Random123's published answers for philox4x32-7: all zeros, all ones.
  const RandomKey zeros;
  uint32_t words[4];
  random_lane(zeros, 0, 0, words);
  EXPECT_EQ(words[0], 0x5f6fb709u);
  EXPECT_EQ(words[1], 0x0d893f64u);
  EXPECT_EQ(words[2], 0x4f121f81u);
  EXPECT_EQ(words[3], 0x4f730a48u);
}

TEST(Random, ADrawIsItsWordWithItsOwnByteOnTop) {
  const RandomKey key = {.seed = 1, .operation = 2, .tensor = 3, .rank = 4, .stage = 5};
  for (uint64_t element : {0ull, 5ull, 63ull, 64ull, 255ull, 256ull, 100000ull, (1ull << 33) + 7}) {
    const auto group = static_cast<uint32_t>(element / 256);
    const uint32_t word = static_cast<uint32_t>(element % 256) / 64;
    const uint32_t lane = static_cast<uint32_t>(element % 64) / 4;
    const uint32_t byte = static_cast<uint32_t>(element % 4);
    uint32_t words[4];
    random_lane(key, group, lane, words);
    const uint32_t draw = random_draw(key, element);
    EXPECT_EQ(draw >> 24, (words[word] >> (8 * byte)) & 0xffu) << element;
    const uint64_t twice = (static_cast<uint64_t>(words[word]) << 32) | words[word];
    EXPECT_EQ(draw, static_cast<uint32_t>(twice >> ((8 * byte + 8) % 32))) << element;
  }
}

TEST(Random, EveryPartOfTheKeyCounts) {
  std::set<uint32_t> draws;
  draws.insert(random_draw({.seed = 1}, 0));
  draws.insert(random_draw({.seed = uint64_t{1} << 32}, 0));
  draws.insert(random_draw({.operation = 1}, 0));
  draws.insert(random_draw({.tensor = 1}, 0));
  draws.insert(random_draw({.rank = 1}, 0));
  draws.insert(random_draw({.stage = 1}, 0));
  draws.insert(random_draw({}, 0));
  draws.insert(random_draw({}, 256));
  EXPECT_EQ(draws.size(), 8u);
}

TEST(Random, DrawsAreUniformAndNeighboursUncorrelated) {
  constexpr int kDraws = 1 << 20;
  double sum = 0;
  double product = 0;
  double before = 0;
  int top[256] = {};
  for (int i = 0; i < kDraws; ++i) {
    const uint32_t draw = random_draw({.seed = 9}, static_cast<uint64_t>(i));
    const double u = std::ldexp(static_cast<double>(draw), -32) - 0.5;
    sum += u;
    product += u * before;
    before = u;
    ++top[draw >> 24];
  }
  // A mean of n uniforms deviates by sqrt(1 / 12 n), a mean product by 1 / (12 sqrt(n)); five of each.
  const double n = kDraws;
  EXPECT_LT(std::fabs(sum / n), 5 * std::sqrt(1 / (12 * n)));
  EXPECT_LT(std::fabs(product / n), 5 / (12 * std::sqrt(n)));
  double chi = 0;
  for (const int count : top) chi += std::pow(count - n / 256, 2) / (n / 256);
  EXPECT_NEAR(chi, 255, 5 * std::sqrt(2 * 255.0));  // a chi-squared of 255 deviates by sqrt(2 * 255)
}

}  // namespace
}  // namespace cgx
