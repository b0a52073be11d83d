// Values at the edges of fp32, and environments that would bend arithmetic.
#include <limits>

#include "base/half.h"
#include "inputs.h"

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

namespace cgx {
namespace {

constexpr float kMax = std::numeric_limits<float>::max();
constexpr float kInf = std::numeric_limits<float>::infinity();

TEST(SpecialValues, AConstantBucketIsExact) {
  for (const float value : {0.1f, -3.7e-41f, kMax, -kMax, 1e-45f, 123456.0f}) {
    const std::vector<float> x(1300, value);
    EXPECT_EQ(round_trip(spec_of("maxmin:bits=4"), x), x) << value;
    for (const float y : round_trip(spec_of("dither:bits=4"), x)) {
      EXPECT_NEAR(y / value, 1.0f, 0x1p-23f) << "seven times a rounded seventh of " << value;
    }
    EXPECT_EQ(round_trip(spec_of("natdither:bits=4"), x), x) << value;
  }
}

// Scaled by a power of two, all of a codec's arithmetic scales: codes are the same, values exact.
TEST(SpecialValues, TinyAndHugeGradientsKeepTheirShape) {
  for (const char* text : {"maxmin:bits=4", "maxmin:bits=8,bucket=32", "dither:bits=4",
                           "dither:bits=8,norm=2", "natdither:bits=4", "natdither:bits=4,norm=1"}) {
    const CodecSpec spec = spec_of(text);
    const auto x = gaussian(2048, 1);
    const auto y = round_trip(spec, x);
    for (const int exponent : {-90, -60, 60, 110}) {
      auto scaled = x;
      auto expected = y;
      for (float& v : scaled) v = std::ldexp(v, exponent);
      for (float& v : expected) v = std::ldexp(v, exponent);
      EXPECT_EQ(round_trip(spec, scaled), expected) << text << " 2^" << exponent;
    }
    // 1e-40 is subnormal: x itself is rounded to some 16 bits, the error may differ by that much.
    auto subnormal = x;
    for (float& v : subnormal) v *= 1e-40f;
    EXPECT_NEAR(nmse(round_trip(spec, subnormal), subnormal), nmse(y, x), 0.05 * nmse(y, x) + 1e-6) << text;
  }
}

TEST(SpecialValues, TheWidestBucketOfMaxminKeepsItsEnds) {
  for (const int bits : {1, 2, 3, 4, 7, 8}) {
    const CodecSpec spec = spec_of(fmt::format("maxmin:bits={},bucket=64", bits));
    std::vector<float> x(256, 0.0f);
    for (size_t i = 0; i < x.size(); i += 2) x[i] = i % 4 == 0 ? kMax : -kMax;
    const auto y = round_trip(spec, x);
    // Two roundings of a value near FLT_MAX: 4 ulps are plenty.
    for (size_t i = 0; i < x.size(); i += 2) EXPECT_NEAR(y[i] / x[i], 1.0f, 0x1p-21f) << bits;
  }
}

TEST(SpecialValues, OneHugeElementLeavesOtherBucketsAlone) {
  const CodecSpec spec = spec_of("maxmin:bits=8,bucket=256");
  auto x = gaussian(1024, 2);
  const auto clean = round_trip(spec, x);
  x[300] = kMax;
  const auto y = round_trip(spec, x);
  for (size_t i = 0; i < 256; ++i) EXPECT_EQ(y[i], clean[i]);
  for (size_t i = 512; i < 1024; ++i) EXPECT_EQ(y[i], clean[i]);
}

TEST(SpecialValues, SubnormalsRoundFairlyInNaturalCompression) {
  // 1e-45 is the least subnormal: 2^-126 with probability 2^-23, else 0; half of 2^-126: a fair coin.
  const std::vector<float> x(20000, 0x1p-127f);
  size_t up = 0;
  for (const float v : round_trip(spec_of("natural"), x)) {
    ASSERT_TRUE(v == 0.0f || v == 0x1p-126f);
    up += v != 0;
  }
  EXPECT_NEAR(static_cast<double>(up), 10000, 3 * std::sqrt(20000 * 0.25));
}

TEST(SpecialValues, NaturalGivesPowersOfTwoUnchanged) {
  std::vector<float> x;
  for (int e = -126; e <= 127; ++e) x.insert(x.end(), {std::ldexp(1.0f, e), -std::ldexp(1.0f, e)});
  EXPECT_EQ(round_trip(spec_of("natural"), x), x);
}

TEST(SpecialValues, InfinityKeepsItsSignInNaturalCompression) {
  std::vector<float> x(300, 1.0f);
  x[5] = kInf;
  x[6] = -kInf;
  for (const char* text : {"natural", "natural8", "cast:fp16", "cast:bf16"}) {
    EXPECT_EQ(round_trip(spec_of(text), x), x) << text;
  }
}

TEST(SpecialValues, WhatIsAboveTheRangeSaturatesAndIsCounted) {
  struct Case {
    const char* spec;
    float above;
    float largest;
  };
  for (const Case& c : {Case{"natural", kMax, 0x1p127f}, Case{"natural8", 0x1.8p16f, 0x1p16f},
                        Case{"natural8:bias=126", 2.5f, 1.0f}, Case{"cast:fp16", 70000.0f, 65504.0f},
                        Case{"cast:bf16", kMax, bf16_to_f32(0x7f7f)}}) {
    std::vector<float> x(1000, 0.25f);
    x[3] = c.above;
    x[999] = -c.above;
    CodecCounts counts;
    BlockContext context;
    context.counts = &counts;
    const auto y = round_trip(spec_of(c.spec), x, context);
    EXPECT_EQ(y[3], c.largest) << c.spec;
    EXPECT_EQ(y[999], -c.largest) << c.spec;
    EXPECT_EQ(counts.saturated, 2u) << c.spec;
    EXPECT_EQ(counts.non_finite, 0u) << c.spec;
  }
}

TEST(SpecialValues, GridPointsEncodeToThemselves) {
  // Multiples of 1/8 between -1 and 7/8: what maxmin's 16 levels between them hit exactly, sums included.
  std::vector<float> x(1024);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 16) / 8 - 1;
  EXPECT_EQ(round_trip(spec_of("maxmin:bits=4"), x), x);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(static_cast<int>(i % 15) - 7);
  EXPECT_EQ(round_trip(spec_of("dither:bits=4"), x), x);
  for (size_t i = 0; i < x.size(); ++i) x[i] = std::ldexp(i % 2 == 0 ? 1.0f : -1.0f, static_cast<int>(i % 7));
  EXPECT_EQ(round_trip(spec_of("natdither:bits=4"), x), x);
  EXPECT_EQ(round_trip(spec_of("natural8"), x), x);
}

#if defined(__SSE__)
TEST(Environment, AProcessThatFlushesSubnormalsChangesNothing) {
  const unsigned saved = _mm_getcsr();
  for (const char* text : {"maxmin:bits=4", "dither:bits=4,norm=2", "natdither:bits=4", "natural8:bias=127",
                           "cast:fp16", "natural", "randk:ratio=0.1", "topk:ratio=0.1"}) {
    const CodecSpec spec = spec_of(text);
    const auto x = gaussian(3000, 3, 1e-39f);
    const auto block = encode_all(spec, x);
    const auto decoded = decode_all(spec, block, x.size());
    const unsigned bent = 0x9fc0u | 0x6000u;  // flush to zero, subnormals are zeros, round towards zero
    _mm_setcsr(bent);
    const auto bent_block = encode_all(spec, x);
    const auto bent_decoded = decode_all(spec, block, x.size());
    EXPECT_EQ(_mm_getcsr() & 0xffc0u, bent & 0xffc0u) << "the caller's environment is given back";
    _mm_setcsr(saved);
    EXPECT_EQ(bent_block, block) << text;
    EXPECT_EQ(bits_of(bent_decoded), bits_of(decoded)) << text;
  }
}
#endif

// min + unit * level in two roundings and in one (fused) differ for these; the bytes promise two.
TEST(Environment, ProductsAndSumsAreNotContracted) {
  std::vector<float> x(512);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i) * 0.1f + 1000.0f / 3.0f;
  const auto y = round_trip(spec_of("maxmin:bits=8,rounding=nearest"), x);
  const float min = x[0];
  const float unit = (x[511] - x[0]) / 255.0f;
  size_t would_differ = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const float level = std::nearbyint((y[i] - min) / unit);
    const volatile float product = unit * level;
    const float two = min + product;
    EXPECT_EQ(y[i], two);
    would_differ += std::fma(unit, level, min) != two;
  }
  EXPECT_GT(would_differ, 0u) << "the canary sings only where fusing would show";
}

TEST(Dispatch, AnUnknownPathIsAnErrorThatNamesTheOthers) {
  const Status status = force_cpu_path("mmx");
  EXPECT_EQ(status.code(), Code::kInvalidArgument);
  EXPECT_NE(status.message().find("scalar"), std::string::npos) << status.message();
  EXPECT_EQ(cpu_paths().front(), "scalar");
}

TEST(Arguments, WhatCodecsDoNotTakeIsAnError) {
  uint8_t bytes[64] = {};
  float out[16];
  const CodecSpec spec = spec_of("maxmin");
  EXPECT_EQ(encode(spec, DType::kI32, bytes, 16, {}, {}, bytes).code(), Code::kInvalidArgument);
  EXPECT_EQ(decode(spec, DType::kF64, bytes, 8, Into::kAssign, out).code(), Code::kInvalidArgument);
  EXPECT_EQ(decode_part(spec, DType::kF32, bytes, 16, 8, 17, Into::kAssign, out).code(),
            Code::kInvalidArgument);
  EXPECT_EQ(decode_part(spec, DType::kF32, bytes, 16, 3, 16, Into::kAssign, out).code(),
            Code::kInvalidArgument);
}

}  // namespace
}  // namespace cgx
