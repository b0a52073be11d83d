// Threads that run what users attached to futures. The communicator's own thread must not: a callback may
// start the next collective, or wait for one, and would then wait for itself. A callback that
// blocks occupies a thread, so one is added whenever none is idle.
#ifndef CGX_BINDINGS_TORCH_COMPLETIONS_H_
#define CGX_BINDINGS_TORCH_COMPLETIONS_H_

#include <functional>
#include <memory>

namespace cgx_torch {

class Completions {
 public:
  Completions();
  // Threads finish what is queued and end by themselves; nobody waits for them, because the last owner of a
  // process group may be a callback.
  ~Completions();
  Completions(const Completions&) = delete;
  Completions& operator=(const Completions&) = delete;

  // Any thread.
  void post(std::function<void()> task);

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace cgx_torch

#endif  // CGX_BINDINGS_TORCH_COMPLETIONS_H_
