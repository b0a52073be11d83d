// Where rows go: a table in nccl-tests' manner on standard output, and the same rows as JSON.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "options.h"

namespace cgx::bench {

struct Column {
  std::string title;
  std::string unit;  // "" or "(us)"
  size_t width;
};

void print_header(const std::vector<Column>& columns);
void print_row(const std::vector<Column>& columns, const std::vector<std::string>& cells);

// The machine and the build, as an object.
nlohmann::json environment(const Options& options);
void print_environment(const nlohmann::json& environment);
// Throws BenchError if the file cannot be written.
void write_json(const Options& options, const nlohmann::json& environment, const nlohmann::json& rows,
                const nlohmann::json& totals);

double median(std::vector<double> values);
double percentile(std::vector<double> values, double share);
std::string short_number(double value);  // at most 9 characters

}  // namespace cgx::bench
