#include "base/two_ways.h"

#include <algorithm>

namespace cgx {
namespace {

// Uses from one trial to the next, fewer at first, when memory is new. Every second one goes the slower way:
// at ten times the time those cost a tenth of all.
constexpr uint32_t kTrialEvery = 64;
// The fastest use lately counts; a slower one raises that a little, however long it was kept from its core.
constexpr double kRise = 1.0 / 8, kMostRise = 1.5;

}  // namespace

void TwoWays::learn(std::chrono::nanoseconds took, size_t amount) {
  const double sample = std::max(1.0, static_cast<double>(took.count())) / static_cast<double>(amount);
  double& known = costs_[way_];
  known =
      known == 0 || sample < known ? sample : known + (std::min(sample, kMostRise * known) - known) * kRise;
  if (--until_trial_ == 0) {
    until_trial_ = interval_ = std::min(2 * interval_, kTrialEvery);
    way_ = trials_++ % 2 == 0 ? 1 : 0;
  } else {
    way_ = costs_[1] <= worth_ * costs_[0] ? 1 : 0;
  }
}

}  // namespace cgx
