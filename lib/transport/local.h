// Ranks as threads of one process, for tests: a message is a pointer into its sender's memory.
#pragma once

#include <memory>

#include "base/status.h"
#include "transport/transport.h"
#include "transport/transport_config.h"

namespace cgx {

Result<std::unique_ptr<Transport>> open_local(const TransportConfig& config);

}  // namespace cgx
