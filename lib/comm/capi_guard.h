// What every function of the C interface does: turns whatever happens inside into a status and a message
// of the calling thread, and reads structs of older and newer callers.
#pragma once

#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "base/status.h"
#include "cgx/cgx.h"
#include "codec/spec.h"
#include "comm/communicator.h"
#include "comm/handles.h"
#include "comm/work.h"
#include "transport/store.h"

struct cgx_codec {
  cgx::CodecSpec spec;
  std::string text;
};

struct cgx_store {
  std::unique_ptr<cgx::Store> store;
  pid_t pid = ::getpid();
};

struct cgx_comm {
  // Where it came from the environment, or was made for survivors; shared with what a shrink made of it.
  std::vector<std::shared_ptr<cgx::Store>> stores;
  std::unique_ptr<cgx::Communicator> communicator;
};

struct cgx_work {
  std::shared_ptr<cgx::Work> work;
};

namespace cgx::capi {

// Keeps the message for cgx_last_error(); ok leaves the last one alone.
cgx_status report(const Status& status) noexcept;
cgx_status report_out_of_memory() noexcept;

template <typename Function>
cgx_status guard(Function function) noexcept {
  try {
    return report(function());
  } catch (const std::bad_alloc&) {
    return report_out_of_memory();
  } catch (const std::exception& e) {
    return report(Status(Code::kInternal, e.what()));
  } catch (...) {
    return report(Status(Code::kInternal, "an unknown exception"));
  }
}

inline Status require(const void* pointer, const char* argument) {
  if (pointer != nullptr) return Status();
  return error(Code::kInvalidArgument, "{} is NULL", argument);
}

// Copies a caller's struct over `out`, which holds the defaults. A shorter one (an older header's)
// leaves the rest; in a longer one what this library does not know must be zero.
template <typename T>
Status read_struct(const T* given, const char* argument, T* out) {
  constexpr uint32_t kSane = 4096;
  CGX_RETURN_IF_ERROR(require(given, argument));
  const uint32_t bytes = given->struct_size;
  if (bytes < 2 * sizeof(uint32_t) || bytes > kSane) {
    return error(Code::kInvalidArgument, "{}->struct_size is {}: set the struct up with its _INIT macro",
                 argument, bytes);
  }
  const auto* raw = reinterpret_cast<const unsigned char*>(given);
  if (bytes > sizeof(T) &&
      std::any_of(raw + sizeof(T), raw + bytes, [](unsigned char byte) { return byte != 0; })) {
    return error(Code::kUnsupported,
                 "{} uses fields that this library ({}) does not have: struct_size is {}, not {}", argument,
                 cgx_version_string(), bytes, sizeof(T));
  }
  std::memcpy(static_cast<void*>(out), given, std::min<size_t>(bytes, sizeof(T)));
  return Status();
}

// C callers can put any number where an enum is asked for; loading it as an enum would be undefined.
template <typename Enum>
int read_enum(const Enum& value) {
  static_assert(sizeof(Enum) == sizeof(int));
  int number = 0;
  std::memcpy(&number, &value, sizeof(number));
  return number;
}

Result<DType> read_dtype(const cgx_dtype& dtype);

}  // namespace cgx::capi
