// One rank's failure: the first one stays, is told to the peers in the segment's header, and may be set
// by abort() from another thread while the rank waits.
#pragma once

#include <atomic>
#include <mutex>

#include "base/status.h"
#include "transport/shm_layout.h"

namespace cgx {

class ShmFailure {
 public:
  explicit operator bool() const { return failed_.load(std::memory_order_acquire); }

  Status status() const {
    const std::lock_guard lock(mutex_);
    return status_;
  }

  // True for the first. Peers are told `told` with the words of `words`, as failure of `origin`.
  bool set(ShmHeader& header, const Status& status, Code told, int origin, const std::string& words);

 private:
  mutable std::mutex mutex_;
  Status status_;
  std::atomic<bool> failed_ = false;
};

// What the owner of a peer's header has to tell, or ok. *origin and *words serve to pass it on.
Status told_failure(const ShmHeader& header, int peer, int size, int* origin, std::string* words);

}  // namespace cgx
