// The C interface to going on with the survivors.
#include "comm/capi_guard.h"

using cgx::Code;
using cgx::error;
using cgx::HandleKind;
using cgx::Shrunk;
using cgx::Status;
using cgx::capi::guard;
using cgx::capi::require;

cgx_status cgx_comm_shrink(cgx_comm* failed, int64_t timeout_ms, cgx_comm** shrunk) {
  return guard([&]() -> Status {
    CGX_RETURN_IF_ERROR(check_handle(failed, HandleKind::kComm, "failed"));
    CGX_RETURN_IF_ERROR(require(shrunk, "shrunk"));
    if (timeout_ms < 0) {
      return error(Code::kInvalidArgument, "timeout_ms must be positive (0: the communicator's), not {}",
                   timeout_ms);
    }
    CGX_ASSIGN_OR_RETURN(Shrunk result, failed->communicator->shrink(timeout_ms));
    auto made = std::make_unique<cgx_comm>();
    for (const std::shared_ptr<cgx::Store>& store : failed->stores) {
      if (store.get() == result.store || store->serves()) made->stores.push_back(store);
    }
    for (auto& store : result.stores) made->stores.push_back(std::move(store));
    made->communicator = std::move(result.communicator);
    add_handle(made.get(), HandleKind::kComm);
    *shrunk = made.release();
    return Status();
  });
}
