// A plan as text, one step a line: for the checker's errors, for people, and for comparing plans.
#pragma once

#include <string>

#include "plan/plan.h"

namespace cgx {

// "send m3 [0, 256) to 1 2"
std::string to_text(const Step& step);
// A line "index step" for each step.
std::string to_text(const Plan& plan);

}  // namespace cgx
