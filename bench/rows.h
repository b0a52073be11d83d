// From the ranks' reports of one size to rows. A call takes as long as its slowest rank; a round's time is
// the mean of its calls; a row's the median of its rounds; percentiles are of calls; a speed-up is the median
// of per-round ratios.
#pragma once

#include <cstdint>
#include <vector>

#include <nlohmann/json.hpp>

#include "accuracy.h"
#include "contender.h"
#include "options.h"

namespace cgx::bench {

struct Row {
  std::vector<double> calls_us;
  std::vector<double> rounds_us;
  Accuracy accuracy;
  uint64_t wire_bytes = 0;  // of the rank that sent most
  uint64_t raw_bytes = 0;
  bool replicas_identical = true;
  std::string fingerprint;  // of the result of the first checked operation
};

Row join(const std::vector<nlohmann::json>& reports, size_t contender);
// With the speed-up over each baseline; described[k] is what a rank said of contender k.
std::vector<nlohmann::json> rows_of_size(const Options& options, const std::vector<Entry>& entries,
                                         uint64_t bytes, const std::vector<Row>& rows,
                                         const nlohmann::json& described);

}  // namespace cgx::bench
