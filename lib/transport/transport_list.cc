// The rows, and the choice between them when the caller has none.
#include "transport/transport_list.h"

#include <algorithm>
#include <string>

#include "base/config.h"
#include "transport/hosts.h"
#include "transport/local.h"
#include "transport/mixed.h"
#include "transport/module.h"
#include "transport/shm.h"
#include "transport/tcp.h"

namespace cgx {
namespace {

constexpr TransportEntry kTransports[] = {
    {"local", "Ranks as threads of one process; messages are passed by pointer.", true, open_local},
    {"shm", "Processes of one host; messages are written and read in shared memory.", true, open_shm},
    {"tcp", "Processes of any hosts; messages cross TCP sockets in checked frames.", false, open_tcp},
    {"mixed", "Processes of several hosts: shared memory inside a host, TCP sockets between hosts.", false,
     open_mixed},
    {"gloo", "Processes of any hosts; messages cross TCP sockets through the Gloo library.", false,
     open_gloo},
};

// Where the caller leaves it to the environment.
Result<TransportConfig> filled(TransportConfig config) {
  if (config.socket_family == 0) {
    CGX_ASSIGN_OR_RETURN(config.socket_family, config::socket_family());
  }
  if (config.tcp_streams == 0) {
    CGX_ASSIGN_OR_RETURN(config.tcp_streams, config::socket_streams());
  }
  if (config.host_id.empty()) config.host_id = config::host_id();
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
  const bool by_itself = name.empty() || name == "auto";
  const auto named = [&] {
    return std::find_if(std::begin(kTransports), std::end(kTransports),
                        [&](const TransportEntry& entry) { return name == entry.name; });
  };
  if (!by_itself && named() == std::end(kTransports)) {
    return error(Code::kInvalidArgument, "there is no transport \"{}\": choose one of {}", name, names());
  }
  CGX_ASSIGN_OR_RETURN(TransportConfig full, filled(config));
  if (by_itself || !named()->same_host_only) {
    CGX_ASSIGN_OR_RETURN(full.hosts, meet_hosts(full));
    const int hosts = count_hosts(full.hosts);
    if (by_itself) name = hosts == 1 ? "shm" : hosts == full.size ? "tcp" : "mixed";
  }
  return named()->open(full);
}

}  // namespace cgx
