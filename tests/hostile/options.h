// Counts of what these tests repeat: small by default, times CGX_TEST_TIMES for the figures of
// docs/RELIABILITY.md.
#pragma once

#include <cstdint>
#include <cstdlib>

namespace cgx::test {

inline uint64_t times(uint64_t usual) {
  const char* text = std::getenv("CGX_TEST_TIMES");
  const long factor = text == nullptr ? 1 : std::atol(text);
  return usual * static_cast<uint64_t>(factor < 1 ? 1 : factor);
}

}  // namespace cgx::test
