// Fills what a communicator's config leaves open from the environment, in the order that cgx.h documents.
#pragma once

#include <memory>

#include "base/status.h"
#include "comm/communicator.h"
#include "transport/store.h"

namespace cgx {

// rank and size: both -1 where they are to be read.
Status rank_from_environment(CommunicatorConfig* config);
// `given`, or the environment's where it is null or empty; "": none.
Result<std::string> secret_or_environment(const char* given);
Result<std::unique_ptr<Store>> store_from_environment(const CommunicatorConfig& config);

}  // namespace cgx
