// Every half, and every place where rounding to it turns.
#include "base/half.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>

namespace cgx {
namespace {

// The value of a half by its definition: sign, exponent bits, fraction bits.
double value_of(uint32_t h, int exponent_bits, int fraction_bits) {
  const uint32_t fraction = h & ((1u << fraction_bits) - 1);
  const int field = static_cast<int>((h >> fraction_bits) & ((1u << exponent_bits) - 1));
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const double sign = (h & 0x8000u) != 0 ? -1.0 : 1.0;
  if (field == (1 << exponent_bits) - 1) return fraction == 0 ? sign * HUGE_VAL : NAN;
  const double significand =
      (field == 0 ? 0.0 : 1.0) + std::ldexp(static_cast<double>(fraction), -fraction_bits);
  return sign * std::ldexp(significand, std::max(field, 1) - bias);
}

struct Fp16 {
  static constexpr int kExponent = 5;
  static constexpr int kFraction = 10;
  static float widen(uint16_t h) { return f16_to_f32(h); }
  static uint16_t narrow(float x) { return f32_to_f16(x); }
};
struct Bf16 {
  static constexpr int kExponent = 8;
  static constexpr int kFraction = 7;
  static float widen(uint16_t h) { return bf16_to_f32(h); }
  static uint16_t narrow(float x) { return f32_to_bf16(x); }
};

template <typename T>
class Half : public testing::Test {};
using Types = testing::Types<Fp16, Bf16>;
TYPED_TEST_SUITE(Half, Types);

TYPED_TEST(Half, EveryOneWidensToItsValueAndComesBack) {
  for (uint32_t h = 0; h < 0x10000; ++h) {
    const float wide = TypeParam::widen(static_cast<uint16_t>(h));
    const double value = value_of(h, TypeParam::kExponent, TypeParam::kFraction);
    if (std::isnan(value)) {
      ASSERT_TRUE(std::isnan(wide)) << h;
      ASSERT_TRUE(std::isnan(value_of(TypeParam::narrow(wide), TypeParam::kExponent, TypeParam::kFraction)))
          << h;
    } else {
      ASSERT_EQ(static_cast<double>(wide), value) << h;
      ASSERT_EQ(std::signbit(wide), (h & 0x8000u) != 0) << h;
      ASSERT_EQ(TypeParam::narrow(wide), h);
    }
  }
}

// Narrowing is monotone, so it is right everywhere if it is right on both sides of every midpoint.
TYPED_TEST(Half, EveryMidpointRoundsToEvenAndItsNeighboursToTheNearer) {
  const uint32_t infinity = ((1u << TypeParam::kExponent) - 1) << TypeParam::kFraction;
  for (uint32_t h = 0; h < infinity; ++h) {
    const double low = value_of(h, TypeParam::kExponent, TypeParam::kFraction);
    // Above the largest finite half the next one would be 2^(bias + 1): there rounding turns to Inf.
    const double high = h + 1 == infinity
                            ? 2 * low - value_of(h - 1, TypeParam::kExponent, TypeParam::kFraction)
                            : value_of(h + 1, TypeParam::kExponent, TypeParam::kFraction);
    const float middle = static_cast<float>((low + high) / 2);
    ASSERT_EQ(static_cast<double>(middle), (low + high) / 2) << h;
    const uint32_t even = (h & 1) == 0 ? h : h + 1;
    for (const uint32_t sign : {0u, 0x8000u}) {
      const float s = sign == 0 ? 1.0f : -1.0f;
      ASSERT_EQ(TypeParam::narrow(s * middle), even | sign) << h;
      ASSERT_EQ(TypeParam::narrow(s * std::nextafter(middle, 0.0f)), h | sign) << h;
      ASSERT_EQ(TypeParam::narrow(s * std::nextafter(middle, HUGE_VALF)), (h + 1) | sign) << h;
    }
  }
}

TYPED_TEST(Half, InfinityStaysAndNanStaysNan) {
  const uint32_t infinity = ((1u << TypeParam::kExponent) - 1) << TypeParam::kFraction;
  EXPECT_EQ(TypeParam::narrow(HUGE_VALF), infinity);
  EXPECT_EQ(TypeParam::narrow(-HUGE_VALF), infinity | 0x8000u);
  for (const uint32_t nan : {0x7f800001u, 0x7fc00000u, 0x7fffffffu, 0xff800001u, 0xffffffffu}) {
    const uint16_t h = TypeParam::narrow(bits_float(nan));
    EXPECT_GT(h & 0x7fffu, infinity) << nan;
    EXPECT_EQ((h >> 15) != 0, (nan >> 31) != 0);
  }
}

}  // namespace
}  // namespace cgx
