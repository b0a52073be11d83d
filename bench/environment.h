// What of the machine and the build a reader needs to judge a number.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

#include "options.h"

namespace cgx::bench {

nlohmann::json environment(const Options& options);
std::string environment_line(const nlohmann::json& environment);

}  // namespace cgx::bench
