// See cores.h.
#include "transport/cores.h"

#include <sched.h>

#include <bit>
#include <cstddef>

namespace cgx {

Cores Cores::own() {
  Cores cores = {};
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) return cores;
  for (size_t cpu = 0; cpu < 64 * std::size(cores.words); ++cpu) {
    if (CPU_ISSET(cpu, &set)) cores.words[cpu / 64] |= uint64_t{1} << (cpu % 64);
  }
  return cores;
}

bool can_have_one_each(std::span<const Cores> ranks) {
  size_t count = 0;
  for (size_t word = 0; word < std::size(Cores().words); ++word) {
    uint64_t any = 0;
    for (const Cores& cores : ranks) any |= cores.words[word];
    count += static_cast<size_t>(std::popcount(any));
  }
  return count >= ranks.size();
}

}  // namespace cgx
