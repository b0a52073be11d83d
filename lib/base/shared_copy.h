// Copies into memory that other cores read, by the way that is faster between those cores and this one: with
// ordinary stores, which leave the bytes in a cache from which a peer reads them at once, or past the cache.
// Where cores share a cache an ordinary copy takes three to four times as long as one past it, and is worth
// that, as the reader gains more; where they do not, every store fetches its line back from the peer first,
// and the copy takes ten times as long. So both are timed now and then, as ranks move between cores
// (docs/DESIGN.md).
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>

#include "base/stream_copy.h"

namespace cgx {

// One thread's.
class SharedCopy {
 public:
  // memcpy; others must not be told of it before stream_fence().
  void copy(void* to, const void* from, size_t bytes);
  // What is faster now, for pieces of a copy.
  Copy choice() const { return kWays[way_]; }

  // A copy by the present way took so long; the next one may go the other way. REQUIRES: bytes > 0.
  void learn(std::chrono::nanoseconds took, size_t bytes);

 private:
  static constexpr std::array<Copy, 2> kWays = {stream_copy, plain_copy};

  size_t way_ = 0;
  uint32_t until_trial_ = 1, interval_ = 1;
  std::array<double, 2> byte_ns_ = {};  // of each way lately; 0: never measured
};

}  // namespace cgx
