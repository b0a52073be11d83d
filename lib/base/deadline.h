// A point on the monotonic clock by which something must have happened, or until another thread gives it up.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <utility>

namespace cgx {

// Set by another thread: a wait that is not yet over is to end. Null: nobody does that.
using StopFlag = std::shared_ptr<const std::atomic<bool>>;
inline bool is_set(const StopFlag& stop) { return stop != nullptr && stop->load(std::memory_order_acquire); }

class Deadline {
 public:
  using Clock = std::chrono::steady_clock;

  explicit Deadline(int64_t timeout_ms, StopFlag stop = nullptr)
      : at_(Clock::now() + std::chrono::milliseconds(std::clamp<int64_t>(timeout_ms, 0, kForeverMs))),
        stop_(std::move(stop)) {}

  Clock::time_point at() const { return at_; }
  bool over() const { return is_set(stop_) || Clock::now() >= at_; }
  // Rounded up, so that waiting this long never ends before the deadline. 0 once it is over.
  int64_t left_ms() const {
    if (is_set(stop_)) return 0;
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(at_ - Clock::now()).count();
    return std::max<int64_t>(left, 0);
  }
  // A part of it, with the same flag.
  Deadline within(int64_t longest_ms) const { return Deadline(std::min(left_ms(), longest_ms), stop_); }
  // For one sleep of a wait, at most `longest_ms`: short where it may be given up meanwhile.
  int64_t nap_ms(int64_t longest_ms) const {
    constexpr int64_t kStopMs = 20;
    return std::min(left_ms(), stop_ == nullptr ? longest_ms : std::min(longest_ms, kStopMs));
  }

 private:
  static constexpr int64_t kForeverMs = int64_t{1} << 40;  // 34 years: adding it cannot overflow the clock
  Clock::time_point at_;
  StopFlag stop_;
};

}  // namespace cgx
