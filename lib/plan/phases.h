// What a message is for, in errors: "scatter" where an owner will sum it, "gather" where it is a result.
#pragma once

#include "plan/plan.h"

namespace cgx {

// Fills plan->phases, a word for each step, in one pass from the end.
void name_phases(Plan* plan);

}  // namespace cgx
