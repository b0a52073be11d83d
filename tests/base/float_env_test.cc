// The environment guard: IEEE defaults inside, the caller's own again outside.
#include "base/float_env.h"

#include <gtest/gtest.h>

#include <cfenv>

namespace cgx {
namespace {

TEST(FloatEnvironment, RoundsToNearestInsideAndGivesTheCallersModeBack) {
  volatile float one = 1.0f;
  volatile float three = 3.0f;
  const volatile float nearest = one / three;
  ASSERT_EQ(std::fesetround(FE_DOWNWARD), 0);
  const volatile float downward = one / three;
  volatile float inside = 0;
  {
    const FloatEnvironment environment;
    inside = one / three;
  }
  const volatile float again = one / three;
  ASSERT_EQ(std::fesetround(FE_TONEAREST), 0);
  EXPECT_NE(downward, nearest);
  EXPECT_EQ(inside, nearest);
  EXPECT_EQ(again, downward);
}

#if defined(__SSE__)
TEST(FloatEnvironment, SubnormalsAreNumbersInside) {
  const unsigned saved = _mm_getcsr();
  _mm_setcsr(saved | 0x8040u);  // flush to zero, subnormals are zeros
  volatile float half = 0.5f;
  volatile float least = 0x1p-126f;
  const volatile float flushed = least * half;
  volatile float kept = 0;
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
