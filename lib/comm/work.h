// One asynchronous operation as its caller sees it: ended or not, and how. The queue that runs it and the
// caller's handle share it; neither must outlive the other.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>

#include "base/status.h"

namespace cgx {

class Work {
 public:
  using Done = std::function<void(const Status&)>;

  explicit Work(Done done) : call_done_(std::move(done)) {}

  bool done() const;
  // False: it has not ended within `timeout_ms` (< 0: waits as long as it takes).
  bool wait(int64_t timeout_ms) const;
  // REQUIRES: done()
  Status status() const;

  // Ends it: first waiters see it, then the callback is called. Once.
  void finish(Status status);

 private:
  mutable std::mutex mutex_;
  mutable std::condition_variable ended_;
  bool done_ = false;
  Status status_;
  Done call_done_;
};

}  // namespace cgx
