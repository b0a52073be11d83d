// Which algorithm runs a collective.
#pragma once

#include <string_view>

#include "base/status.h"
#include "plan/plan.h"

namespace cgx {

// `name` is a row of algorithm_list.h, or "auto" (or ""). The same arguments give the same algorithm on
// every rank.
Result<const Algorithm*> select_algorithm(std::string_view name, const Layout& layout, int size);

}  // namespace cgx
