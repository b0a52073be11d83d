// The C interface to stores: the library's own and a framework's, behind callbacks.
#include "comm/capi_guard.h"
#include "comm/environment.h"

using cgx::Code;
using cgx::error;
using cgx::HandleKind;
using cgx::Result;
using cgx::Status;
using cgx::capi::guard;
using cgx::capi::read_struct;
using cgx::capi::require;

namespace {

class CallbackStore final : public cgx::Store {
 public:
  explicit CallbackStore(const cgx_store_callbacks& callbacks) : callbacks_(callbacks) {}
  ~CallbackStore() override {
    if (callbacks_.destroy != nullptr) callbacks_.destroy(callbacks_.user);
  }
  CallbackStore(const CallbackStore&) = delete;
  CallbackStore& operator=(const CallbackStore&) = delete;

  Status set(const std::string& key, const std::string& value) override {
    const int code = callbacks_.set(callbacks_.user, key.c_str(), value.data(), value.size());
    if (code == 0) return Status();
    return error(Code::kPeerFailed, "the store's set callback failed with {} for the key \"{}\"", code, key);
  }

  Result<std::string> get(const std::string& key, int64_t timeout_ms) override {
    constexpr size_t kUsual = 4096;
    std::string value(kUsual, '\0');
    uint64_t bytes = 0;
    CGX_RETURN_IF_ERROR(get_into(key, timeout_ms, &value, &bytes));
    if (bytes > value.size()) {
      if (bytes > kMaxValue) {
        return error(Code::kInvalidArgument, "the store's get callback says that the key \"{}\" has {} bytes",
                     key, bytes);
      }
      value.resize(bytes);
      CGX_RETURN_IF_ERROR(get_into(key, timeout_ms, &value, &bytes));
    }
    value.resize(std::min<size_t>(bytes, value.size()));
    return value;
  }

 private:
  static constexpr uint64_t kMaxValue = 1 << 20;  // ours are below 1 KiB

  Status get_into(const std::string& key, int64_t timeout_ms, std::string* value, uint64_t* bytes) {
    const int code =
        callbacks_.get(callbacks_.user, key.c_str(), timeout_ms, value->data(), value->size(), bytes);
    if (code == 0) return Status();
    if (code == 1) {
      return error(Code::kTimeout, "nobody has set the key \"{}\" within {} ms", key, timeout_ms);
    }
    return error(Code::kPeerFailed, "the store's get callback failed with {} for the key \"{}\"", code, key);
  }

  const cgx_store_callbacks callbacks_;
};

void hand_over(std::unique_ptr<cgx::Store> made, cgx_store** store) {
  auto handle = std::make_unique<cgx_store>();
  handle->store = std::move(made);
  add_handle(handle.get(), HandleKind::kStore);
  *store = handle.release();
}

}  // namespace

cgx_status cgx_store_create(const cgx_store_callbacks* callbacks, cgx_store** store) {
  return guard([&]() -> Status {
    CGX_RETURN_IF_ERROR(require(store, "store"));
    cgx_store_callbacks read = CGX_STORE_CALLBACKS_INIT;
    CGX_RETURN_IF_ERROR(read_struct(callbacks, "callbacks", &read));
    if (read.set == nullptr) return error(Code::kInvalidArgument, "callbacks->set is NULL");
    if (read.get == nullptr) return error(Code::kInvalidArgument, "callbacks->get is NULL");
    hand_over(std::make_unique<CallbackStore>(read), store);
    return Status();
  });
}

cgx_status cgx_store_create_file(const char* directory, cgx_store** store) {
  return guard([&]() -> Status {
    CGX_RETURN_IF_ERROR(require(directory, "directory"));
    CGX_RETURN_IF_ERROR(require(store, "store"));
    CGX_ASSIGN_OR_RETURN(auto made, cgx::make_file_store(directory));
    hand_over(std::move(made), store);
    return Status();
  });
}

cgx_status cgx_store_create_tcp(const char* host, int port, int rank, int64_t timeout_ms, cgx_store** store) {
  return cgx_store_create_tcp_secret(host, port, rank, timeout_ms, nullptr, store);
}

cgx_status cgx_store_create_tcp_secret(const char* host, int port, int rank, int64_t timeout_ms,
                                       const char* secret, cgx_store** store) {
  return guard([&]() -> Status {
    CGX_RETURN_IF_ERROR(require(host, "host"));
    CGX_RETURN_IF_ERROR(require(store, "store"));
    if (port < 1 || port > UINT16_MAX)
      return error(Code::kInvalidArgument, "port must be 1 to 65535, not {}", port);
    if (rank < 0) return error(Code::kInvalidArgument, "rank must not be negative: {}", rank);
    if (timeout_ms <= 0)
      return error(Code::kInvalidArgument, "timeout_ms must be positive, not {}", timeout_ms);
    CGX_ASSIGN_OR_RETURN(std::string known, cgx::secret_or_environment(secret));
    CGX_ASSIGN_OR_RETURN(auto made, cgx::make_tcp_store({host, static_cast<uint16_t>(port), rank, timeout_ms,
                                                         std::move(known)}));
    hand_over(std::move(made), store);
    return Status();
  });
}

void cgx_store_destroy(cgx_store* store) {
  if (!remove_handle(store, HandleKind::kStore)) return;
  if (store->pid == ::getpid())
    delete store;  // a forked process has no thread to stop, and others' connections
}
