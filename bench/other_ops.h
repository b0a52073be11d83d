// Minimum, maximum and product: never compressed, so what is exact, and how far a result may be from it, is
// simple.
#pragma once

#include <vector>

#include "bounds.h"

namespace cgx::bench {

// inputs[rank] holds that rank's elements of one span of the tensor.
Expected expected_other(const Reduction& reduction, const std::vector<std::vector<double>>& inputs);

}  // namespace cgx::bench
