// The tables of codecs: those that were asked for, or all of them with the floors that the project holds them
// to.
#include "codec.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <list>

#include "codec_run.h"
#include "environment.h"
#include "report.h"
#include "sheet.h"
#include "turns.h"

namespace cgx::bench {
namespace {

using json = nlohmann::json;

// A row's value must be `bound` or more; of a cost, or less.
struct Floor {
  const char* field;
  const char* title;
  double bound;
  bool at_most = false;
};

// A line of the table.
struct Subject {
  std::string spec;
  cgx_dtype dtype = CGX_FLOAT32;
  int base = -1;  // the line that its speed is compared with, an element
  std::vector<Floor> warm = {}, cold = {};
};

// A size, and whether its buffers stay in the cache.
struct Pass {
  uint64_t count;
  bool warm;
  int iterations;
};

constexpr Floor kFeedback = {"feedback_cost", "ef", 0.35, true};
constexpr Floor kAddWarm = {"decode_add_over_memcpy", "add", 0.8};
constexpr Floor kAddCold = {"decode_add_over_memcpy", "add", 0.85};

Floor encode_floor(double bound) { return {"encode_over_memcpy", "enc", bound}; }

// Every codec in every width and for every type of input, as docs/BENCHMARKS.md holds them to.
std::vector<Subject> all_with_floors() {
  std::vector<Subject> all = {{.spec = "none"}, {.spec = "cast:fp16"}, {.spec = "cast:bf16"}};
  const auto add_halves = [&](const std::string& spec, int base) {
    for (const cgx_dtype half : {CGX_FLOAT16, CGX_BFLOAT16}) {
      const std::vector<Floor> floors = {{"encode_over_base", "enc/fp32", 1.0}};
      all.push_back({spec, half, base, floors, floors});
    }
  };
  const auto add = [&](const std::string& spec, double warm) {
    const int base = static_cast<int>(all.size());
    all.push_back({spec,
                   CGX_FLOAT32,
                   -1,
                   {encode_floor(warm), kAddWarm, kFeedback},
                   {encode_floor(0.8), kAddCold, kFeedback}});
    add_halves(spec, base);
    return base;
  };
  add("natural", 0.4);
  add("natural8", 0.4);
  for (const std::string name : {"maxmin", "dither", "natdither"}) {
    const int base = add(name + ":bits=4", 0.25);
    for (const int bits : {1, 2, 3, 5, 6, 7, 8}) {
      const std::string spec = fmt::format("{}:bits={}", name, bits);
      cgx_codec* codec = nullptr;
      if (cgx_codec_create(spec.c_str(), &codec) != CGX_OK) continue;  // it has no such width
      cgx_codec_destroy(codec);
      const double least = bits == 1 || bits == 2 || bits == 8 ? 0.7 : 0.5;
      const std::vector<Floor> floors = {{"encode_over_base", "enc/4bits", least},
                                         {"decode_add_over_base", "add/4bits", least}};
      all.push_back({spec, CGX_FLOAT32, base, floors, floors});
    }
  }
  const int topk = static_cast<int>(all.size());
  all.push_back(
      {"topk:ratio=0.01", CGX_FLOAT32, -1, {kFeedback}, {kFeedback, {"encode_over_nth_element", "nth", 15}}});
  add_halves("topk:ratio=0.01", topk);
  all.push_back({.spec = "randk:ratio=0.01"});
  return all;
}

void judge(const std::vector<Floor>& floors, json& row) {
  row["floors"] = json::object();
  row["missed"] = json::array();
  for (const Floor& floor : floors) {
    row["floors"][floor.field] = floor.bound;
    const double value = row[floor.field].is_null() ? NAN : row[floor.field].get<double>();
    const bool holds = floor.at_most ? value <= floor.bound : value >= floor.bound;
    if (!holds) {
      row["missed"].push_back(
          fmt::format("{} {:.2f} {} {}", floor.title, value, floor.at_most ? ">" : "<", floor.bound));
    }
  }
}

std::vector<json> measure(const Options& options, const Source& source, const Pass& pass,
                          const std::vector<Subject>& subjects) {
  std::list<Tensors> tensors;
  const auto tensors_of = [&](cgx_dtype dtype) -> Tensors& {
    for (Tensors& t : tensors) {
      if (t.dtype == dtype) return t;
    }
    return tensors.emplace_back(source, dtype, pass.count, pass.warm);
  };
  std::list<CodecRun> made;
  std::vector<CodecRun*> runs;
  for (const Subject& subject : subjects) {
    runs.push_back(&made.emplace_back(options, tensors_of(subject.dtype), subject.spec));
  }
  for (int round = -options.warmup; round < options.rounds; ++round) {
    for (size_t i = 0; i < runs.size(); ++i) {
      const size_t turn = whose_turn(i, static_cast<size_t>(int64_t{round} + options.warmup), runs.size());
      runs[turn]->round(pass.iterations, round >= 0);
    }
  }
  std::vector<json> rows;
  for (size_t i = 0; i < runs.size(); ++i) {
    const Subject& subject = subjects[i];
    json row = runs[i]->row();
    row["name"] = subject.spec;
    row["base"] = row["encode_over_base"] = row["decode_add_over_base"] = nullptr;
    if (subject.base >= 0) {
      const auto base = static_cast<size_t>(subject.base);
      row["base"] = fmt::format("{} of {}", subjects[base].spec, dtype_name(subjects[base].dtype));
      row["encode_over_base"] = runs[i]->speed_over(*runs[base], CodecRun::kEncode);
      row["decode_add_over_base"] = runs[i]->speed_over(*runs[base], CodecRun::kAdd);
    }
    judge(pass.warm ? subject.warm : subject.cold, row);
    rows.push_back(std::move(row));
  }
  return rows;
}

std::string floors_cell(const json& row) {
  if (row["floors"].empty()) return "";
  std::string missed;
  for (const json& one : row["missed"]) missed += (missed.empty() ? "" : ", ") + one.get<std::string>();
  return missed.empty() ? "PASS" : missed;
}

std::vector<std::string> cells_of(const json& row) {
  std::vector<std::string> cells = {std::to_string(row["size_bytes"].get<uint64_t>()), row["cache"],
                                    row["type"], row["name"]};
  for (const char* field :
       {"encode_GBps", "encode_feedback_GBps", "decode_GBps", "decode_add_GBps", "memcpy_GBps",
        "encode_over_memcpy", "decode_over_memcpy", "decode_add_over_memcpy", "feedback_cost",
        "encode_over_base", "decode_add_over_base", "encode_over_nth_element", "ratio"}) {
    cells.push_back(row[field].is_null() ? "-" : short_number(row[field].get<double>()));
  }
  cells.push_back(std::to_string(row["encoded_bytes"].get<uint64_t>()));
  cells.push_back(row["wrong"].is_null() ? "N/A" : std::to_string(row["wrong"].get<uint64_t>()));
  for (const char* field : {"nmse", "bias_z"}) {
    cells.push_back(row[field].is_null() ? "-" : short_number(row[field].get<double>()));
  }
  cells.push_back("  " + floors_cell(row));
  return cells;
}

std::vector<Column> columns_for(const std::vector<Subject>& subjects) {
  size_t width = 5;
  for (const Subject& subject : subjects) width = std::max(width, subject.spec.size());
  return {
      {"size", "(B)", 9},         {"cache", "", 5},         {"type", "", 8},         {"codec", "", width},
      {"encode", "(GB/s)", 7},    {"with ef", "(GB/s)", 7}, {"decode", "(GB/s)", 7}, {"dec+add", "(GB/s)", 7},
      {"memcpy", "(GB/s)", 7},    {"enc/cpy", "", 7},       {"dec/cpy", "", 7},      {"add/cpy", "", 7},
      {"ef cost", "(of enc)", 8}, {"enc/base", "", 8},      {"add/base", "", 8},     {"enc/nth", "", 7},
      {"ratio", "", 6},           {"block", "(B)", 9},      {"#wrong", "", 6},       {"NMSE", "", 8},
      {"bias z", "", 8},          {"floors", "", 8}};
}

constexpr const char* kFields[] = {"size_bytes",
                                   "cache",
                                   "type",
                                   "name",
                                   "codec",
                                   "encode_GBps",
                                   "decode_GBps",
                                   "decode_add_GBps",
                                   "memcpy_GBps",
                                   "encode_feedback_GBps",
                                   "encode_over_memcpy",
                                   "ratio",
                                   "decode_over_memcpy",
                                   "feedback_cost",
                                   "decode_add_over_memcpy",
                                   "encoded_bytes",
                                   "wrong",
                                   "nmse",
                                   "bias_z"};

std::vector<Pass> passes_of(const Options& options) {
  // In L2: as many calls as take about a millisecond, for the clock's sake.
  if (options.floors) return {{65536, true, 64}, {16 << 20, false, 1}};
  std::vector<Pass> passes;
  for (const uint64_t bytes : sizes(options)) {
    passes.push_back({bytes / dtype_bytes(options.dtype), options.warm_cache, options.iterations});
  }
  return passes;
}

}  // namespace

int run_codec(const Options& options) {
  if (!options.cpu_path.empty() && cgx_set_cpu_path(options.cpu_path.c_str()) != CGX_OK) {
    throw UsageError(cgx_last_error());
  }
  std::vector<Subject> subjects;
  if (options.floors) subjects = all_with_floors();
  for (size_t i = 0; i < options.codecs.size() && !options.floors; ++i) {
    subjects.push_back({.spec = options.codecs[i], .dtype = options.dtype});
  }
  for (const Subject& subject : subjects) make_codec(subject.spec);
  const Source source(options.data, options.seed);
  const json machine = environment(options);
  Sheet sheet(options.format, columns_for(subjects), {std::begin(kFields), std::end(kFields)});
  sheet.note(
      fmt::format("cgx-bench {} codec: one thread, all lines in the same {} rounds after {} of warm-up, data "
                  "{}, cpu path {}",
                  cgx_version_string(), options.rounds, options.warmup, options.data,
                  options.cpu_path.empty() ? "best" : options.cpu_path));
  sheet.note(
      "ratios are medians over rounds; base: the same codec with 4 bits, for fp16 and bf16 the same with "
      "fp32, "
      "an element");
  sheet.note(environment_line(machine));
  sheet.start();
  json rows = json::array();
  uint64_t wrong = 0, judged = 0, missed = 0;
  for (const Pass& pass : passes_of(options)) {
    for (json& row : measure(options, source, pass, subjects)) {
      sheet.row(row, cells_of(row));
      wrong += row["wrong"].is_null() ? 0 : row["wrong"].get<uint64_t>();
      judged += row["floors"].size();
      missed += row["missed"].size();
      rows.push_back(std::move(row));
    }
  }
  sheet.note(fmt::format("Out of bounds values : {} {}", wrong, wrong == 0 ? "OK" : "FAILED"));
  if (judged > 0) sheet.note(fmt::format("Floors : {} of {} hold", judged - missed, judged));
  sheet.end(write_json(options, machine, rows,
                       {{"out_of_bounds", wrong}, {"floors_judged", judged}, {"floors_missed", missed}}));
  return wrong == 0 ? 0 : 1;
}

}  // namespace cgx::bench
