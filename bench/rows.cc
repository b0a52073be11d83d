// See rows.h.
#include "rows.h"

#include <algorithm>

#include "report.h"

namespace cgx::bench {
namespace {

using json = nlohmann::json;

double mean(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return values.empty() ? 0 : sum / static_cast<double>(values.size());
}

double speedup(const Row& baseline, const Row& row) {
  std::vector<double> ratios;
  for (size_t r = 0; r < row.rounds_us.size(); ++r)
    ratios.push_back(baseline.rounds_us[r] / row.rounds_us[r]);
  return median(ratios);
}

std::string algorithm(const Entry& entry) {
  const Kind kind = entry.kind;
  if (kind == Kind::kGloo || kind == Kind::kGloo16) return "ring";
  if (kind == Kind::kOpenMpi || kind == Kind::kTorch || kind == Kind::kTorchHook) return "its own choice";
  return kind == Kind::kCopy ? "one copy a rank" : entry.algorithm;
}

json to_json(const Options& options, uint64_t bytes, const Entry& entry, const Row& row,
             const json& described) {
  const double time = median(row.rounds_us);
  const double algbw = static_cast<double>(bytes) / time / 1000;
  const double n = options.ranks;
  const bool checked = options.checks > 0 && entry.kind != Kind::kCopy;
  json one = {{"size_bytes", bytes},
              {"count", bytes / dtype_bytes(options.dtype)},
              {"type", dtype_name(options.dtype)},
              {"redop", op_name(options.op)},
              {"root", -1},
              {"time_us", time},
              {"time_mean_us", mean(row.calls_us)},
              {"time_p50_us", percentile(row.calls_us, 0.5)},
              {"time_p95_us", percentile(row.calls_us, 0.95)},
              {"time_p99_us", percentile(row.calls_us, 0.99)},
              {"time_min_us", percentile(row.calls_us, 0)},
              {"time_max_us", percentile(row.calls_us, 1)},
              {"calls", row.calls_us.size()},
              {"rounds_us", row.rounds_us},
              {"algbw_GBps", algbw},
              {"busbw_GBps", algbw * 2 * (n - 1) / n},
              {"name", entry.name},
              {"baseline", entry.is_baseline},
              {"codec", described["codec"]},
              {"unbiased", described["unbiased"]},
              {"ranks", options.ranks},
              {"transport", described["transport"]},
              {"algorithm", algorithm(entry)},
              {"wire_bytes", row.wire_bytes},
              {"ratio", row.wire_bytes == 0
                            ? json(nullptr)
                            : json(static_cast<double>(row.raw_bytes) / static_cast<double>(row.wire_bytes))},
              {"speedup_over", json::object()}};
  one["wrong"] = checked && declares_bound(entry) ? json(row.accuracy.wrong) : json(nullptr);
  one["fingerprint"] = checked ? json(row.fingerprint) : json(nullptr);
  one["nmse"] = checked ? json(row.accuracy.nmse()) : json(nullptr);
  one["bias_z"] = checked ? json(row.accuracy.bias_z()) : json(nullptr);
  one["replicas_identical"] = checked ? json(row.replicas_identical) : json(nullptr);
  return one;
}

}  // namespace

Row join(const std::vector<json>& reports, size_t contender) {
  Row row;
  std::vector<std::vector<double>> slowest;
  for (size_t r = 0; r < reports.size(); ++r) {
    const json& mine = reports[r]["contenders"][contender];
    const auto times = mine["times_us"].get<std::vector<std::vector<double>>>();
    if (r == 0) slowest = times;
    for (size_t round = 0; round < times.size(); ++round) {
      for (size_t i = 0; i < times[round].size(); ++i) {
        slowest[round][i] = std::max(slowest[round][i], times[round][i]);
      }
    }
    const auto sums = mine["sums"].get<std::vector<double>>();
    row.accuracy.add({mine["wrong"].get<uint64_t>(), sums[0], sums[1], sums[2], sums[3]});
    if (mine["wire_bytes"].get<uint64_t>() >= row.wire_bytes) {
      row.wire_bytes = mine["wire_bytes"].get<uint64_t>();
      row.raw_bytes = mine["raw_bytes"].get<uint64_t>();
    }
    if (r == 0 && !mine["fingerprints"].empty()) row.fingerprint = mine["fingerprints"][0];
    row.replicas_identical &= mine["fingerprints"] == reports[0]["contenders"][contender]["fingerprints"];
  }
  for (const std::vector<double>& round : slowest) {
    row.rounds_us.push_back(mean(round));
    row.calls_us.insert(row.calls_us.end(), round.begin(), round.end());
  }
  return row;
}

std::vector<json> rows_of_size(const Options& options, const std::vector<Entry>& entries, uint64_t bytes,
                               const std::vector<Row>& rows, const json& described) {
  std::vector<json> out;
  for (size_t k = 0; k < rows.size(); ++k) {
    json one = to_json(options, bytes, entries[k], rows[k], described[k]);
    for (size_t b = 0; b < rows.size(); ++b) {
      if (entries[b].is_baseline) one["speedup_over"][entries[b].name] = speedup(rows[b], rows[k]);
    }
    out.push_back(std::move(one));
  }
  return out;
}

}  // namespace cgx::bench
