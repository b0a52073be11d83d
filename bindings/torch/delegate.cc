// Collectives that cgx does not compress: each is the inner backend's, unchanged. The canonical names of
// newer PyTorch (all_gather_single, ...) arrive here by way of the older ones, which every version calls.
#include "process_group.h"

namespace cgx_torch {

WorkPtr ProcessGroupCgx::allreduce_sparse(Tensors& tensors, const c10d::AllreduceOptions& opts) {
  count_delegated(codec_ == nullptr ? Reason::kNotAsked : Reason::kSparse, tensors);
  return inner_->allreduce_sparse(tensors, opts);
}

WorkPtr ProcessGroupCgx::allreduce_coalesced(Tensors& tensors, const c10d::AllreduceCoalescedOptions& opts) {
  count_delegated(codec_ == nullptr ? Reason::kNotAsked : Reason::kCoalesced, tensors);
  return inner_->allreduce_coalesced(tensors, opts);
}

WorkPtr ProcessGroupCgx::broadcast(Tensors& tensors, const c10d::BroadcastOptions& opts) {
  return inner_->broadcast(tensors, opts);
}

WorkPtr ProcessGroupCgx::reduce(Tensors& tensors, const c10d::ReduceOptions& opts) {
  return inner_->reduce(tensors, opts);
}

WorkPtr ProcessGroupCgx::allgather(std::vector<Tensors>& outputs, Tensors& inputs,
                                   const c10d::AllgatherOptions& opts) {
  return inner_->allgather(outputs, inputs, opts);
}

WorkPtr ProcessGroupCgx::_allgather_base(at::Tensor& output, at::Tensor& input,
                                         const c10d::AllgatherOptions& opts) {
  return inner_->_allgather_base(output, input, opts);
}

WorkPtr ProcessGroupCgx::allgather_coalesced(std::vector<Tensors>& outputs, Tensors& inputs,
                                             const c10d::AllgatherOptions& opts) {
  return inner_->allgather_coalesced(outputs, inputs, opts);
}

WorkPtr ProcessGroupCgx::allgather_into_tensor_coalesced(Tensors& outputs, Tensors& inputs,
                                                         const c10d::AllgatherOptions& opts) {
  return inner_->allgather_into_tensor_coalesced(outputs, inputs, opts);
}

WorkPtr ProcessGroupCgx::gather(std::vector<Tensors>& outputs, Tensors& inputs,
                                const c10d::GatherOptions& opts) {
  return inner_->gather(outputs, inputs, opts);
}

WorkPtr ProcessGroupCgx::scatter(Tensors& outputs, std::vector<Tensors>& inputs,
                                 const c10d::ScatterOptions& opts) {
  return inner_->scatter(outputs, inputs, opts);
}

WorkPtr ProcessGroupCgx::reduce_scatter(Tensors& outputs, std::vector<Tensors>& inputs,
                                        const c10d::ReduceScatterOptions& opts) {
  return inner_->reduce_scatter(outputs, inputs, opts);
}

WorkPtr ProcessGroupCgx::_reduce_scatter_base(at::Tensor& output, at::Tensor& input,
                                              const c10d::ReduceScatterOptions& opts) {
  return inner_->_reduce_scatter_base(output, input, opts);
}

WorkPtr ProcessGroupCgx::reduce_scatter_tensor_coalesced(Tensors& outputs, Tensors& inputs,
                                                         const c10d::ReduceScatterOptions& opts) {
  return inner_->reduce_scatter_tensor_coalesced(outputs, inputs, opts);
}

WorkPtr ProcessGroupCgx::alltoall_base(at::Tensor& output, at::Tensor& input,
                                       std::vector<int64_t>& output_splits,
                                       std::vector<int64_t>& input_splits,
                                       const c10d::AllToAllOptions& opts) {
  return inner_->alltoall_base(output, input, output_splits, input_splits, opts);
}

WorkPtr ProcessGroupCgx::alltoall(Tensors& outputs, Tensors& inputs, const c10d::AllToAllOptions& opts) {
  return inner_->alltoall(outputs, inputs, opts);
}

WorkPtr ProcessGroupCgx::send(Tensors& tensors, int dst, int tag) { return inner_->send(tensors, dst, tag); }

WorkPtr ProcessGroupCgx::recv(Tensors& tensors, int src, int tag) { return inner_->recv(tensors, src, tag); }

WorkPtr ProcessGroupCgx::recvAnysource(Tensors& tensors, int tag) {
  return inner_->recvAnysource(tensors, tag);
}

WorkPtr ProcessGroupCgx::barrier(const c10d::BarrierOptions& opts) { return inner_->barrier(opts); }

void ProcessGroupCgx::monitoredBarrier(const c10d::BarrierOptions& opts, bool wait_all_ranks) {
  inner_->monitoredBarrier(opts, wait_all_ranks);
}

void ProcessGroupCgx::setSequenceNumberForGroup() { inner_->setSequenceNumberForGroup(); }

uint64_t ProcessGroupCgx::getSequenceNumberForGroup() { return inner_->getSequenceNumberForGroup(); }

bool ProcessGroupCgx::supportsCoalescing() const { return inner_->supportsCoalescing(); }

void ProcessGroupCgx::startCoalescing() { inner_->startCoalescing(); }

WorkPtr ProcessGroupCgx::endCoalescing() { return inner_->endCoalescing(); }

void ProcessGroupCgx::waitForPendingWorks() { inner_->waitForPendingWorks(); }

void ProcessGroupCgx::enableCollectivesTiming() { inner_->enableCollectivesTiming(); }

}  // namespace cgx_torch
