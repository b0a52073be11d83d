// `cgx-bench allreduce` and `cgx-bench layers`: what is printed of what the ranks report.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "contender.h"
#include "options.h"
#include "sheet.h"

namespace cgx::bench {

class AllreduceReport {
 public:
  // `skipped`: baselines that were asked for and cannot be had, with the reason.
  AllreduceReport(const Options& options, nlohmann::json skipped);

  void begin(const std::vector<std::string>& described);  // a line of each rank
  void add(uint64_t bytes, const std::vector<std::string>& reports);
  int end();  // the exit status

 private:
  std::vector<std::string> cells(const nlohmann::json& row) const;

  const Options& options_;
  nlohmann::json skipped_;
  std::vector<Entry> entries_;
  nlohmann::json machine_;
  nlohmann::json described_;
  Sheet sheet_;
  nlohmann::json rows_ = nlohmann::json::array();
  uint64_t wrong_ = 0;
  uint64_t differ_ = 0;
};

// Starts the ranks and reports. Returns the exit status.
int run_allreduce(const Options& options);

}  // namespace cgx::bench
