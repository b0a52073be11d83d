// The parent of the ranks: joins their reports into rows. A call takes as long as its slowest rank; a round's
// time is the mean of its calls; a row's the median of its rounds; a speed-up the median of per-round ratios.
#include "allreduce.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "accuracy.h"
#include "contender.h"
#include "openmpi.h"
#include "rank_group.h"
#include "report.h"

namespace cgx::bench {
namespace {

using json = nlohmann::json;

struct Row {
  std::vector<double> calls_us;
  std::vector<double> rounds_us;
  Accuracy accuracy;
  uint64_t wire_bytes = 0;  // of the rank that sent most
  uint64_t raw_bytes = 0;
  bool replicas_identical = true;
};

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
    row.replicas_identical &= mine["fingerprints"] == reports[0]["contenders"][contender]["fingerprints"];
  }
  for (const std::vector<double>& round : slowest) {
    double sum = 0;
    for (const double t : round) sum += t;
    row.rounds_us.push_back(sum / static_cast<double>(round.size()));
    row.calls_us.insert(row.calls_us.end(), round.begin(), round.end());
  }
  return row;
}

double speedup(const Row& baseline, const Row& row) {
  std::vector<double> ratios;
  for (size_t r = 0; r < row.rounds_us.size(); ++r)
    ratios.push_back(baseline.rounds_us[r] / row.rounds_us[r]);
  return median(ratios);
}

class Table {
 public:
  Table(const Options& options, const std::vector<Entry>& contenders)
      : options_(options), entries_(contenders) {
    size_t name_width = 5;
    for (const Entry& entry : contenders) name_width = std::max(name_width, entry.name.size());
    columns_ = {
        {"size", "(B)", 12}, {"count", "(elements)", 12}, {"type", "", 8},        {"redop", "", 6},
        {"root", "", 5},     {"time", "(us)", 9},         {"algbw", "(GB/s)", 7}, {"busbw", "(GB/s)", 7},
        {"#wrong", "", 7},   {"codec", "", name_width},   {"ratio", "", 6},       {"wire bytes", "(B)", 11},
        {"NMSE", "", 9},     {"bias z", "", 9},           {"replicas", "", 9}};
    for (const Entry& entry : contenders) {
      if (entry.is_baseline)
        columns_.push_back({"x " + entry.name, "", std::max<size_t>(8, entry.name.size() + 2)});
    }
  }

  void start() const { print_header(columns_); }

  // Prints the rows of one size and returns them as JSON.
  json add(uint64_t bytes, const std::vector<Row>& rows, const json& described) {
    json out = json::array();
    for (size_t k = 0; k < rows.size(); ++k) {
      json one = to_json(bytes, entries_[k], rows[k], described[k]);
      for (size_t b = 0; b < rows.size(); ++b) {
        if (entries_[b].is_baseline) one["speedup_over"][entries_[b].name] = speedup(rows[b], rows[k]);
      }
      print(one);
      wrong_ += rows[k].accuracy.wrong;
      differ_ += rows[k].replicas_identical ? 0 : 1;
      busbw_.push_back(one["busbw_GBps"]);
      out.push_back(std::move(one));
    }
    return out;
  }

  json totals() const {
    double sum = 0;
    for (const double b : busbw_) sum += b;
    return {{"out_of_bounds", wrong_},
            {"rows_with_different_replicas", differ_},
            {"average_busbw_GBps", sum / static_cast<double>(std::max<size_t>(busbw_.size(), 1))}};
  }

  bool good() const { return wrong_ == 0 && differ_ == 0; }

 private:
  std::string algorithm(Kind kind) const {
    if (kind == Kind::kGloo || kind == Kind::kGloo16) return "ring";
    if (kind == Kind::kOpenMpi) return "its own choice";
    return kind == Kind::kCopy ? "one copy a rank" : options_.algorithm;
  }

  json to_json(uint64_t bytes, const Entry& entry, const Row& row, const json& described) const {
    const double time = median(row.rounds_us);
    const double algbw = static_cast<double>(bytes) / time / 1000;
    const double n = options_.ranks;
    const bool checked = options_.checks > 0 && entry.kind != Kind::kCopy;
    json one = {{"size_bytes", bytes},
                {"count", bytes / dtype_bytes(options_.dtype)},
                {"type", dtype_name(options_.dtype)},
                {"redop", op_name(options_.op)},
                {"root", -1},
                {"time_us", time},
                {"time_p50_us", percentile(row.calls_us, 0.5)},
                {"time_p99_us", percentile(row.calls_us, 0.99)},
                {"rounds_us", row.rounds_us},
                {"algbw_GBps", algbw},
                {"busbw_GBps", algbw * 2 * (n - 1) / n},
                {"name", entry.name},
                {"baseline", entry.is_baseline},
                {"codec", described["codec"]},
                {"unbiased", described["unbiased"]},
                {"ranks", options_.ranks},
                {"transport", described["transport"]},
                {"algorithm", algorithm(entry.kind)},
                {"wire_bytes", row.wire_bytes},
                {"ratio", row.wire_bytes == 0 ? json(nullptr)
                                              : json(static_cast<double>(row.raw_bytes) /
                                                     static_cast<double>(row.wire_bytes))},
                {"speedup_over", json::object()}};
    one["wrong"] = checked && declares_bound(entry) ? json(row.accuracy.wrong) : json(nullptr);
    one["nmse"] = checked ? json(row.accuracy.nmse()) : json(nullptr);
    one["bias_z"] = checked ? json(row.accuracy.bias_z()) : json(nullptr);
    one["replicas_identical"] = checked ? json(row.replicas_identical) : json(nullptr);
    return one;
  }

  void print(const json& one) const {
    const auto number = [&](const char* key) {
      return one[key].is_null() ? std::string("-") : short_number(one[key].get<double>());
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
                                                : "DIFFER"};
    for (const Entry& entry : entries_) {
      if (entry.is_baseline)
        cells.push_back(fmt::format("{:.2f}", one["speedup_over"][entry.name].get<double>()));
    }
    print_row(columns_, cells);
  }

  const Options& options_;
  const std::vector<Entry>& entries_;
  std::vector<Column> columns_;
  std::vector<double> busbw_;
  uint64_t wrong_ = 0;
  uint64_t differ_ = 0;
};

void print_model(const std::string& model) {
  uint64_t layers = 0, elements = 0, compressed = 0;
  const std::vector<Bucket> buckets = model_buckets(model);
  for (const Bucket& bucket : buckets) {
    layers += bucket.layers.size();
    elements += bucket.count;
    for (const Layer& layer : bucket.layers) compressed += layer.compressed ? layer.count : 0;
  }
  fmt::print("# model {}: {} parameters in {} tensors and {} buckets, {:.2f} % of them through the codec\n",
             model, elements, layers, buckets.size(),
             100 * static_cast<double>(compressed) / static_cast<double>(elements));
}

std::vector<json> parse_all(const std::vector<std::string>& lines) {
  std::vector<json> out;
  out.reserve(lines.size());
  for (const std::string& line : lines) out.push_back(json::parse(line));
  return out;
}

}  // namespace

int run_allreduce(const Options& given) {
  Options options = given;
  json skipped = json::object();
  if (const std::string reason = openmpi_missing(options); wants_openmpi(options) && !reason.empty()) {
    fmt::print("# skipped: openmpi: {}\n", reason);
    skipped["openmpi"] = reason;
    options.skipped.emplace_back("openmpi");
  }
  const std::vector<Entry> contenders = entries(options);
  for (const Entry& entry : contenders)
    make_codec(entry.spec);  // a wrong spec is an error of the command line
  const std::vector<uint64_t> all_sizes = sizes(options);
  const json machine = environment(options);
  catch_interrupts();
  RankGroup ranks(options);
  const json described = json::parse(ranks.next_lines()[0])["contenders"];
  fmt::print(
      "# cgx-bench {} {}: {} ranks, transport {}, algorithm {}, {} rounds of {} iterations after {} "
      "of warm-up, data {}, link {}\n",
      cgx_version_string(), mode_name(options.mode), options.ranks,
      described.back()["transport"].get<std::string>(), options.algorithm, options.rounds, options.iterations,
      options.warmup, options.data, machine["link_rate"].get<std::string>());
  if (options.mode == Mode::kLayers) print_model(options.model);
  print_environment(machine);
  Table table(options, contenders);
  table.start();
  json rows = json::array();
  for (const uint64_t bytes : all_sizes) {
    const std::vector<json> reports = parse_all(ranks.next_lines());
    std::vector<Row> joined;
    for (size_t k = 0; k < contenders.size(); ++k) joined.push_back(join(reports, k));
    for (json& one : table.add(bytes, joined, described)) rows.push_back(std::move(one));
  }
  ranks.finish();
  json totals = table.totals();
  totals["skipped"] = skipped;
  if (options.mode == Mode::kLayers) totals["model"] = options.model;
  fmt::print("# Out of bounds values : {} {}\n", totals["out_of_bounds"].get<uint64_t>(),
             table.good() ? "OK" : "FAILED");
  fmt::print("# Avg bus bandwidth    : {:.4f}\n", totals["average_busbw_GBps"].get<double>());
  if (totals["rows_with_different_replicas"] != 0) fmt::print("# Replicas differ between ranks: FAILED\n");
  write_json(options, machine, rows, totals);
  return table.good() ? 0 : 1;
}

}  // namespace cgx::bench
