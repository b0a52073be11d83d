// The C interface to a communicator's state: its size, saving it, loading it.
#include <span>

#include "comm/capi_guard.h"

using cgx::HandleKind;
using cgx::Status;
using cgx::capi::guard;
using cgx::capi::require;

cgx_status cgx_comm_state_bytes(const cgx_comm* comm, uint64_t* bytes) {
  return guard([&]() -> Status {
    CGX_RETURN_IF_ERROR(check_handle(comm, HandleKind::kComm, "comm"));
    CGX_RETURN_IF_ERROR(require(bytes, "bytes"));
    CGX_ASSIGN_OR_RETURN(*bytes, comm->communicator->state_bytes());
    return Status();
  });
}

cgx_status cgx_comm_state_save(const cgx_comm* comm, void* state, uint64_t capacity) {
  return guard([&]() -> Status {
    CGX_RETURN_IF_ERROR(check_handle(comm, HandleKind::kComm, "comm"));
    CGX_RETURN_IF_ERROR(require(state, "state"));
    return comm->communicator->save_state({static_cast<uint8_t*>(state), capacity});
  });
}

cgx_status cgx_comm_state_load(cgx_comm* comm, const void* state, uint64_t bytes) {
  return guard([&]() -> Status {
    CGX_RETURN_IF_ERROR(check_handle(comm, HandleKind::kComm, "comm"));
    CGX_RETURN_IF_ERROR(require(state, "state"));
    return comm->communicator->load_state({static_cast<const uint8_t*>(state), bytes});
  });
}
