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

std::string job();                   // CGX_JOB, else "cgx"
Result<int64_t> timeout_ms();        // CGX_TIMEOUT_MS, else 300000
std::string socket_interface();      // CGX_SOCKET_IFNAME, else ""
std::string host_id();               // CGX_HOST_ID, else ""
Result<uint32_t> threads();          // CGX_THREADS, else 1
Result<bool> tune();                 // CGX_TUNE=0|1, else false
std::string policy_file();           // CGX_POLICY_FILE, else ""
std::vector<std::string> modules();  // CGX_MODULE_PATH: directories, separated by ':'
LogLevel log_level();                // CGX_LOG=error|warn|info|trace, else warn

// A sentence for each CGX_* variable of the environment that nothing reads, naming the nearest one.
std::vector<std::string> unknown_variables();
// Logs them, at the first call of the process.
void warn_of_unknown_variables();

}  // namespace cgx::config
