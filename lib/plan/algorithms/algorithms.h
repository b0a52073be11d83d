// The algorithms' functions, one file each; algorithm_list.cc is their only reader. All take size > 1.
#pragma once

#include "plan/plan.h"

namespace cgx {

Plan plan_scatter_gather(const PlanKey& key);
Plan plan_ring(const PlanKey& key);
Plan plan_allgather(const PlanKey& key);

}  // namespace cgx
