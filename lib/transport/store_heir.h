// A store that ends with a rank's process has heirs: sockets that listen from the start, on every rank, and
// that begin to answer when the ranks before them are known to be dead. Inside of lib/transport.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/status.h"
#include "transport/store.h"
#include "transport/store_tcp_server.h"

namespace cgx {

// Listens on a free port of the numeric address `host`, for those who share `secret`.
Result<std::unique_ptr<StoreHeir>> make_tcp_heir(const std::string& host, const std::string& secret);

// The connection of a server to itself.
Result<std::unique_ptr<Store>> make_served_tcp_store(const std::string& host, uint16_t port,
                                                     const std::string& secret,
                                                     std::unique_ptr<StoreServer> server);

// One try. kPeerFailed: refused, or ended before an answer. kTimeout: nobody knows.
Result<std::unique_ptr<Store>> connect_tcp_store(const TcpStoreConfig& config, const StopFlag& stop);

}  // namespace cgx
