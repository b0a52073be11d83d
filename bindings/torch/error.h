// Turns a cgx_status into the exception PyTorch's users expect: ValueError for wrong arguments,
// DistBackendError (a RuntimeError) for what goes wrong between ranks.
#ifndef CGX_BINDINGS_TORCH_ERROR_H_
#define CGX_BINDINGS_TORCH_ERROR_H_

#include <c10/util/Exception.h>
#include <cgx/cgx.h>

#include <exception>
#include <string>

namespace cgx_torch {

inline std::exception_ptr make_error(cgx_status status, const std::string& message) {
  const c10::SourceLocation where{__func__, __FILE__, static_cast<uint32_t>(__LINE__)};
  const std::string text = "cgx: " + message + " [" + cgx_status_name(status) + "]";
  if (status == CGX_INVALID_ARGUMENT || status == CGX_UNSUPPORTED) {
    return std::make_exception_ptr(c10::ValueError(where, text));
  }
  return std::make_exception_ptr(c10::DistBackendError(where, text));
}

inline void check(cgx_status status) {
  if (status != CGX_OK) {
    std::rethrow_exception(make_error(status, cgx_last_error()));
  }
}

}  // namespace cgx_torch

#endif  // CGX_BINDINGS_TORCH_ERROR_H_
