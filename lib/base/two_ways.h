// Of two ways to do the same, the one that is faster here and now: every use of a way is timed, and each is
// tried now and then, as ranks, and the processors of virtual machines, move. So nothing is asked of the
// machine, and what it says of itself need not be true. Which way a trial goes follows from the number of
// uses alone: who uses theirs together tries the same way together.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>

namespace cgx {

// One thread's.
class TwoWays {
 public:
  // Way 1 is taken as long as it costs up to `worth` times as much as way 0, for it may be worth more than
  // its time.
  explicit TwoWays(double worth) : worth_(worth) {}

  size_t way() const { return way_; }
  // `amount` of something by the present way took so long; the next use may go the other way.
  // REQUIRES: amount > 0.
  void learn(std::chrono::nanoseconds took, size_t amount);

 private:
  double worth_;
  size_t way_ = 0;
  uint32_t until_trial_ = 1, interval_ = 1, trials_ = 0;
  std::array<double, 2> costs_ = {};  // in ns, of each way lately; 0: never measured
};

}  // namespace cgx
