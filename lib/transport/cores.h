// Where the ranks of one machine may run, and whether each can have a core of its own. If so, a rank that
// waits looks out for a moment before it sleeps; else it would only keep others from what it waits for.
#pragma once

#include <chrono>
#include <cstdint>
#include <span>

namespace cgx {

// About what waking a sleeping rank costs: looking out for longer cannot gain more.
inline constexpr std::chrono::microseconds kSpin{40};

struct Cores {
  uint64_t words[16];  // a bit a CPU

  // Those that this rank may run on; none where the system does not say. Shares of their time (quotas of
  // containers) are not seen.
  static Cores own();

  int count() const;
  bool has_all_of(const Cores& other) const;
};

// Of all ranks of a machine, each once. No cores that some rank is bound to are those of more ranks than they
// are, nor all together. (Sets that overlap in part could still be too few.)
bool can_have_one_each(std::span<const Cores> ranks);

}  // namespace cgx
