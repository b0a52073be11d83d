// Which ranks share processors, and how many of them a core has to serve.
#pragma once

#include <cstdint>
#include <span>

namespace cgx {

// Those of the machine that a rank runs on. Not what its affinity allows it: launchers that give each rank
// its own cores would look crowded.
struct Processors {
  uint64_t host = 0;  // the same number for ranks that share them, in whatever namespace or container
  uint64_t cores = 1;
};

Processors own_processors();

// Ranks for each core, on the fullest machine; 1 where all have room. Of each rank.
double crowding_of(std::span<const Processors> ranks);

}  // namespace cgx
