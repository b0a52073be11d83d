// The algorithms' functions, one file each, read by algorithm_list.cc (and what cost.cc has to know of them).
// All take size > 1.
#pragma once

#include <algorithm>
#include <cstdint>

#include "plan/plan.h"

namespace cgx {

Plan plan_scatter_gather(const PlanKey& key);
Plan plan_ring(const PlanKey& key);
Plan plan_allgather(const PlanKey& key);
Plan plan_hierarchical(const PlanKey& key);
Plan plan_tree(const PlanKey& key);

inline Turn scatter_gather_turn(int size, int) { return {std::max(1, size - 1), size, true}; }
inline Turn ring_turn(int size, int) { return {1, size, false}; }
inline Turn allgather_turn(int size, int) { return {std::max(1, size - 1), 1, false}; }
inline Turn hierarchical_turn(int, int hosts) { return {std::max(1, hosts - 1), hosts, true, 4}; }
inline Turn tree_turn(int, int) { return {1, 1, false}; }

// Levels below the root.
int tree_depth(int size);
// A turn of scatter_gather or hierarchical has size - 1 slices under way: from four ranks on they shrink, so
// that what a rank has in flight does not grow with the number of ranks.
inline uint64_t slice_among(int size, uint64_t slice_bytes) {
  constexpr uint64_t kFullSlices = 4;
  return slice_bytes / std::max<uint64_t>(kFullSlices, static_cast<uint64_t>(size)) * kFullSlices;
}

}  // namespace cgx
