// See config.h. kVariables is the list of all CGX_* names: an accessor for another one would be warned of.
#include "base/config.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <mutex>
#include <numeric>

namespace cgx::config {
namespace {

constexpr std::array<std::string_view, 13> kVariables = {
    "CGX_HOST_ID", "CGX_JOB",        "CGX_LOG",  "CGX_MODULE_PATH", "CGX_POLICY_FILE",
    "CGX_PORT",    "CGX_RANK",       "CGX_SIZE", "CGX_STORE",       "CGX_SOCKET_IFNAME",
    "CGX_THREADS", "CGX_TIMEOUT_MS", "CGX_TUNE"};
// Read by the Python package (bindings/python).
constexpr std::array<std::string_view, 8> kPythonVariables = {
    "CGX_ALGORITHM", "CGX_CACHE",        "CGX_CODEC", "CGX_COMPRESS_1D",
    "CGX_LIBRARY",   "CGX_MIN_ELEMENTS", "CGX_SEED",  "CGX_TRANSPORT"};
// Read by our own scripts, tests and build, not by the library.
constexpr std::array<std::string_view, 6> kForeignPrefixes = {"CGX_TEST_",  "CGX_BUILD_", "CGX_WITH_",
                                                              "CGX_BENCH_", "CGX_DEMO_",  "CGX_NETNS_"};

constexpr int64_t kDefaultTimeoutMs = 300000;

// An empty variable counts as not set: launchers export such ones.
std::string read(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

bool parse_integer(std::string_view text, int64_t* value) {
  const char* end = text.data() + text.size();
  const auto [stop, fault] = std::from_chars(text.data(), end, *value);
  return fault == std::errc() && stop == end;
}

Result<int64_t> read_integer(const char* name, int64_t low, int64_t high) {
  const std::string text = read(name);
  int64_t value = 0;
  if (!parse_integer(text, &value) || value < low || value > high) {
    return error(Code::kInvalidArgument, "{}=\"{}\": must be a number from {} to {}", name, text, low, high);
  }
  return value;
}

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i + 1;
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t replace = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replace, row[j] + 1, diagonal + 1});
    }
  }
  return row[b.size()];
}

std::string_view nearest_variable(std::string_view name) {
  return *std::min_element(kVariables.begin(), kVariables.end(), [&](std::string_view a, std::string_view b) {
    return edit_distance(name, a) < edit_distance(name, b);
  });
}

bool is_ours_and_unknown(std::string_view name) {
  if (!name.starts_with("CGX_")) return false;
  const auto is_prefix = [&](std::string_view prefix) { return name.starts_with(prefix); };
  return std::find(kVariables.begin(), kVariables.end(), name) == kVariables.end() &&
         std::find(kPythonVariables.begin(), kPythonVariables.end(), name) == kPythonVariables.end() &&
         std::none_of(kForeignPrefixes.begin(), kForeignPrefixes.end(), is_prefix);
}

Result<StoreAddress> master_address() {
  StoreAddress address;
  address.host = read("MASTER_ADDR");
  const char* port_name = "CGX_PORT";
  int64_t offset = 0;
  if (read(port_name).empty()) {
    port_name = "MASTER_PORT";
    offset = 1;
  }
  if (address.host.empty() || read(port_name).empty()) {
    return error(
        Code::kInvalidArgument,
        "no store to meet the other ranks in: set CGX_STORE=file:DIR or tcp:HOST:PORT, or MASTER_ADDR "
        "with CGX_PORT or MASTER_PORT (torchrun sets these)");
  }
  CGX_ASSIGN_OR_RETURN(const int64_t port, read_integer(port_name, 1, 65535 - offset));
  address.port = static_cast<uint16_t>(port + offset);
  return address;
}

}  // namespace

Result<RankAndSize> rank_and_size() {
  struct Pair {
    const char* rank;
    const char* size;
  };
  constexpr Pair kPairs[] = {{"CGX_RANK", "CGX_SIZE"},
                             {"RANK", "WORLD_SIZE"},
                             {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},
                             {"PMI_RANK", "PMI_SIZE"},
                             {"SLURM_PROCID", "SLURM_NTASKS"}};
  for (const Pair& pair : kPairs) {
    const bool has_rank = !read(pair.rank).empty();
    const bool has_size = !read(pair.size).empty();
    if (!has_rank && !has_size) continue;
    if (!has_rank || !has_size) {
      return error(Code::kInvalidArgument, "{} is set and {} is not: set both, or neither",
                   has_rank ? pair.rank : pair.size, has_rank ? pair.size : pair.rank);
    }
    CGX_ASSIGN_OR_RETURN(const int64_t size, read_integer(pair.size, 1, INT32_MAX));
    CGX_ASSIGN_OR_RETURN(const int64_t rank, read_integer(pair.rank, 0, size - 1));
    return RankAndSize{static_cast<int>(rank), static_cast<int>(size), pair.rank};
  }
  return error(Code::kInvalidArgument,
               "this process does not know its rank: start it with torchrun, mpirun or srun, or set CGX_RANK "
               "and CGX_SIZE");
}

Result<StoreAddress> parse_store_address(std::string_view text) {
  StoreAddress address;
  if (text.starts_with("file:") && text.size() > 5) {
    address.kind = StoreAddress::Kind::kFile;
    address.directory = text.substr(5);
    return address;
  }
  if (text.starts_with("tcp:")) {
    const std::string_view rest = text.substr(4);
    const size_t colon = rest.rfind(':');
    int64_t port = 0;
    if (colon != std::string_view::npos && colon > 0 && parse_integer(rest.substr(colon + 1), &port) &&
        port > 0 && port < 65536) {
      std::string_view host = rest.substr(0, colon);
      if (host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
      address.host = host;
      address.port = static_cast<uint16_t>(port);
      if (!host.empty()) return address;
    }
  }
  return error(Code::kInvalidArgument,
               "store address \"{}\": must be file:DIR or tcp:HOST:PORT with a port from 1 to 65535", text);
}

Result<StoreAddress> store_address() {
  const std::string text = read("CGX_STORE");
  return text.empty() ? master_address() : parse_store_address(text);
}

std::string job() {
  std::string name = read("CGX_JOB");
  return name.empty() ? "cgx" : name;
}

Result<int64_t> timeout_ms() {
  if (read("CGX_TIMEOUT_MS").empty()) return kDefaultTimeoutMs;
  return read_integer("CGX_TIMEOUT_MS", 1, INT64_MAX);
}

Result<uint32_t> threads() {
  if (read("CGX_THREADS").empty()) return 1u;
  CGX_ASSIGN_OR_RETURN(const int64_t count, read_integer("CGX_THREADS", 1, 256));
  return static_cast<uint32_t>(count);
}

Result<bool> tune() {
  if (read("CGX_TUNE").empty()) return false;
  CGX_ASSIGN_OR_RETURN(const int64_t flag, read_integer("CGX_TUNE", 0, 1));
  return flag == 1;
}

std::string policy_file() { return read("CGX_POLICY_FILE"); }

std::string host_id() { return read("CGX_HOST_ID"); }

std::string socket_interface() { return read("CGX_SOCKET_IFNAME"); }

std::vector<std::string> modules() {
  std::vector<std::string> directories;
  const std::string text = read("CGX_MODULE_PATH");
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find(':', begin), text.size());
    if (end > begin) directories.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return directories;
}

LogLevel log_level() {
  const std::string text = read("CGX_LOG");
  if (text == "error") return LogLevel::kError;
  if (text == "info") return LogLevel::kInfo;
  if (text == "trace") return LogLevel::kTrace;
  return LogLevel::kWarn;
}

std::vector<std::string> unknown_variables() {
  std::vector<std::string> sentences;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    const std::string_view name = text.substr(0, text.find('='));
    if (!is_ours_and_unknown(name)) continue;
    sentences.push_back(
        fmt::format("the environment variable {} is unknown to cgx and does nothing; did you mean {}?", name,
                    nearest_variable(name)));
  }
  const std::string level = read("CGX_LOG");
  if (!level.empty() && level != "error" && level != "warn" && level != "info" && level != "trace") {
    sentences.push_back(
        fmt::format("CGX_LOG=\"{}\": must be error, warn, info or trace; taken as warn", level));
  }
  return sentences;
}

void warn_of_unknown_variables() {
  static std::once_flag once;
  std::call_once(once, [] {
    for (const std::string& sentence : unknown_variables()) log_line(LogLevel::kWarn, sentence);
  });
}

}  // namespace cgx::config
