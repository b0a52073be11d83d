// The list of algorithms: a row here makes one known to the communicator, the benchmark, the
// documentation's table and the tests.
#pragma once

#include <span>
#include <string_view>

#include "plan/plan.h"

namespace cgx {

std::span<const Algorithm> algorithms();
// null where there is none of that name.
const Algorithm* find_algorithm(std::string_view name);

}  // namespace cgx
