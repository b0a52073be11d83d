#include "comm/error_feedback.h"

#include <cmath>
#include <cstring>

namespace cgx {
namespace {

double squares(const float* x, uint64_t count) {
  double sum = 0;
  for (uint64_t i = 0; i < count; ++i) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  return sum;
}

}  // namespace

Result<ErrorFeedback::Tensor*> ErrorFeedback::prepare(const Segment& segment, uint64_t plan) {
  auto [it, fresh] = tensors_.try_emplace(segment.tensor_id);
  Tensor& t = it->second;
  if (fresh) {
    t.count = segment.count;
    for (Buffer* buffer : {&t.contribution[0], &t.contribution[1], &t.sum[0], &t.sum[1]}) {
      buffer->reset(static_cast<float*>(std::calloc(segment.count, sizeof(float))));
      if (*buffer == nullptr) {
        tensors_.erase(it);
        return error(Code::kResource, "error feedback of tensor {} needs {} bytes and there is no memory",
                     segment.tensor_id, 4 * segment.count * sizeof(float));
      }
    }
    t.plan = plan;
    t.in_line = true;  // all zero
  }
  if (t.count != segment.count) {
    return error(
        Code::kInvalidArgument,
        "tensor id {} has a residual of {} elements and now comes with {}: give another tensor its own "
        "id, or call cgx_comm_reset_residuals",
        segment.tensor_id, t.count, segment.count);
  }
  if (t.plan != plan || !t.in_line) {
    const uint64_t bytes = t.count * sizeof(float);
    std::memcpy(t.contribution[1 - t.committed].get(), t.contribution[t.committed].get(), bytes);
    std::memcpy(t.sum[1 - t.committed].get(), t.sum[t.committed].get(), bytes);
    t.plan = plan;
    t.in_line = true;
  }
  return &t;
}

Result<std::span<const SegmentResidual>> ErrorFeedback::begin(const Layout& layout, uint64_t plan) {
  active_.clear();
  residuals_.clear();
  if (!layout.any_error_feedback()) return std::span<const SegmentResidual>();
  residuals_.resize(layout.segments().size());
  for (size_t i = 0; i < residuals_.size(); ++i) {
    const Segment& segment = layout.segments()[i];
    if (!segment.spec.error_feedback) continue;
    CGX_ASSIGN_OR_RETURN(Tensor * t, prepare(segment, plan));
    residuals_[i] = {t->contribution[t->committed].get(), t->contribution[1 - t->committed].get(),
                     t->sum[t->committed].get(), t->sum[1 - t->committed].get()};
    active_.push_back(t);
  }
  return std::span<const SegmentResidual>(residuals_);
}

void ErrorFeedback::commit() {
  for (Tensor* t : active_) t->committed = 1 - t->committed;
  active_.clear();
}

void ErrorFeedback::rollback() {
  for (Tensor* t : active_) t->in_line = false;
  active_.clear();
}

void ErrorFeedback::reset() {
  active_.clear();
  tensors_.clear();
}

double ErrorFeedback::norm(uint32_t tensor_id) const {
  auto it = tensors_.find(tensor_id);
  if (it == tensors_.end()) return 0;
  const Tensor& t = it->second;
  return std::sqrt(squares(t.contribution[t.committed].get(), t.count) +
                   squares(t.sum[t.committed].get(), t.count));
}

}  // namespace cgx
