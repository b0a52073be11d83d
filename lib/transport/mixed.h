// Shared memory between the ranks of a host and sockets between hosts: a transport chosen for each pair.
#pragma once

#include <memory>

#include "base/status.h"
#include "transport/transport.h"
#include "transport/transport_config.h"

namespace cgx {

// Collective over all ranks. Where all share a host it is shared memory alone, where none do sockets alone.
Result<std::unique_ptr<Transport>> open_mixed(const TransportConfig& config);

}  // namespace cgx
