// The queue and the threads of completions.h; a thread shares the state, so that it may outlive the owner.
#include "completions.h"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>

namespace cgx_torch {

struct Completions::State {
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::function<void()>> tasks;
  size_t idle = 0;
  bool closed = false;

  void serve() {
    std::unique_lock<std::mutex> lock(mutex);
    while (true) {
      ++idle;
      changed.wait(lock, [this] { return closed || !tasks.empty(); });
      --idle;
      if (tasks.empty()) {
        return;
      }
      auto task = std::move(tasks.front());
      tasks.pop_front();
      lock.unlock();
      task();
      task = nullptr;  // what it owns may have a destructor that takes its time
      lock.lock();
    }
  }
};

Completions::Completions() : state_(std::make_shared<State>()) {}

Completions::~Completions() {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  state_->closed = true;
  state_->changed.notify_all();
}

void Completions::post(std::function<void()> task) {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  state_->tasks.push_back(std::move(task));
  if (state_->idle < state_->tasks.size()) {
    std::thread([state = state_] { state->serve(); }).detach();
  }
  state_->changed.notify_one();
}

}  // namespace cgx_torch
