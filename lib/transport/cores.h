// Where the ranks of one machine may run, and whether each can have a core of its own. If so, a rank that waits
// looks out for a moment before it sleeps; else it would only keep others from what it waits for.
#pragma once

#include <chrono>
#include <cstdint>
#include <span>

namespace cgx {

// About what waking a sleeping rank costs: looking out for longer cannot gain more.
inline constexpr std::chrono::microseconds kSpin{40};

struct Cores {
  uint64_t words[16];  // a bit a CPU

  // Those that this rank may run on; none where the system does not say.
  static Cores own();
};

// Of all ranks of a machine, each once.
bool can_have_one_each(std::span<const Cores> ranks);

}  // namespace cgx
