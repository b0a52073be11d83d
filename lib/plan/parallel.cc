// See parallel.h.
#include "plan/parallel.h"

#include <chrono>
#include <system_error>

#include "base/float_env.h"
#include "base/log.h"

namespace cgx {
namespace {

// About what waking a sleeping thread costs: waiting longer for work cannot pay.
constexpr std::chrono::microseconds kSpin{50};

}  // namespace

Parallel::~Parallel() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
    job_.fetch_add(1, std::memory_order_release);
  }
  changed_.notify_all();
  for (std::thread& helper : helpers_) helper.join();
}

void Parallel::start() {
  started_ = true;
  try {
    for (size_t i = 1; i < threads_; ++i) helpers_.emplace_back(&Parallel::loop, this);
  } catch (const std::system_error& e) {
    log(LogLevel::kWarn, Subsystem::kCodec, "of {} threads for codecs only {} could be started: {}", threads_,
        helpers_.size() + 1, e.what());
  }
}

void Parallel::run(size_t parts, const std::function<void(size_t)>& task) {
  if (parts > 1 && threads_ > 1 && !started_) start();
  if (parts <= 1 || helpers_.empty()) {
    for (size_t i = 0; i < parts; ++i) task(i);
    return;
  }
  {
    const std::lock_guard lock(mutex_);
    task_ = &task;
    parts_ = parts;
    next_.store(0, std::memory_order_relaxed);
    job_.fetch_add(1, std::memory_order_release);
  }
  changed_.notify_all();
  take_parts();
  std::unique_lock lock(mutex_);
  ended_.wait(lock, [this] { return busy_ == 0; });
  task_ = nullptr;  // a helper that wakes only now finds nothing to do
}

void Parallel::take_parts() {
  for (;;) {
    const size_t i = next_.fetch_add(1, std::memory_order_relaxed);
    if (i >= parts_) return;
    (*task_)(i);
  }
}

// False: the pool ends.
bool Parallel::await_job(uint64_t seen) {
  if (spin_) {
    const auto until = std::chrono::steady_clock::now() + kSpin;
    while (job_.load(std::memory_order_acquire) == seen && std::chrono::steady_clock::now() < until) {
    }
  }
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return job_.load(std::memory_order_relaxed) != seen; });
  return !stop_;
}

void Parallel::loop() {
  const FloatEnvironment environment;
  uint64_t seen = 0;
  while (await_job(seen)) {
    {
      const std::lock_guard lock(mutex_);
      if (stop_) return;
      seen = job_.load(std::memory_order_relaxed);
      if (task_ == nullptr) continue;
      ++busy_;
    }
    take_parts();
    const std::lock_guard lock(mutex_);
    if (--busy_ == 0) ended_.notify_one();
  }
}

}  // namespace cgx
