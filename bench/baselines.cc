// The lines of a table: baselines by their names, then codecs; and which baselines cannot be had here, and
// why.
#include <fmt/format.h>
#include <sys/wait.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <iterator>
#include <optional>
#include <sstream>
#include <string_view>
#include <system_error>
#include <utility>

#include "contender.h"
#include "openmpi.h"
#include "own_files.h"

namespace cgx::bench {
namespace {

struct Baseline {
  std::string_view name, spec;
  Kind kind;
};
constexpr Baseline kBaselines[] = {{"gloo", "none", Kind::kGloo},
                                   {"gloo16", "cast:fp16", Kind::kGloo16},
                                   {"openmpi", "none", Kind::kOpenMpi},
                                   {"openmpi-shm", "none", Kind::kOpenMpi},
                                   {"openmpi-tcp", "none", Kind::kOpenMpi},
                                   {"torch", "none", Kind::kTorch},
                                   {"torch-fp16", "cast:fp16", Kind::kTorchHook},
                                   {"torch-bf16", "cast:bf16", Kind::kTorchHook},
                                   {"torch-powersgd", "none", Kind::kTorchHook},
                                   {"memcpy", "none", Kind::kCopy}};

std::string unique_name(const std::vector<Entry>& taken, const std::string& name) {
  const auto same = [&](const std::string& candidate) {
    return std::any_of(taken.begin(), taken.end(), [&](const Entry& e) { return e.name == candidate; });
  };
  std::string candidate = name;
  for (int k = 2; same(candidate); ++k) candidate = fmt::format("{} ({})", name, k);
  return candidate;
}

// "" if `python` imports PyTorch; else its last words.
std::string torch_missing(const std::string& python) {
  if (!in_path(python)) return fmt::format("{} is not in the PATH (--python names one with PyTorch)", python);
  const std::string command = fmt::format("'{}' -c 'import torch.distributed' 2>&1", python);
  FILE* pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return "it cannot be started";
  std::string said, line;
  for (int c = 0; (c = std::fgetc(pipe)) != EOF;) {
    if (c != '\n') {
      line += static_cast<char>(c);
    } else if (!line.empty()) {
      said = std::exchange(line, "");
    }
  }
  const int state = pclose(pipe);
  return state == 0 ? "" : fmt::format("{}: {} (--python names one with PyTorch)", python, said);
}

// Why the baseline cannot do this operation on this type; "" if it can.
std::string unfit(const Options& options, Kind kind) {
  const std::string type = dtype_name(options.dtype);
  const bool bfloat = options.dtype == CGX_BFLOAT16;
  switch (kind) {
    case Kind::kGloo16:
      return !is_sum(options.op) || options.dtype != CGX_FLOAT32 ? "it is for sums and averages of float"
                                                                 : "";
    case Kind::kTorchHook:
      return !is_sum(options.op) || is_integer(options.dtype) ? "it is for sums and averages of floats" : "";
    case Kind::kGloo:
      return bfloat ? fmt::format("Gloo has no {}", type) : "";
    case Kind::kOpenMpi:
      return bfloat || options.dtype == CGX_FLOAT16 ? fmt::format("MPI has no {}", type) : "";
    case Kind::kTorch:
      return options.dtype == CGX_INT16 ? "PyTorch's Gloo has no int16" : "";
    default:
      return "";
  }
}

// `torch`: what torch_missing() said, asked once.
std::string missing(const Options& options, const Baseline& baseline, const Team* world,
                    std::optional<std::string>* torch) {
  if (std::string why = unfit(options, baseline.kind); !why.empty()) return why;
  const bool apart = world != nullptr && world->directory().empty();
  const char* hosts = "the ranks are on hosts that share no directory (--meeting-directory names one)";
  switch (baseline.kind) {
    case Kind::kOpenMpi:
      return openmpi_missing(options, std::string(baseline.name));
    case Kind::kGloo:
    case Kind::kGloo16:
      return apart ? hosts : "";
    case Kind::kTorch:
    case Kind::kTorchHook:
      if (apart) return hosts;
      if (!*torch) *torch = torch_missing(options.python);
      return **torch;
    default:
      return "";
  }
}

uint32_t parse_threads(const std::string& text, const std::string& name) {
  uint32_t threads = 0;
  const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), threads);
  if (fault != std::errc() || end != text.data() + text.size() || threads == 0) {
    throw UsageError(fmt::format("{}: threads={}: expected a whole number from 1 on", name, text));
  }
  return threads;
}

// "SPEC@KEY=VALUE,...".
Entry cgx_entry(const Options& options, const std::string& name) {
  const size_t at = name.find('@');
  Entry entry;
  entry.spec = name.substr(0, at);
  entry.transport = options.transport;
  entry.algorithm = options.algorithm;
  std::istringstream words(at == std::string::npos ? "" : name.substr(at + 1));
  for (std::string word; std::getline(words, word, ',');) {
    const size_t equals = std::min(word.find('='), word.size());
    const std::string key = word.substr(0, equals);
    const std::string value = word.substr(std::min(equals + 1, word.size()));
    if (key == "transport") {
      entry.transport = value;
    } else if (key == "algorithm") {
      entry.algorithm = value;
    } else if (key == "threads") {
      entry.threads = parse_threads(value, name);
    } else {
      throw UsageError(fmt::format("{}: \"{}\": expected transport=, algorithm= or threads=", name, word));
    }
  }
  return entry;
}

}  // namespace

nlohmann::json skip_missing(Options& options, const Team* world) {
  nlohmann::json skipped = nlohmann::json::object();
  std::optional<std::string> torch;
  for (const std::string& name : options.baselines) {
    const auto known = std::find_if(std::begin(kBaselines), std::end(kBaselines),
                                    [&](const Baseline& one) { return one.name == name; });
    if (known == std::end(kBaselines) || skipped.contains(name)) continue;
    const std::string reason = missing(options, *known, world, &torch);
    if (!reason.empty()) skipped[name] = reason;
  }
  for (const auto& [name, reason] : skipped.items()) options.skipped.push_back(name);
  return skipped;
}

bool declares_bound(const Entry& entry) {
  return entry.kind != Kind::kGloo16 && entry.kind != Kind::kTorchHook && !entry.spec.starts_with("auto");
}

std::vector<Entry> entries(const Options& options) {
  std::vector<Entry> out;
  for (const std::string& name : options.baselines) {
    if (std::find(options.skipped.begin(), options.skipped.end(), name) != options.skipped.end()) continue;
    const auto known = std::find_if(std::begin(kBaselines), std::end(kBaselines),
                                    [&](const Baseline& one) { return one.name == name; });
    Entry entry = known == std::end(kBaselines) ? cgx_entry(options, name) : Entry();
    if (known != std::end(kBaselines)) {
      entry.spec = known->spec;
      entry.kind = known->kind;
    }
    entry.name = unique_name(out, name);
    entry.is_baseline = true;
    entry.method = name;
    out.push_back(std::move(entry));
  }
  for (const std::string& name : options.codecs) {
    Entry entry = cgx_entry(options, name);
    entry.name = unique_name(out, name);
    out.push_back(entry);
    if (options.mode != Mode::kLayers) continue;
    entry.name = unique_name(out, name + ", a call a layer");
    entry.call_a_layer = true;
    out.push_back(std::move(entry));
  }
  return out;
}

}  // namespace cgx::bench
