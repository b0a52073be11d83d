// See plans.h. A row is an algorithm at a number of ranks: the plans of all codecs, types, sizes and hosts
// below are proved right one by one, and the row gives what one MiB of fp32, uncompressed, takes.
#include "plans.h"

#include <fmt/format.h>

#include <boost/program_options.hpp>
#include <fstream>
#include <set>

#include <nlohmann/json.hpp>

#include "contender.h"
#include "options.h"
#include "report.h"

namespace po = boost::program_options;

namespace cgx::bench {
namespace {

using json = nlohmann::json;

constexpr const char* kCodecs[] = {"none", "maxmin:bits=4", "natural8", "maxmin:bits=3,bucket=0",
                                   "topk:ratio=0.01"};
// Nothing; fewer elements than ranks; no multiple of anything; several slices.
constexpr uint64_t kCounts[] = {0, 1, 7, 1000, 100003, 1 << 18, 600000};

// One, as many as ranks, and some between.
std::set<int> host_counts(int ranks) { return {1, std::min(2, ranks), (ranks + 1) / 2, ranks}; }

struct Tally {
  uint64_t proved = 0;
  cgx_plan_summary example = CGX_PLAN_SUMMARY_INIT;
  std::string wrong;
};

void check_one(const cgx_plan_args& args, const std::string& words, Tally& tally) {
  cgx_plan_summary summary = CGX_PLAN_SUMMARY_INIT;
  const cgx_status status = cgx_plan_check(&args, &summary);
  if (status == CGX_OK) {
    ++tally.proved;
    const bool example = args.count == 1 << 18 && args.codec == nullptr && args.hosts == 1;
    if (example && args.dtype == CGX_FLOAT32) tally.example = summary;
  } else if (tally.wrong.empty()) {
    tally.wrong = fmt::format("{}: {}", words, cgx_last_error());
  }
}

Tally check_all(const std::string& algorithm, int ranks) {
  Tally tally;
  for (const char* spec : kCodecs) {
    const CodecPtr codec = make_codec(spec);
    for (const cgx_dtype dtype : {CGX_FLOAT32, CGX_FLOAT16, CGX_FLOAT64}) {
      const bool raw = std::string(spec) == "none";
      if (!raw && dtype == CGX_FLOAT64) continue;
      for (const uint64_t count : kCounts) {
        for (const int hosts : host_counts(ranks)) {
          cgx_plan_args args = CGX_PLAN_ARGS_INIT;
          args.algorithm = algorithm.c_str();
          args.ranks = ranks;
          args.hosts = hosts;
          args.dtype = dtype;
          args.count = count;
          args.codec = raw ? nullptr : codec.get();
          check_one(args,
                    fmt::format("{} of {}, {} elements, {} hosts", spec, dtype_name(dtype), count, hosts),
                    tally);
        }
      }
    }
  }
  return tally;
}

struct Words {
  std::vector<std::string> algorithms;
  std::string json_path;
  int largest = 16;
  bool help = false;
};

Words parse(int argc, char** argv) {
  Words words;
  po::options_description table("Options");
  table.add_options()("help,h", po::bool_switch(&words.help), "this text")                              //
      ("algorithm", po::value(&words.algorithms)->composing(), "of cgx's list; repeat for more (all)")  //
      ("ngpus,g", po::value(&words.largest)->default_value(16), "as many ranks, from 1 on")             //
      ("json,J", po::value(&words.json_path), "write the rows to this file as well");
  try {
    po::variables_map values;
    po::store(po::command_line_parser(argc - 1, argv + 1).options(table).positional({}).run(), values);
    po::notify(values);
  } catch (const po::error& error) {
    throw UsageError(fmt::format("{} (see cgx-bench plans --help)", error.what()));
  }
  if (words.help) {
    std::ostringstream text;
    text << table;
    fmt::print("cgx-bench plans [options]\n\n{}", text.str());
  }
  if (words.largest < 1 || words.largest > 16) {
    throw UsageError(fmt::format("--ngpus {}: expected 1 to 16", words.largest));
  }
  if (!words.algorithms.empty()) return words;
  for (const json& row : json::parse(cgx_algorithm_list())) words.algorithms.push_back(row["name"]);
  return words;
}

}  // namespace

int run_plans(int argc, char** argv) {
  const Words words = parse(argc, argv);
  if (words.help) return 0;
  fmt::print(
      "# cgx-bench {} plans: every contribution in every result once, all ranks decode the same, nobody "
      "waits "
      "for ever\n# steps, messages and share (bytes sent by the busiest rank, of the tensor's) are those of "
      "1 "
      "MiB of float, uncompressed, on one host\n#\n# {:<16} {:>5} {:>7} {:>7} {:>9} {:>7}  {}\n",
      cgx_version_string(), "algorithm", "ranks", "plans", "steps", "messages", "share", "verdict");
  json rows = json::array();
  uint64_t wrong = 0, proved = 0;
  for (const std::string& algorithm : words.algorithms) {
    for (int ranks = 1; ranks <= words.largest; ++ranks) {
      const Tally tally = check_all(algorithm, ranks);
      const double share = static_cast<double>(tally.example.wire_bytes) / (1 << 20);
      fmt::print("  {:<16} {:>5} {:>7} {:>7} {:>9} {:>7.3f}  {}\n", algorithm, ranks, tally.proved,
                 tally.example.steps, tally.example.messages, share,
                 tally.wrong.empty() ? "ok" : tally.wrong);
      std::fflush(stdout);
      rows.push_back({{"algorithm", algorithm},
                      {"ranks", ranks},
                      {"plans", tally.proved},
                      {"steps", tally.example.steps},
                      {"messages", tally.example.messages},
                      {"share", share},
                      {"wrong", tally.wrong}});
      wrong += tally.wrong.empty() ? 0 : 1;
      proved += tally.proved;
    }
  }
  fmt::print("# {} plans proved right, {} rows wrong: {}\n", proved, wrong, wrong == 0 ? "OK" : "FAILED");
  if (words.json_path.empty()) return wrong == 0 ? 0 : 1;
  std::ofstream file(words.json_path);
  file << json{{"schema", kSchema}, {"mode", "plans"}, {"rows", rows}, {"wrong", wrong}}.dump(1) << "\n";
  if (!file.flush()) throw BenchError(fmt::format("--json {}: cannot be written", words.json_path));
  return wrong == 0 ? 0 : 1;
}

}  // namespace cgx::bench
