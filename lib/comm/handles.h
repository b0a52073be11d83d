// Which handles are alive. A destroyed or garbage handle can only be told from a live one without
// touching its memory by remembering the live ones, so this table is a global (with the log's sink the
// only two). Not detected: a stale handle whose address a newer handle of its kind has taken, and a
// handle destroyed by another thread during the call.
#pragma once

#include <cstdint>

#include "base/status.h"

namespace cgx {

enum class HandleKind : uint8_t { kCodec, kStore, kComm, kWork };

void add_handle(const void* handle, HandleKind kind);
// False where it was not alive.
bool remove_handle(const void* handle, HandleKind kind);
// kInvalidArgument where it is NULL or not alive; `argument` names it.
Status check_handle(const void* handle, HandleKind kind, const char* argument);

}  // namespace cgx
