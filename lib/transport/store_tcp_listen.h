// Where a tcp store listens.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"

namespace cgx {

// Descriptors that listen on the addresses of `host`: on all interfaces where that name is not an address of
// this machine (a forwarded one) or, here, only means loopback (127.0.1.1 in /etc/hosts). Port 0: one that is
// free. kResource where the port is taken.
Result<std::vector<int>> listen_for_store(const std::string& host, uint16_t port);

// The numeric address by which this machine itself reaches a listening socket.
std::string reachable_host(int listener);

}  // namespace cgx
