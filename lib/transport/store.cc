// The store in memory, for ranks that are threads, and the store that puts a prefix before keys.
#include "transport/store.h"

#include <condition_variable>
#include <map>
#include <mutex>
#include <utility>

#include "base/deadline.h"

namespace cgx {
namespace {

class MemoryStore final : public Store {
 public:
  Status set(const std::string& key, const std::string& value) override {
    const std::lock_guard lock(mutex_);
    if (!values_.emplace(key, value).second) {
      return error(Code::kInvalidArgument,
                   "the key \"{}\" is set already: give every communicator of a store its own job name", key);
    }
    changed_.notify_all();
    return {};
  }

  Result<std::string> get(const std::string& key, int64_t timeout_ms) override {
    const Deadline deadline(timeout_ms);
    std::unique_lock lock(mutex_);
    auto found = values_.find(key);
    while (found == values_.end()) {
      if (deadline.over()) {
        return error(Code::kTimeout, "nobody has set the key \"{}\" within {} ms", key, timeout_ms);
      }
      changed_.wait_until(lock, deadline.at());
      found = values_.find(key);
    }
    return found->second;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, std::string> values_;
};

}  // namespace

Result<std::unique_ptr<Store>> Store::reconnect(int64_t /*timeout_ms*/, const StopFlag& /*stop*/) {
  return error(Code::kUnsupported, "a store that outlives the ranks has no other connection");
}

std::unique_ptr<Store> make_memory_store() { return std::make_unique<MemoryStore>(); }

}  // namespace cgx
