// Every environment variable that the library reads, as typed accessors: getenv is called in config.cc
// and nowhere else. Each accessor reads the environment anew, so call it once, at start-up.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/log.h"
#include "base/status.h"

namespace cgx::config {

struct RankAndSize {
  int rank = 0;
  int size = 1;
  const char* source = "";  // the variable that gave the rank
};

// The first pair that is set of CGX_RANK/CGX_SIZE, RANK/WORLD_SIZE, OMPI_COMM_WORLD_RANK/SIZE,
// PMI_RANK/SIZE, SLURM_PROCID/NTASKS. kInvalidArgument where none is, or half of one, or nonsense.
Result<RankAndSize> rank_and_size();

struct StoreAddress {
  enum class Kind { kFile, kTcp };
  Kind kind = Kind::kTcp;
  std::string directory;  // kFile
  std::string host;       // kTcp
  uint16_t port = 0;      // kTcp
};

// CGX_STORE=file:DIR or tcp:HOST:PORT ([...] around an IPv6 host), else MASTER_ADDR with CGX_PORT, else
// with MASTER_PORT + 1 (the port itself is the launcher's).
Result<StoreAddress> store_address();
Result<StoreAddress> parse_store_address(std::string_view text);

std::string job();                  // CGX_JOB, else "cgx"
Result<int64_t> timeout_ms();       // CGX_TIMEOUT_MS, else 300000
std::string socket_interface();     // CGX_SOCKET_IFNAME, else ""
Result<int> socket_family();        // CGX_SOCKET_FAMILY=AF_INET|AF_INET6, as the constant; else 0
Result<uint32_t> socket_streams();  // CGX_SOCKET_STREAMS=1..64, else 1
std::string host_id();              // CGX_HOST_ID, else ""
Result<uint32_t> threads();         // CGX_THREADS, else 1
Result<bool> tune();                // CGX_TUNE=0|1, else false
std::string policy_file();          // CGX_POLICY_FILE, else ""
// CGX_SECRET, or the text of the file CGX_SECRET_FILE without the end of its last line; else "".
Result<std::string> secret();
constexpr size_t kLeastSecret = 16;  // bytes: proofs can be guessed at by whoever has heard one
Status check_secret(std::string_view secret);
std::string inner_codec();           // CGX_INNER_CODEC, else ""
std::vector<std::string> modules();  // CGX_MODULE_PATH: directories, separated by ':'

struct LogSettings {
  LogLevel level = LogLevel::kWarn;  // CGX_DEBUG
  bool version = false;              // CGX_DEBUG=VERSION
  uint32_t subsystems = 0;           // CGX_DEBUG_SUBSYS: a bit each
  std::string file;                  // CGX_DEBUG_FILE, as given; "": standard error
};
LogSettings log_settings();  // a wrong value counts as not given, and is among the complaints

Result<bool> summary();              // CGX_SUMMARY=0|1, else false
Result<uint32_t> stats_every();      // CGX_STATS, else 0
std::string trace_file();            // CGX_TRACE, as given, else ""
Result<uint32_t> trace_events();     // CGX_TRACE_EVENTS, else 65536
std::string metrics_file();          // CGX_METRICS, as given, else ""
Result<uint32_t> metrics_seconds();  // CGX_METRICS_SECONDS, else 10

std::string host_name();
// %h: the host, %p: the process id, %r: `rank` (< 0: the launcher's, else "unknown"), %%: a percent sign.
std::string expand_path(const std::string& pattern, int rank);

// A sentence for each CGX_* variable of the environment that nothing reads, naming the nearest one, and for
// each value above that cannot be.
std::vector<std::string> complaints();
// Logs them, at the first call of the process.
void warn_of_environment();

}  // namespace cgx::config
