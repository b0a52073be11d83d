// One allreduce under way (of one tensor or several), as c10d sees it: a Work with a future of its tensors.
#ifndef CGX_BINDINGS_TORCH_WORK_H_
#define CGX_BINDINGS_TORCH_WORK_H_

#include <ATen/core/ivalue.h>
#include <cgx/cgx.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <torch/csrc/distributed/c10d/Work.hpp>
#include <vector>

#include "completions.h"

namespace cgx_torch {

class CgxWork final : public c10d::Work {
 public:
  CgxWork(int rank, uint64_t sequence, std::vector<at::Tensor> tensors,
          std::shared_ptr<Completions> completions);

  // Waits until the collective has ended; it has a deadline of its own. Past `timeout` it throws
  // DistBackendError, and the collective goes on.
  bool wait(std::chrono::milliseconds timeout) override;
  std::vector<at::Tensor> result() override;
  c10::intrusive_ptr<c10::ivalue::Future> getFuture() override;
  uint64_t getSequencenumber() const override;

  // A cgx_done_fn, called once a tensor; `user` is a c10::intrusive_ptr<CgxWork>* made with new, which it
  // deletes.
  static void on_done(void* user, cgx_status status, const char* error);

 private:
  void one_ended(const std::exception_ptr& error);
  void complete_future(std::exception_ptr error);

  const uint64_t sequence_;
  const std::vector<at::Tensor> tensors_;
  const std::shared_ptr<Completions> completions_;
  const c10::intrusive_ptr<c10::ivalue::Future> future_;
  size_t pending_;                    // tensors; under mutex_
  std::exception_ptr first_failure_;  // of a tensor; under mutex_
};

}  // namespace cgx_torch

#endif  // CGX_BINDINGS_TORCH_WORK_H_
