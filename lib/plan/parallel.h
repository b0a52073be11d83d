// A fork-join pool: run(parts, task) calls task(0) .. task(parts - 1) at once, on the caller's thread and
// on helpers that sleep in between. Threads are asked for, never taken: the default everywhere is one.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace cgx {

class Parallel {
 public:
  // `threads` counts the caller's. Helpers start at the first run(); where the system gives fewer, those
  // there are do all the work. `spin`: helpers look out for work for a moment before they sleep, which is
  // right only where each has a core to itself.
  explicit Parallel(size_t threads, bool spin = false) : threads_(threads), spin_(spin) {}
  Parallel(const Parallel&) = delete;
  Parallel& operator=(const Parallel&) = delete;
  ~Parallel();

  size_t threads() const { return threads_; }
  // Returns when all calls have. `task` must not throw. One thread at a time.
  void run(size_t parts, const std::function<void(size_t)>& task);

 private:
  void start();
  void loop();
  // Takes parts of the current job until none is left.
  void take_parts();
  bool await_job(uint64_t seen);

  const size_t threads_;
  const bool spin_;
  std::vector<std::thread> helpers_;
  bool started_ = false;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::condition_variable ended_;
  std::atomic<uint64_t> job_{0};  // counts jobs; written under mutex_
  bool stop_ = false;
  size_t busy_ = 0;  // helpers at work on the job

  const std::function<void(size_t)>* task_ = nullptr;
  size_t parts_ = 0;
  std::atomic<size_t> next_{0};
};

}  // namespace cgx
