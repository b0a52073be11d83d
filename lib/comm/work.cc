// See work.h.
#include "comm/work.h"

#include "base/deadline.h"

namespace cgx {

bool Work::done() const {
  const std::lock_guard lock(mutex_);
  return done_;
}

bool Work::wait(int64_t timeout_ms) const {
  std::unique_lock lock(mutex_);
  const auto ended = [this] { return done_; };
  if (timeout_ms >= 0) return ended_.wait_until(lock, Deadline(timeout_ms).at(), ended);
  ended_.wait(lock, ended);
  return true;
}

Status Work::status() const {
  const std::lock_guard lock(mutex_);
  return status_;
}

void Work::finish(Status status) {
  {
    const std::lock_guard lock(mutex_);
    status_ = std::move(status);  // no copy: memory may be what has failed
    done_ = true;
    ended_.notify_all();
  }
  if (call_done_) call_done_(status_);  // nobody changes it any more
}

}  // namespace cgx
