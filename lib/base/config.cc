// See config.h. The names of all variables stand in variables.cc too: one that does not would be warned of.
#include "base/config.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <mutex>

#include "base/variables.h"

namespace cgx::config {
namespace {

constexpr int64_t kDefaultTimeoutMs = 300000;
constexpr uint32_t kAllSubsystems = (1u << kSubsystems) - 1;

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

std::string upper(std::string text) {
  for (char& c : text) c = c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  return text;
}

Result<uint32_t> read_count(const char* name, uint32_t otherwise, int64_t low, int64_t high) {
  if (read(name).empty()) return otherwise;
  CGX_ASSIGN_OR_RETURN(const int64_t count, read_integer(name, low, high));
  return static_cast<uint32_t>(count);
}

Result<bool> read_flag(const char* name) {
  CGX_ASSIGN_OR_RETURN(const uint32_t flag, read_count(name, 0, 0, 1));
  return flag == 1;
}

// A bit a subsystem. As NCCL reads such lists: "^" before the first name turns all of it round.
uint32_t read_subsystems(std::string_view text, std::vector<std::string>* complaints) {
  const bool all_but = text.starts_with('^');
  if (all_but) text.remove_prefix(1);
  uint32_t named = 0;
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    const std::string name = upper(std::string(text.substr(begin, end - begin)));
    begin = end + 1;
    uint32_t bits = name == "ALL" ? kAllSubsystems : 0;
    for (int i = 0; i < kSubsystems; ++i) {
      if (name == subsystem_name(static_cast<Subsystem>(i))) bits |= 1u << i;
    }
    if (bits == 0 && !name.empty() && complaints != nullptr) {
      complaints->push_back(fmt::format(
          "CGX_DEBUG_SUBSYS: there is no subsystem {}; there are INIT, COLL, NET, CODEC, TUNING, ENV and ALL",
          name));
    }
    named |= bits;
  }
  return all_but || named == 0 ? kAllSubsystems & ~named : named;
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

Result<uint32_t> threads() { return read_count("CGX_THREADS", 1, 1, 256); }

Result<bool> tune() { return read_flag("CGX_TUNE"); }

std::string policy_file() { return read("CGX_POLICY_FILE"); }

std::string inner_codec() { return read("CGX_INNER_CODEC"); }

Result<int> socket_family() {
  const std::string text = read("CGX_SOCKET_FAMILY");
  if (text.empty()) return 0;
  if (text == "AF_INET") return AF_INET;
  if (text == "AF_INET6") return AF_INET6;
  return error(Code::kInvalidArgument, "CGX_SOCKET_FAMILY=\"{}\": must be AF_INET or AF_INET6", text);
}

Result<uint32_t> socket_streams() { return read_count("CGX_SOCKET_STREAMS", 1, 1, 64); }

std::string host_id() { return read("CGX_HOST_ID"); }

Status check_secret(std::string_view secret) {
  if (secret.empty() || secret.size() >= kLeastSecret) return {};
  return error(Code::kInvalidArgument,
               "the secret has {} bytes, {} at least are needed: try `openssl rand -hex 32`", secret.size(),
               kLeastSecret);
}

Result<std::string> secret() {
  std::string text = read("CGX_SECRET");
  const std::string file = read("CGX_SECRET_FILE");
  if (!text.empty() && !file.empty()) {
    return error(Code::kInvalidArgument, "CGX_SECRET and CGX_SECRET_FILE are both set: set one");
  }
  if (!file.empty()) {
    std::ifstream stream(file, std::ios::binary);
    text.assign(std::istreambuf_iterator<char>(stream), {});
    while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.pop_back();
    if (text.empty()) {
      return error(Code::kInvalidArgument, "CGX_SECRET_FILE=\"{}\": that file {}", file,
                   stream ? "is empty" : "cannot be read");
    }
  }
  CGX_RETURN_IF_ERROR(check_secret(text));
  return text;
}

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

std::string host_name() {
  char name[256] = {};
  if (gethostname(name, sizeof(name) - 1) != 0) return "unknown-host";
  return name;
}

std::string expand_path(const std::string& pattern, int rank) {
  std::string path;
  for (size_t i = 0; i < pattern.size(); ++i) {
    const char what = pattern[i] == '%' && i + 1 < pattern.size() ? pattern[i + 1] : '\0';
    if (what == 'h') {
      path += host_name();
    } else if (what == 'p') {
      path += std::to_string(getpid());
    } else if (what == 'r') {
      const Result<RankAndSize> launched = rank_and_size();
      if (rank < 0 && launched.ok()) rank = launched->rank;
      path += rank < 0 ? "unknown" : std::to_string(rank);
    } else if (what != '%') {
      path += pattern[i];
      continue;
    } else {
      path += '%';
    }
    ++i;
  }
  return path;
}

LogSettings log_settings() {
  LogSettings settings;
  const std::string level = upper(read("CGX_DEBUG"));
  if (level == "ERROR") settings.level = LogLevel::kError;
  if (level == "INFO") settings.level = LogLevel::kInfo;
  if (level == "TRACE") settings.level = LogLevel::kTrace;
  settings.version = level == "VERSION";
  settings.subsystems = read_subsystems(read("CGX_DEBUG_SUBSYS"), nullptr);
  settings.file = read("CGX_DEBUG_FILE");
  return settings;
}

Result<bool> summary() { return read_flag("CGX_SUMMARY"); }

Result<uint32_t> stats_every() { return read_count("CGX_STATS", 0, 0, 1000000000); }

std::string trace_file() { return read("CGX_TRACE"); }

Result<uint32_t> trace_events() { return read_count("CGX_TRACE_EVENTS", 65536, 1024, 16777216); }

std::string metrics_file() { return read("CGX_METRICS"); }

Result<uint32_t> metrics_seconds() { return read_count("CGX_METRICS_SECONDS", 10, 1, 86400); }

std::vector<std::string> complaints() {
  std::vector<std::string> sentences;
  for (char** entry = environ; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    std::string complaint = complaint_about(text.substr(0, text.find('=')));
    if (!complaint.empty()) sentences.push_back(std::move(complaint));
  }
  const std::string level = read("CGX_DEBUG");
  const std::string name = upper(level);
  constexpr std::array<std::string_view, 6> kLevels = {"", "ERROR", "WARN", "VERSION", "INFO", "TRACE"};
  if (std::find(kLevels.begin(), kLevels.end(), name) == kLevels.end()) {
    sentences.push_back(
        fmt::format("CGX_DEBUG=\"{}\": must be ERROR, WARN, VERSION, INFO or TRACE; taken as WARN", level));
  }
  read_subsystems(read("CGX_DEBUG_SUBSYS"), &sentences);
  return sentences;
}

void warn_of_environment() {
  static std::once_flag once;
  std::call_once(once, [] {
    for (const std::string& sentence : complaints()) log(LogLevel::kWarn, Subsystem::kEnv, "{}", sentence);
  });
}

}  // namespace cgx::config
