// A point on the monotonic clock by which something must have happened.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace cgx {

class Deadline {
 public:
  using Clock = std::chrono::steady_clock;

  explicit Deadline(int64_t timeout_ms)
      : at_(Clock::now() + std::chrono::milliseconds(std::clamp<int64_t>(timeout_ms, 0, kForeverMs))) {}

  Clock::time_point at() const { return at_; }
  bool over() const { return Clock::now() >= at_; }
  // Rounded up, so that waiting this long never ends before the deadline. 0 once it is over.
  int64_t left_ms() const {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(at_ - Clock::now()).count();
    return std::max<int64_t>(left, 0);
  }

 private:
  static constexpr int64_t kForeverMs = int64_t{1} << 40;  // 34 years: adding it cannot overflow the clock
  Clock::time_point at_;
};

}  // namespace cgx
