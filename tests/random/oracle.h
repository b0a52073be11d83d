// What a collective must give, as far as it can be said cheaply: the exact result where nothing is lost, else
// an interval around the exact sum from each codec's largest error of one rounding.
#pragma once

#include <string>

#include "random/cases.h"

namespace cgx::random {

// "" or what is wrong. `inputs` of all ranks; elements of kind kSpecial are not judged.
std::string judge(const World& world, const Case& one, const std::vector<std::vector<uint8_t>>& inputs,
                  const uint8_t* result);

}  // namespace cgx::random
