// Counts of what these tests repeat: small by default, less under sanitizers, times CGX_TEST_TIMES for the
// figures of docs/RELIABILITY.md.
#pragma once

#include <cstdint>
#include <cstdlib>

namespace cgx::test {

inline uint64_t times(uint64_t usual) {
  const char* text = std::getenv("CGX_TEST_TIMES");
  const long factor = text == nullptr ? 1 : std::atol(text);
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  usual = usual / 5 + 1;
#endif
  return usual * static_cast<uint64_t>(factor < 1 ? 1 : factor);
}

}  // namespace cgx::test
