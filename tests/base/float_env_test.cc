// The environment guard: IEEE defaults inside, the caller's own again outside.
#include "base/float_env.h"

#include <gtest/gtest.h>

#include <cfenv>

namespace cgx {
namespace {

TEST(FloatEnvironment, RoundsToNearestInsideAndGivesTheCallersModeBack) {
  ASSERT_EQ(std::fesetround(FE_UPWARD), 0);
  {
    const FloatEnvironment environment;
    EXPECT_EQ(std::fegetround(), FE_TONEAREST);
  }
  EXPECT_EQ(std::fegetround(), FE_UPWARD);
  ASSERT_EQ(std::fesetround(FE_TONEAREST), 0);
}

#if defined(__SSE__)
TEST(FloatEnvironment, SubnormalsAreNumbersInside) {
  const unsigned saved = _mm_getcsr();
  _mm_setcsr(saved | 0x8040u);  // flush to zero, subnormals are zeros
  volatile float half = 0.5f;
  volatile float least = 0x1p-126f;
  const float flushed = least * half;
  float kept = 0;
  {
    const FloatEnvironment environment;
    kept = least * half;
  }
  EXPECT_EQ(_mm_getcsr() & 0x8040u, 0x8040u);
  _mm_setcsr(saved);
  EXPECT_EQ(flushed, 0.0f);
  EXPECT_EQ(kept, 0x1p-127f);
}
#endif

}  // namespace
}  // namespace cgx
