#include "base/shared_copy.h"

#include <algorithm>

namespace cgx {
namespace {

using Clock = std::chrono::steady_clock;

// Shorter copies are not timed: reading the clock would show.
constexpr size_t kLeastTimed = 4096;
// Copies from one trial of the other way to the next, fewer at first, when memory is new. At ten times the
// time they cost a tenth of all copying.
constexpr uint32_t kTrialEvery = 128;
// Between what an ordinary copy takes of one past the cache where cores share a cache (3 to 4 times) and
// where they do not (9 to 13 times; 2026-11-22, AMD EPYC).
constexpr double kWorth = 6;
// The fastest copy lately counts; a slower one raises that a little, however long it was kept from its core.
constexpr double kRise = 1.0 / 8, kMostRise = 4;

}  // namespace

void SharedCopy::copy(void* to, const void* from, size_t bytes) {
  if (bytes < kLeastTimed) {
    choice()(to, from, bytes);
    return;
  }
  const Clock::time_point start = Clock::now();
  choice()(to, from, bytes);
  learn(Clock::now() - start, bytes);
}

void SharedCopy::learn(std::chrono::nanoseconds took, size_t bytes) {
  const double sample = std::max(1.0, static_cast<double>(took.count())) / static_cast<double>(bytes);
  double& known = byte_ns_[way_];
  known =
      known == 0 || sample < known ? sample : known + (std::min(sample, kMostRise * known) - known) * kRise;
  if (--until_trial_ == 0) {
    until_trial_ = interval_ = std::min(2 * interval_, kTrialEvery);
    way_ = 1 - way_;
  } else {
    way_ = byte_ns_[1] <= kWorth * byte_ns_[0] ? 1 : 0;
  }
}

}  // namespace cgx
