// The row of the list: processes of any hosts, a socket or several a pair, no thread of its own.
#pragma once

#include <memory>

#include "base/status.h"
#include "transport/half.h"
#include "transport/transport.h"
#include "transport/transport_config.h"

namespace cgx {

Result<std::unique_ptr<Transport>> open_tcp(const TransportConfig& config);

// Between this rank and config.peers, of which there is one at least. Collective over all ranks.
Result<std::unique_ptr<Half>> open_tcp_half(const TransportConfig& config);

}  // namespace cgx
