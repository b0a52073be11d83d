// A collective of the inner backend under the name that PyTorch's profiler expects of this one
// ("cgx:broadcast"). Nothing is wrapped unless a profiler runs.
#ifndef CGX_BINDINGS_TORCH_PROFILED_H_
#define CGX_BINDINGS_TORCH_PROFILED_H_

#include <ATen/record_function.h>

#include <chrono>
#include <exception>
#include <optional>
#include <torch/csrc/distributed/c10d/Work.hpp>
#include <utility>
#include <vector>

namespace cgx_torch {

// Everything is the inner work's; the event begins with this object and ends with the inner work.
class ProfiledWork final : public c10d::Work {
 public:
  ProfiledWork(int rank, c10d::OpType type, const char* title,
               const std::optional<std::vector<at::Tensor>>& inputs);
  // Called once, before the object is handed out.
  void attach(c10::intrusive_ptr<c10d::Work> inner);

  bool isCompleted() override;
  bool isSuccess() const override;
  std::exception_ptr exception() const override;
  int sourceRank() const override;
  std::vector<at::Tensor> result() override;
  void synchronize() override;
  bool wait(std::chrono::milliseconds timeout) override;
  void abort() override;
  c10::intrusive_ptr<c10::ivalue::Future> getFuture() override;
  c10::intrusive_ptr<c10::ivalue::Future> getFutureResult() override;
  float getDuration() const override;
  uint64_t getSequencenumber() const override;

 private:
  c10::intrusive_ptr<c10d::Work> inner_;
  bool ends_by_future_ = false;
};

// `call` starts the inner collective and returns its work.
template <typename Call>
c10::intrusive_ptr<c10d::Work> profiled(int rank, c10d::OpType type, const char* title,
                                        const std::optional<std::vector<at::Tensor>>& inputs,
                                        const Call& call) {
  if (!at::hasCallbacks()) {
    return call();
  }
  auto work = c10::make_intrusive<ProfiledWork>(rank, type, title, inputs);
  const at::DisableRecordFunctionGuard once;  // not under the inner backend's name as well
  work->attach(call());
  return work;
}

}  // namespace cgx_torch

#endif  // CGX_BINDINGS_TORCH_PROFILED_H_
