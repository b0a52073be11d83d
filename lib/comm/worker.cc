// See worker.h.
#include "comm/worker.h"

#include <new>
#include <system_error>

#include "base/deadline.h"

namespace cgx {

Worker::~Worker() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
    pushed_.notify_all();
  }
  if (thread_.joinable()) thread_.join();
}

Status Worker::push(std::function<void()> task) {
  const std::lock_guard lock(mutex_);
  if (!thread_.joinable()) {
    try {
      thread_ = std::thread(&Worker::loop, this);
    } catch (const std::system_error& e) {
      return error(Code::kResource, "cannot start the communicator's thread: {}", e.what());
    }
  }
  try {
    tasks_.push_back(std::move(task));
  } catch (const std::bad_alloc&) {
    return Status(Code::kResource, "out of memory");
  }
  pushed_.notify_all();
  return Status();
}

bool Worker::idle() const {
  const std::lock_guard lock(mutex_);
  return tasks_.empty() && !running_;
}

bool Worker::wait_idle(int64_t timeout_ms) const {
  std::unique_lock lock(mutex_);
  return drained_.wait_until(lock, Deadline(timeout_ms).at(), [this] { return tasks_.empty() && !running_; });
}

bool Worker::here() const {
  const std::lock_guard lock(mutex_);
  return id_ == std::this_thread::get_id();
}

void Worker::loop() {
  std::unique_lock lock(mutex_);
  id_ = std::this_thread::get_id();
  for (;;) {
    pushed_.wait(lock, [this] { return stop_ || !tasks_.empty(); });
    if (tasks_.empty()) return;
    std::function<void()> task = std::move(tasks_.front());
    tasks_.pop_front();
    running_ = true;
    lock.unlock();
    task();
    task = nullptr;  // what it holds goes before anybody hears that the queue is empty
    lock.lock();
    running_ = false;
    if (tasks_.empty()) drained_.notify_all();
  }
}

}  // namespace cgx
