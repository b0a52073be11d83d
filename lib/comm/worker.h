// A queue of tasks and the one thread that runs them in order, started with the first task.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

#include "base/status.h"

namespace cgx {

class Worker {
 public:
  Worker() = default;
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;
  // Runs what is queued and joins the thread.
  ~Worker();

  // kResource where the thread cannot be started.
  Status push(std::function<void()> task);
  // Nothing queued, nothing running.
  bool idle() const;
  // False: not idle within `timeout_ms`.
  bool wait_idle(int64_t timeout_ms) const;
  // True on the worker's own thread.
  bool here() const;

 private:
  void loop();

  mutable std::mutex mutex_;
  std::condition_variable pushed_;
  mutable std::condition_variable drained_;
  std::deque<std::function<void()>> tasks_;
  bool running_ = false;  // a task is
  bool stop_ = false;
  std::thread thread_;
  std::thread::id id_;  // of thread_, once it runs
};

}  // namespace cgx
