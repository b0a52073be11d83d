// See report.h.
#include "report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <fstream>

namespace cgx::bench {

nlohmann::json write_json(const Options& options, const nlohmann::json& environment,
                          const nlohmann::json& rows, const nlohmann::json& totals) {
  nlohmann::json document = totals;
  document["schema"] = kSchema;
  document["mode"] = mode_name(options.mode);
  document["command"] = options.words;
  document["environment"] = environment;
  document["rows"] = rows;
  if (options.json_path.empty()) return document;
  std::ofstream file(options.json_path);
  file << document.dump(1) << "\n";
  file.flush();
  if (!file) throw BenchError(fmt::format("--json {}: cannot be written", options.json_path));
  return document;
}

double median(std::vector<double> values) { return percentile(std::move(values), 0.5); }

double percentile(std::vector<double> values, double share) {
  if (values.empty()) return NAN;
  std::sort(values.begin(), values.end());
  const double at = share * static_cast<double>(values.size() - 1);
  const auto below = static_cast<size_t>(at);
  const size_t above = std::min(below + 1, values.size() - 1);
  return values[below] + (values[above] - values[below]) * (at - static_cast<double>(below));
}

std::string short_number(double value) {
  if (!std::isfinite(value)) return "-";
  if (value == 0) return "0";
  const double size = std::fabs(value);
  if (size < 0.001 || size >= 1e7) return fmt::format("{:.2e}", value);
  return fmt::format("{:.{}f}", value, size >= 1000 ? 0 : size >= 100 ? 1 : size >= 1 ? 2 : 4);
}

}  // namespace cgx::bench
