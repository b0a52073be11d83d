// Which of this host's addresses a socket transport uses. Shared by tcp and gloo.
#pragma once

#include <string>

#include "base/status.h"
#include "transport/transport_config.h"

namespace cgx {

// Ranks with equal cards reach each other over loopback: one kernel, one network namespace.
std::string network_card();

// The numeric address of the interface that config.interface_name chooses (interfaces.h), or, where it is
// empty, loopback if all ranks are on one host, else the address on the way to config.reach_host, else the
// best that is not loopback; of config.socket_family. Errors begin with `transport`, its name.
Result<std::string> choose_address(const char* transport, const TransportConfig& config, bool one_host);

}  // namespace cgx
