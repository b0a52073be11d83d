// wait() is woken on the communicator's thread; the future, and with it users' callbacks, completes on
// another.
#include "work.h"

#include <utility>

#include "error.h"

namespace cgx_torch {

CgxWork::CgxWork(int rank, uint64_t sequence, std::vector<at::Tensor> tensors,
                 std::shared_ptr<Completions> completions)
    : Work(rank, c10d::OpType::ALLREDUCE, "cgx:all_reduce", tensors),
      sequence_(sequence),
      tensors_(std::move(tensors)),
      completions_(std::move(completions)),
      future_(c10::make_intrusive<c10::ivalue::Future>(c10::ListType::create(c10::TensorType::get()))),
      pending_(tensors_.size()) {}

bool CgxWork::wait(std::chrono::milliseconds timeout) {
  {
    std::unique_lock<std::mutex> lock(mutex_);
    const auto ended = [this] { return completed_; };
    if (timeout == kNoTimeout) {
      cv_.wait(lock, ended);
    } else if (!cv_.wait_for(lock, timeout, ended)) {
      C10_THROW_ERROR(DistBackendError, "cgx: all_reduce number " + std::to_string(sequence_) +
                                            " has not ended after " + std::to_string(timeout.count()) +
                                            " ms of wait(); it goes on");
    }
    if (exception_) {
      std::rethrow_exception(exception_);
    }
  }
  synchronize();
  return true;
}

std::vector<at::Tensor> CgxWork::result() {
  TORCH_CHECK(isCompleted(),
              "cgx: the result is asked for before the all_reduce has ended; call wait() first");
  return tensors_;
}

c10::intrusive_ptr<c10::ivalue::Future> CgxWork::getFuture() { return future_; }

uint64_t CgxWork::getSequencenumber() const { return sequence_; }

void CgxWork::on_done(void* user, cgx_status status, const char* error) {
  const std::unique_ptr<c10::intrusive_ptr<CgxWork>> owned(static_cast<c10::intrusive_ptr<CgxWork>*>(user));
  (*owned)->one_ended(status == CGX_OK ? nullptr : make_error(status, error == nullptr ? "" : error));
}

void CgxWork::one_ended(const std::exception_ptr& error) {
  std::exception_ptr failure;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    first_failure_ = first_failure_ ? first_failure_ : error;
    if (--pending_ > 0) {
      return;
    }
    failure = first_failure_;
  }
  finish(failure);
  auto self = c10::intrusive_ptr<CgxWork>::reclaim_copy(this);
  completions_->post([self, failure] { self->complete_future(failure); });
}

void CgxWork::complete_future(std::exception_ptr error) {
  if (error) {
    future_->setError(std::move(error));
  } else {
    future_->markCompleted(c10::IValue(tensors_));
  }
}

}  // namespace cgx_torch
