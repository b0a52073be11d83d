// Transports that live in a shared object of their own, loaded when first asked for. The Gloo transport
// does: libtorch carries its own copy of Gloo and exports its symbols, and two copies in one scope abort.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/status.h"
#include "transport/transport.h"
#include "transport/transport_config.h"

namespace cgx {

// What both sides must agree on: objects of these types cross the boundary. Bump the number when an
// interface changes in a way that sizes do not show.
inline constexpr uint64_t kModuleAbi =
    (uint64_t{3} << 48) | (sizeof(TransportConfig) << 32) | (sizeof(Status) << 16) | sizeof(TransportStats);

// The two symbols that a module exports, as "cgx_module_abi" and "cgx_module_open".
using ModuleAbiFn = uint64_t();
using ModuleOpenFn = Transport*(const TransportConfig* config, Status* status);

// The row of the list: finds libcgx_gloo.so in CGX_MODULE_PATH, beside the object that contains cgx, or
// in ../lib of it, checks that it was built with this cgx, and opens its transport.
Result<std::unique_ptr<Transport>> open_gloo(const TransportConfig& config);

}  // namespace cgx
