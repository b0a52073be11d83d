// The algorithms' functions, one file each, read by algorithm_list.cc (and the tree's depth by cost.cc). All
// take size > 1.
#pragma once

#include "plan/plan.h"

namespace cgx {

Plan plan_scatter_gather(const PlanKey& key);
Plan plan_ring(const PlanKey& key);
Plan plan_allgather(const PlanKey& key);
Plan plan_hierarchical(const PlanKey& key);
Plan plan_tree(const PlanKey& key);
// Levels below the root.
int tree_depth(int size);

}  // namespace cgx
