// See allreduce.h.
#include "allreduce.h"

#include <fmt/format.h>

#include <algorithm>

#include "environment.h"
#include "rank_group.h"
#include "report.h"
#include "rows.h"

namespace cgx::bench {
namespace {

using json = nlohmann::json;

std::vector<Column> columns_for(const std::vector<Entry>& entries) {
  size_t name_width = 5;
  for (const Entry& entry : entries) name_width = std::max(name_width, entry.name.size());
  std::vector<Column> columns = {
      {"size", "(B)", 12}, {"count", "(elements)", 12}, {"type", "", 8},        {"redop", "", 6},
      {"root", "", 5},     {"time", "(us)", 9},         {"algbw", "(GB/s)", 7}, {"busbw", "(GB/s)", 7},
      {"#wrong", "", 7},   {"codec", "", name_width},   {"ratio", "", 6},       {"wire bytes", "(B)", 11},
      {"NMSE", "", 9},     {"bias z", "", 9},           {"replicas", "", 9},    {"p50", "(us)", 9},
      {"p95", "(us)", 9},  {"p99", "(us)", 9}};
  for (const Entry& entry : entries) {
    if (entry.is_baseline)
      columns.push_back({"x " + entry.name, "", std::max<size_t>(8, entry.name.size() + 2)});
  }
  return columns;
}

std::vector<std::string> fields_for(const std::vector<Entry>& entries) {
  std::vector<std::string> fields = {"size_bytes",
                                     "count",
                                     "type",
                                     "redop",
                                     "time_us",
                                     "time_p50_us",
                                     "time_p95_us",
                                     "time_p99_us",
                                     "time_min_us",
                                     "time_max_us",
                                     "algbw_GBps",
                                     "busbw_GBps",
                                     "wrong",
                                     "name",
                                     "codec",
                                     "ranks",
                                     "transport",
                                     "algorithm",
                                     "wire_bytes",
                                     "ratio",
                                     "nmse",
                                     "bias_z",
                                     "replicas_identical",
                                     "fingerprint"};
  for (const Entry& entry : entries) {
    if (entry.is_baseline) fields.push_back("speedup_over." + entry.name);
  }
  return fields;
}

std::string model_line(const std::string& model) {
  uint64_t layers = 0, elements = 0, compressed = 0;
  const std::vector<Bucket> buckets = model_buckets(model);
  for (const Bucket& bucket : buckets) {
    layers += bucket.layers.size();
    elements += bucket.count;
    for (const Layer& layer : bucket.layers) compressed += layer.compressed ? layer.count : 0;
  }
  return fmt::format(
      "model {}: {} parameters in {} tensors and {} buckets, {:.2f} % of them through the codec", model,
      elements, layers, buckets.size(),
      100 * static_cast<double>(compressed) / static_cast<double>(elements));
}

}  // namespace

AllreduceReport::AllreduceReport(const Options& options, json skipped)
    : options_(options),
      skipped_(std::move(skipped)),
      entries_(entries(options)),
      machine_(environment(options)),
      sheet_(options.format, columns_for(entries_), fields_for(entries_)) {
  for (const auto& [name, reason] : skipped_.items()) {
    sheet_.note(fmt::format("skipped: {}: {}", name, reason.get<std::string>()));
  }
}

void AllreduceReport::begin(const std::vector<std::string>& described) {
  described_ = json::parse(described[0])["contenders"];
  sheet_.note(fmt::format(
      "cgx-bench {} {}: {} ranks{}, transport {}, algorithm {}, {} rounds of {} iterations after {} of "
      "warm-up, "
      "data {}, link {}",
      cgx_version_string(), mode_name(options_.mode), options_.ranks,
      options_.launcher.empty() ? "" : fmt::format(" of {}", options_.launcher),
      described_.back()["transport"].get<std::string>(), options_.algorithm, options_.rounds,
      options_.iterations, options_.warmup, options_.data, machine_["link_rate"].get<std::string>()));
  if (options_.mode == Mode::kLayers) sheet_.note(model_line(options_.model));
  sheet_.note(environment_line(machine_));
  for (size_t k = 0; k < entries_.size(); ++k) {
    const std::string version = described_[k]["version"];
    if (!version.empty()) machine_["versions"][entries_[k].name] = version;
  }
  sheet_.start();
}

void AllreduceReport::add(uint64_t bytes, const std::vector<std::string>& lines) {
  std::vector<json> reports;
  for (const std::string& line : lines) reports.push_back(json::parse(line));
  std::vector<Row> joined;
  for (size_t k = 0; k < entries_.size(); ++k) joined.push_back(join(reports, k));
  for (const Row& row : joined) {
    wrong_ += row.accuracy.wrong;
    differ_ += row.replicas_identical ? 0 : 1;
  }
  for (json& one : rows_of_size(options_, entries_, bytes, joined, described_)) {
    sheet_.row(one, cells(one));
    rows_.push_back(std::move(one));
  }
}

std::vector<std::string> AllreduceReport::cells(const json& one) const {
  const auto number = [&](const char* key) {
    return one.at(key).is_null() ? std::string("-") : short_number(one.at(key).get<double>());
  };
  std::vector<std::string> cells = {
      std::to_string(one["size_bytes"].get<uint64_t>()),
      std::to_string(one["count"].get<uint64_t>()),
      one["type"],
      one["redop"],
      "-1",
      number("time_us"),
      fmt::format("{:.2f}", one["algbw_GBps"].get<double>()),
      fmt::format("{:.2f}", one["busbw_GBps"].get<double>()),
      !one["wrong"].is_null() ? std::to_string(one["wrong"].get<uint64_t>()) : "N/A",
      one["name"],
      number("ratio"),
      std::to_string(one["wire_bytes"].get<uint64_t>()),
      number("nmse"),
      number("bias_z"),
      one["replicas_identical"].is_null()     ? "-"
      : one["replicas_identical"].get<bool>() ? "identical"
                                              : "DIFFER",
      number("time_p50_us"),
      number("time_p95_us"),
      number("time_p99_us")};
  for (const Entry& entry : entries_) {
    if (entry.is_baseline)
      cells.push_back(fmt::format("{:.2f}", one["speedup_over"][entry.name].get<double>()));
  }
  return cells;
}

int AllreduceReport::end() {
  double busbw = 0;
  for (const json& row : rows_) busbw += row["busbw_GBps"].get<double>() / static_cast<double>(rows_.size());
  json totals = {{"out_of_bounds", wrong_},
                 {"rows_with_different_replicas", differ_},
                 {"average_busbw_GBps", busbw},
                 {"skipped", skipped_},
                 {"launcher", options_.launcher.empty() ? "cgx-bench" : options_.launcher}};
  if (options_.mode == Mode::kLayers) totals["model"] = options_.model;
  const bool good = wrong_ == 0 && differ_ == 0;
  sheet_.note(fmt::format("Out of bounds values : {} {}", wrong_, good ? "OK" : "FAILED"));
  sheet_.note(fmt::format("Avg bus bandwidth    : {:.4f}", busbw));
  if (differ_ != 0) sheet_.note("Replicas differ between ranks: FAILED");
  sheet_.end(write_json(options_, machine_, rows_, totals));
  return good ? 0 : 1;
}

int run_allreduce(const Options& given) {
  Options options = given;
  const json skipped = skip_missing(options, nullptr);
  for (const Entry& entry : entries(options))
    make_codec(entry.spec);  // a wrong spec is one of the command line
  const std::vector<uint64_t> all_sizes = sizes(options);
  AllreduceReport report(options, skipped);
  catch_interrupts();
  RankGroup ranks(options);
  report.begin(ranks.next_lines());
  for (const uint64_t bytes : all_sizes) report.add(bytes, ranks.next_lines());
  ranks.finish();
  return report.end();
}

}  // namespace cgx::bench
