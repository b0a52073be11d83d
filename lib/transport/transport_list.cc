// The rows, and the choice between them when the caller has none.
#include "transport/transport_list.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <fstream>
#include <string>
#include <vector>

#include "base/config.h"
#include "transport/local.h"
#include "transport/module.h"
#include "transport/rendezvous.h"
#include "transport/shm.h"
#include "transport/tcp.h"

namespace cgx {
namespace {

constexpr TransportEntry kTransports[] = {
    {"local", "Ranks as threads of one process; messages are passed by pointer.", true, true, open_local},
    {"shm", "Processes of one host; messages are written and read in shared memory.", true, false, open_shm},
    {"tcp", "Processes of any hosts; messages cross TCP sockets in checked frames.", false, false, open_tcp},
    {"gloo", "Processes of any hosts; messages cross TCP sockets through the Gloo library.", false, false,
     open_gloo},
};

// Ranks share a host when one kernel runs them and they see one /dev/shm (containers may not).
std::string host_identity(const TransportConfig& config) {
  std::string boot;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> boot;
  if (boot.empty()) {
    char host[HOST_NAME_MAX + 1] = {};
    gethostname(host, HOST_NAME_MAX);
    boot = host;
  }
  struct stat shm = {};
  if (stat(config.shm_directory.c_str(), &shm) != 0) return fmt::format("{}/none/{}", boot, config.rank);
  return fmt::format("{}/{}:{}", boot, shm.st_dev, shm.st_ino);
}

Result<bool> ranks_share_a_host(const TransportConfig& config) {
  const std::string own = host_identity(config);
  CGX_ASSIGN_OR_RETURN(
      const std::vector<std::string> hosts,
      meet(config.store, {config.rank, config.size, config.job, "host", config.timeout_ms}, own));
  return std::all_of(hosts.begin(), hosts.end(), [&](const std::string& host) { return host == own; });
}

// Where the caller leaves it to the environment.
TransportConfig filled(TransportConfig config) {
  if (config.interface_name.empty()) config.interface_name = config::socket_interface();
  const Result<config::StoreAddress> store = config::store_address();
  const bool is_tcp = store.ok() && store->kind == config::StoreAddress::Kind::kTcp;
  if (config.reach_host.empty() && is_tcp) config.reach_host = store->host;
  return config;
}

std::string names() {
  std::string list = "auto";
  for (const TransportEntry& entry : kTransports) list += fmt::format(", {}", entry.name);
  return list;
}

}  // namespace

std::span<const TransportEntry> transports() { return kTransports; }

Result<std::unique_ptr<Transport>> open_transport(std::string_view name, const TransportConfig& config) {
  if (config.store == nullptr || config.size < 1 || config.rank < 0 || config.rank >= config.size ||
      config.timeout_ms <= 0) {
    return error(Code::kInvalidArgument,
                 "transport: rank {} of {} with a timeout of {} ms: needs a store, 0 <= rank < size and a "
                 "positive timeout",
                 config.rank, config.size, config.timeout_ms);
  }
  if (name.empty() || name == "auto") {
    CGX_ASSIGN_OR_RETURN(const bool same_host, ranks_share_a_host(config));
    name = same_host ? "shm" : "tcp";
  }
  for (const TransportEntry& entry : kTransports) {
    if (name == entry.name) return entry.open(filled(config));
  }
  return error(Code::kInvalidArgument, "there is no transport \"{}\": choose one of {}", name, names());
}

}  // namespace cgx
