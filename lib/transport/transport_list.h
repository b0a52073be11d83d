// The list of transports: a row each. A new transport is a file and a row; the conformance suite, the
// command line and the README follow the list.
#pragma once

#include <memory>
#include <span>
#include <string_view>

#include "base/status.h"
#include "transport/transport.h"
#include "transport/transport_config.h"

namespace cgx {

struct TransportEntry {
  const char* name;
  const char* summary;  // one sentence
  bool same_host_only;
  Result<std::unique_ptr<Transport>> (*open)(const TransportConfig& config);
};

std::span<const TransportEntry> transports();

// Opens the transport of that name. "auto" or "": shm when all ranks share a host, tcp when no two do, else
// mixed.
// Collective: returns when every rank has come, or says who has not.
Result<std::unique_ptr<Transport>> open_transport(std::string_view name, const TransportConfig& config);

}  // namespace cgx
