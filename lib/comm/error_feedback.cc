// See error_feedback.h.
#include "comm/error_feedback.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace cgx {
namespace {

double squares(const float* x, uint64_t count) {
  double sum = 0;
  for (uint64_t i = 0; i < count; ++i) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  return sum;
}

// Writes no page that holds zeros on both sides: such pages cost nothing yet. By bits, so that what is in
// line is equal in every way, zeros' signs included.
void copy_where_different(const float* from, uint64_t count, float* to) {
  for (uint64_t i = 0; i < count; ++i) {
    if (std::bit_cast<uint32_t>(to[i]) != std::bit_cast<uint32_t>(from[i])) to[i] = from[i];
  }
}

}  // namespace

Status ErrorFeedback::allocate(Buffer* buffer, uint64_t count) {
  buffer->reset(static_cast<float*>(std::calloc(count, sizeof(float))));
  if (*buffer != nullptr) return Status();
  return error(Code::kResource, "there is no memory for a residual of {} bytes", count * sizeof(float));
}

// Another plan gives the sums to other owners. What this rank still owes for the sums it owned goes with
// its own contribution from now on, unscaled: owed is owed, whoever sums.
void ErrorFeedback::Tensor::fold_sums(Use next) {
  float* owed = sum[committed].get();
  float* into = contribution[committed].get();
  for (uint64_t i = 0; i < count; ++i) {
    if (owed[i] == 0) continue;
    into[i] += owed[i] / use.scale;
    owed[i] = 0;
  }
  use = next;
  in_line = false;
}

void ErrorFeedback::Tensor::bring_in_line() {
  copy_where_different(contribution[committed].get(), count, contribution[1 - committed].get());
  copy_where_different(sum[committed].get(), count, sum[1 - committed].get());
  in_line = true;
}

// All zero at first.
Result<ErrorFeedback::Tensor*> ErrorFeedback::make(uint32_t tensor_id, uint64_t count, Use use) {
  Tensor t;
  t.count = count;
  t.use = use;
  t.in_line = true;
  for (Buffer* buffer : {&t.contribution[0], &t.contribution[1], &t.sum[0], &t.sum[1]}) {
    if (const Status status = allocate(buffer, count); !status.ok()) {
      return error(status.code(), "error feedback of tensor {}: {}", tensor_id, status.message());
    }
  }
  return &tensors_.insert_or_assign(tensor_id, std::move(t)).first->second;
}

Result<ErrorFeedback::Tensor*> ErrorFeedback::prepare(const Segment& segment, Use use) {
  const auto it = tensors_.find(segment.tensor_id);
  if (it == tensors_.end()) return make(segment.tensor_id, segment.count, use);
  Tensor& t = it->second;
  if (t.count != segment.count) {
    return error(
        Code::kInvalidArgument,
        "tensor id {} has a residual of {} elements and now comes with {}: give another tensor its own "
        "id, or call cgx_comm_reset_residuals",
        segment.tensor_id, t.count, segment.count);
  }
  if (t.use.plan != use.plan) t.fold_sums(use);
  if (!t.in_line) t.bring_in_line();
  return &t;
}

Result<std::span<const SegmentResidual>> ErrorFeedback::begin(const Layout& layout, Use use) {
  active_.clear();
  residuals_.clear();
  if (!layout.any_error_feedback()) return std::span<const SegmentResidual>();
  residuals_.resize(layout.segments().size());
  for (size_t i = 0; i < residuals_.size(); ++i) {
    const Segment& segment = layout.segments()[i];
    if (!segment.spec.error_feedback) continue;
    CGX_ASSIGN_OR_RETURN(Tensor * t, prepare(segment, use));
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

void ErrorFeedback::fold() {
  rollback();
  for (auto& [id, tensor] : tensors_) tensor.fold_sums(Use());
}

void ErrorFeedback::reset() {
  active_.clear();
  tensors_.clear();
}

std::vector<ErrorFeedback::Owed> ErrorFeedback::owed() const {
  std::vector<Owed> all;
  all.reserve(tensors_.size());
  for (const auto& [id, t] : tensors_) {
    all.push_back(
        {id, t.use, {t.contribution[t.committed].get(), t.count}, {t.sum[t.committed].get(), t.count}});
  }
  std::sort(all.begin(), all.end(), [](const Owed& a, const Owed& b) { return a.tensor_id < b.tensor_id; });
  return all;
}

Status ErrorFeedback::restore(const Owed& owed) {
  CGX_ASSIGN_OR_RETURN(Tensor * t, make(owed.tensor_id, owed.contribution.size(), owed.use));
  copy_where_different(owed.contribution.data(), t->count, t->contribution[0].get());
  copy_where_different(owed.sum.data(), t->count, t->sum[0].get());
  t->in_line = false;
  return Status();
}

double ErrorFeedback::norm(uint32_t tensor_id) const {
  auto it = tensors_.find(tensor_id);
  if (it == tensors_.end()) return 0;
  const Tensor& t = it->second;
  return std::sqrt(squares(t.contribution[t.committed].get(), t.count) +
                   squares(t.sum[t.committed].get(), t.count));
}

}  // namespace cgx
