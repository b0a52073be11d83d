// Shared memory between processes of one host: a message is encoded into the sender's mapped pool and
// decoded from it by the receiver, with no copy between.
#pragma once

#include <memory>

#include "base/status.h"
#include "transport/half.h"
#include "transport/transport.h"
#include "transport/transport_config.h"

namespace cgx {

Result<std::unique_ptr<Transport>> open_shm(const TransportConfig& config);

// Between this rank and config.peers, which share its host.
Result<std::unique_ptr<Half>> open_shm_half(const TransportConfig& config);
// Of a rank that has no such peers, while others open_shm_half(): they meet all ranks.
Status skip_shm(const TransportConfig& config);

}  // namespace cgx
