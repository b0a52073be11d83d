// See hosts.h.
#include "transport/hosts.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <climits>

#include "base/boot_id.h"
#include "transport/rendezvous.h"

namespace cgx {

std::string host_identity(const TransportConfig& config) {
  if (!config.host_id.empty()) return "named/" + config.host_id;
  std::string boot = boot_id();
  if (boot.empty()) {
    char host[HOST_NAME_MAX + 1] = {};
    gethostname(host, HOST_NAME_MAX);
    boot = host;
  }
  struct stat shm = {};
  if (stat(config.shm_directory.c_str(), &shm) != 0) return fmt::format("{}/none/{}", boot, config.rank);
  return fmt::format("{}/{}:{}", boot, shm.st_dev, shm.st_ino);
}

Result<std::vector<int>> meet_hosts(const TransportConfig& config) {
  CGX_ASSIGN_OR_RETURN(const std::vector<std::string> names,
                       meet(config.store, {config.rank, config.size, config.job, "host", config.timeout_ms},
                            host_identity(config)));
  std::vector<std::string> known;
  std::vector<int> hosts;
  for (const std::string& name : names) {
    const auto found = std::find(known.begin(), known.end(), name);
    hosts.push_back(static_cast<int>(found - known.begin()));
    if (found == known.end()) known.push_back(name);
  }
  return hosts;
}

int count_hosts(const std::vector<int>& hosts) {
  return hosts.empty() ? 1 : 1 + *std::max_element(hosts.begin(), hosts.end());
}

}  // namespace cgx
