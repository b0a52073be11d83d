// A work ends with its future, or where it has none (sends, receives, Gloo's reduce_scatter) with wait().
#include "profiled.h"

namespace cgx_torch {

ProfiledWork::ProfiledWork(int rank, c10d::OpType type, const char* title,
                           const std::optional<std::vector<at::Tensor>>& inputs)
    : Work(rank, type, title, inputs) {}

void ProfiledWork::attach(c10::intrusive_ptr<c10d::Work> inner) {
  inner_ = std::move(inner);
  c10::intrusive_ptr<c10::ivalue::Future> future;
  try {
    future = inner_->getFuture();
  } catch (const c10::Error&) {
    return;  // it has none, and says so in this way only
  }
  ends_by_future_ = true;
  auto self = c10::intrusive_ptr<ProfiledWork>::reclaim_copy(this);
  future->addCallback([self](c10::ivalue::Future&) { self->finish(); });
}

bool ProfiledWork::isCompleted() { return inner_->isCompleted(); }

bool ProfiledWork::isSuccess() const { return inner_->isSuccess(); }

std::exception_ptr ProfiledWork::exception() const { return inner_->exception(); }

int ProfiledWork::sourceRank() const { return inner_->sourceRank(); }

std::vector<at::Tensor> ProfiledWork::result() { return inner_->result(); }

void ProfiledWork::synchronize() { inner_->synchronize(); }

bool ProfiledWork::wait(std::chrono::milliseconds timeout) {
  if (ends_by_future_) {
    return inner_->wait(timeout);
  }
  try {
    const bool ended = inner_->wait(timeout);
    finish();
    return ended;
  } catch (...) {
    finish();
    throw;
  }
}

void ProfiledWork::abort() { inner_->abort(); }

c10::intrusive_ptr<c10::ivalue::Future> ProfiledWork::getFuture() { return inner_->getFuture(); }

c10::intrusive_ptr<c10::ivalue::Future> ProfiledWork::getFutureResult() { return inner_->getFutureResult(); }

float ProfiledWork::getDuration() const { return inner_->getDuration(); }

uint64_t ProfiledWork::getSequencenumber() const { return inner_->getSequencenumber(); }

}  // namespace cgx_torch
