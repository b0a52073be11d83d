// The C interface: versions, errors and logging. capi_codec.cc, capi_store.cc and capi_comm.cc hold the rest.
#include "comm/capi_guard.h"

#include "base/log.h"

namespace cgx::capi {
namespace {

struct LastError {
  std::string text;
  const char* fixed = nullptr;  // where there was no memory for a text
};

LastError& last_error() {
  thread_local LastError error;
  return error;
}

}  // namespace

cgx_status report_out_of_memory() noexcept {
  last_error().fixed = "out of memory";
  return CGX_RESOURCE;
}

cgx_status report(const Status& status) noexcept {
  if (status.ok()) return CGX_OK;
  LastError& last = last_error();
  try {
    last.text = status.message();
    last.fixed = nullptr;
  } catch (const std::bad_alloc&) {
    last.fixed = "out of memory, for the error message too";
  }
  return static_cast<cgx_status>(status.code());
}

Result<DType> read_dtype(const cgx_dtype& dtype) {
  const int value = read_enum(dtype);
  if (value >= 0 && value < kDTypeCount) return static_cast<DType>(value);
  return error(Code::kInvalidArgument, "dtype {} is none of cgx_dtype's", value);
}

}  // namespace cgx::capi

#define CGX_SAME(internal, c) static_assert(static_cast<int>(internal) == static_cast<int>(c))
CGX_SAME(cgx::Code::kOk, CGX_OK);
CGX_SAME(cgx::Code::kInvalidArgument, CGX_INVALID_ARGUMENT);
CGX_SAME(cgx::Code::kUnsupported, CGX_UNSUPPORTED);
CGX_SAME(cgx::Code::kTimeout, CGX_TIMEOUT);
CGX_SAME(cgx::Code::kPeerFailed, CGX_PEER_FAILED);
CGX_SAME(cgx::Code::kMismatch, CGX_MISMATCH);
CGX_SAME(cgx::Code::kAborted, CGX_ABORTED);
CGX_SAME(cgx::Code::kFailed, CGX_FAILED);
CGX_SAME(cgx::Code::kResource, CGX_RESOURCE);
CGX_SAME(cgx::Code::kCorrupt, CGX_CORRUPT);
CGX_SAME(cgx::Code::kInternal, CGX_INTERNAL);
CGX_SAME(cgx::DType::kF32, CGX_FLOAT32);
CGX_SAME(cgx::DType::kF16, CGX_FLOAT16);
CGX_SAME(cgx::DType::kBF16, CGX_BFLOAT16);
CGX_SAME(cgx::DType::kF64, CGX_FLOAT64);
CGX_SAME(cgx::DType::kI8, CGX_INT8);
CGX_SAME(cgx::DType::kU8, CGX_UINT8);
CGX_SAME(cgx::DType::kI16, CGX_INT16);
CGX_SAME(cgx::DType::kI32, CGX_INT32);
CGX_SAME(cgx::DType::kI64, CGX_INT64);
CGX_SAME(cgx::LogLevel::kError, CGX_LOG_ERROR);
CGX_SAME(cgx::LogLevel::kWarn, CGX_LOG_WARN);
CGX_SAME(cgx::LogLevel::kInfo, CGX_LOG_INFO);
CGX_SAME(cgx::LogLevel::kTrace, CGX_LOG_TRACE);
#undef CGX_SAME

#define CGX_QUOTE_INNER(x) #x
#define CGX_QUOTE(x) CGX_QUOTE_INNER(x)

int cgx_version(void) { return CGX_VERSION; }

const char* cgx_version_string(void) {
  return CGX_QUOTE(CGX_VERSION_MAJOR) "." CGX_QUOTE(CGX_VERSION_MINOR) "." CGX_QUOTE(CGX_VERSION_PATCH);
}

const char* cgx_status_name(cgx_status status) {
  constexpr const char* kNames[] = {"CGX_OK",      "CGX_INVALID_ARGUMENT", "CGX_UNSUPPORTED",
                                    "CGX_TIMEOUT", "CGX_PEER_FAILED",      "CGX_MISMATCH",
                                    "CGX_ABORTED", "CGX_FAILED",           "CGX_RESOURCE",
                                    "CGX_CORRUPT", "CGX_INTERNAL"};
  const auto index = static_cast<size_t>(cgx::capi::read_enum(status));
  return index < std::size(kNames) ? kNames[index] : "an unknown cgx_status";
}

const char* cgx_last_error(void) {
  const cgx::capi::LastError& last = cgx::capi::last_error();
  return last.fixed != nullptr ? last.fixed : last.text.c_str();
}

void cgx_set_log(cgx_log_fn fn, void* user, cgx_log_level level) {
  // The one function that can fail without saying so: there is nobody to tell but the log itself.
  static_cast<void>(cgx::capi::guard([&] {
    cgx::LogSink sink;
    if (fn != nullptr) {
      sink = [fn, user](cgx::LogLevel line_level, const char* message) {
        fn(user, static_cast<cgx_log_level>(line_level), message);
      };
    }
    cgx::set_log(std::move(sink), static_cast<cgx::LogLevel>(level));
    return cgx::Status();
  }));
}
