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

#include "base/stream_copy.h"
#include "base/two_ways.h"

namespace cgx {

// One thread's.
class SharedCopy {
 public:
  // memcpy; others must not be told of it before stream_fence().
  void copy(void* to, const void* from, size_t bytes);
  // What is faster now, for pieces of a copy.
  Copy choice() const { return kWays[ways_.way()]; }

  // A copy by the present way took so long; the next one may go the other way. REQUIRES: bytes > 0.
  void learn(std::chrono::nanoseconds took, size_t bytes) { ways_.learn(took, bytes); }

 private:
  static constexpr std::array<Copy, 2> kWays = {stream_copy, plain_copy};
  // Between what an ordinary copy takes of one past the cache where cores share a cache (3 to 4 times) and
  // where they do not (9 to 13 times; 2026-11-22, AMD EPYC).
  static constexpr double kWorth = 6;

  TwoWays ways_{kWorth};
};

}  // namespace cgx
