// See cores.h.
#include "transport/cores.h"

#include <sched.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <iterator>

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

int Cores::count() const {
  int count = 0;
  for (const uint64_t word : words) count += std::popcount(word);
  return count;
}

bool Cores::has_all_of(const Cores& other) const {
  return std::equal(std::begin(words), std::end(words), other.words,
                    [](uint64_t all, uint64_t some) { return (some & ~all) == 0; });
}

bool can_have_one_each(std::span<const Cores> ranks) {
  Cores any = {};
  for (const Cores& cores : ranks) {
    for (size_t word = 0; word < std::size(any.words); ++word) any.words[word] |= cores.words[word];
  }
  const auto suffice = [&](const Cores& all) {
    return std::count_if(ranks.begin(), ranks.end(), [&](const Cores& c) { return all.has_all_of(c); }) <=
           all.count();
  };
  return suffice(any) && std::all_of(ranks.begin(), ranks.end(), suffice);
}

}  // namespace cgx
