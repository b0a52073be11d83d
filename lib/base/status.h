// Status and Result: how everything inside lib/ and cuda/ reports failure. No exceptions below the
// bindings; a dropped Status is a compile error.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

namespace cgx {

// The values are those of cgx_status in cgx.h (checked in lib/comm/capi.cc).
enum class Code : int32_t {
  kOk = 0,
  kInvalidArgument = 1,  // the caller's fault: a wrong value, a null pointer, a malformed spec
  kUnsupported = 2,      // understood, and not offered here
  kTimeout = 3,          // a peer made no progress before the deadline
  kPeerFailed = 4,       // a peer died, closed its connection or reported a failure of its own
  kMismatch = 5,         // ranks called with different counts, types, specs or order
  kAborted = 6,          // abort() was called
  kFailed = 7,           // the communicator failed earlier and can only be destroyed
  kResource = 8,         // memory, /dev/shm, descriptors or threads are exhausted
  kCorrupt = 9,          // encoded bytes that no encoder can have written
  kInternal = 10,        // a bug of ours
};

class [[nodiscard]] Status {
 public:
  Status() = default;  // ok
  Status(Code code, std::string message) : code_(code), message_(std::move(message)) {}

  bool ok() const { return code_ == Code::kOk; }
  Code code() const { return code_; }
  const std::string& message() const { return message_; }

 private:
  Code code_ = Code::kOk;
  std::string message_;
};

// error(Code::kInvalidArgument, "bits must be 1 to 8, not {}", bits)
template <typename... Args>
Status error(Code code, fmt::format_string<Args...> format, Args&&... args) {
  return Status(code, fmt::format(format, std::forward<Args>(args)...));
}

template <typename T>
class [[nodiscard]] Result {
 public:
  // Implicit, so that a function returns either a value or a Status.
  Result(T value) : value_(std::move(value)) {}          // NOLINT(google-explicit-constructor)
  Result(Status status) : status_(std::move(status)) {}  // NOLINT(google-explicit-constructor)

  bool ok() const { return value_.has_value(); }
  const Status& status() const { return status_; }
  // REQUIRES: ok()
  T& value() & { return *value_; }
  const T& value() const& { return *value_; }
  T&& value() && { return std::move(*value_); }
  T& operator*() { return *value_; }
  const T& operator*() const { return *value_; }
  T* operator->() { return &*value_; }
  const T* operator->() const { return &*value_; }

 private:
  Status status_;
  std::optional<T> value_;
};

[[noreturn]] void check_failed(const char* file, int line, const char* condition);

}  // namespace cgx

// A broken invariant of ours (never a caller's mistake): says where and aborts, in release too.
#define CGX_CHECK(condition) \
  ((condition) ? static_cast<void>(0) : ::cgx::check_failed(__FILE__, __LINE__, #condition))

#define CGX_RETURN_IF_ERROR(expression)                                                  \
  do {                                                                                   \
    if (::cgx::Status cgx_status_ = (expression); !cgx_status_.ok()) return cgx_status_; \
  } while (false)

#define CGX_CONCAT_INNER(a, b) a##b
#define CGX_CONCAT(a, b) CGX_CONCAT_INNER(a, b)
// NOLINTBEGIN(bugprone-macro-parentheses): `declaration` may be `auto x`.
// CGX_ASSIGN_OR_RETURN(auto plan, make_plan(key));
#define CGX_ASSIGN_OR_RETURN(declaration, expression)                                             \
  auto CGX_CONCAT(cgx_result_, __LINE__) = (expression);                                          \
  if (!CGX_CONCAT(cgx_result_, __LINE__).ok()) return CGX_CONCAT(cgx_result_, __LINE__).status(); \
  declaration = std::move(CGX_CONCAT(cgx_result_, __LINE__)).value()
// NOLINTEND(bugprone-macro-parentheses)
