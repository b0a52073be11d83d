// The JSON document, whose fields bench/README.md lists, and small arithmetic on times.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "options.h"

namespace cgx::bench {

constexpr int kSchema = 2;  // goes up when a field changes its meaning or goes

// Written to the file that was asked for, if any, and returned. Throws BenchError if it cannot be written.
nlohmann::json write_json(const Options& options, const nlohmann::json& environment,
                          const nlohmann::json& rows, const nlohmann::json& totals);

double median(std::vector<double> values);
double percentile(std::vector<double> values, double share);
std::string short_number(double value);  // at most 9 characters

}  // namespace cgx::bench
