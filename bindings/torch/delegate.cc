// Collectives that cgx does not compress: each is the inner backend's, under the name "cgx:...". The
// canonical names of newer PyTorch (all_gather_single, ...) arrive here by way of the older ones, which every
// version calls.
#include "process_group.h"
#include "profiled.h"

namespace cgx_torch {
namespace {

// What the profiler shows as inputs of a collective whose inputs are a list for each tensor, or nothing on
// most ranks.
std::optional<Tensors> none_or_first(const std::vector<Tensors>& inputs) {
  return inputs.empty() ? std::nullopt : std::optional<Tensors>(inputs[0]);
}

}  // namespace

WorkPtr ProcessGroupCgx::allreduce_sparse(Tensors& tensors, const c10d::AllreduceOptions& opts) {
  count_delegated(codec_ == nullptr ? Reason::kNotAsked : Reason::kSparse, tensors);
  return profiled(getRank(), c10d::OpType::_ALLREDUCE_SPARSE, "cgx:sparse_all_reduce", tensors,
                  [&] { return inner_->allreduce_sparse(tensors, opts); });
}

WorkPtr ProcessGroupCgx::broadcast(Tensors& tensors, const c10d::BroadcastOptions& opts) {
  return profiled(getRank(), c10d::OpType::BROADCAST, "cgx:broadcast", tensors,
                  [&] { return inner_->broadcast(tensors, opts); });
}

WorkPtr ProcessGroupCgx::reduce(Tensors& tensors, const c10d::ReduceOptions& opts) {
  return profiled(getRank(), c10d::OpType::REDUCE, "cgx:reduce", tensors,
                  [&] { return inner_->reduce(tensors, opts); });
}

WorkPtr ProcessGroupCgx::allgather(std::vector<Tensors>& outputs, Tensors& inputs,
                                   const c10d::AllgatherOptions& opts) {
  return profiled(getRank(), c10d::OpType::ALLGATHER, "cgx:all_gather", inputs,
                  [&] { return inner_->allgather(outputs, inputs, opts); });
}

WorkPtr ProcessGroupCgx::_allgather_base(at::Tensor& output, at::Tensor& input,
                                         const c10d::AllgatherOptions& opts) {
  return profiled(getRank(), c10d::OpType::_ALLGATHER_BASE, "cgx:all_gather", Tensors{input},
                  [&] { return inner_->_allgather_base(output, input, opts); });
}

WorkPtr ProcessGroupCgx::allgather_coalesced(std::vector<Tensors>& outputs, Tensors& inputs,
                                             const c10d::AllgatherOptions& opts) {
  return profiled(getRank(), c10d::OpType::ALLGATHER_COALESCED, "cgx:all_gather", inputs,
                  [&] { return inner_->allgather_coalesced(outputs, inputs, opts); });
}

WorkPtr ProcessGroupCgx::allgather_into_tensor_coalesced(Tensors& outputs, Tensors& inputs,
                                                         const c10d::AllgatherOptions& opts) {
  return profiled(getRank(), c10d::OpType::ALLGATHER_COALESCED, "cgx:all_gather", inputs,
                  [&] { return inner_->allgather_into_tensor_coalesced(outputs, inputs, opts); });
}

WorkPtr ProcessGroupCgx::gather(std::vector<Tensors>& outputs, Tensors& inputs,
                                const c10d::GatherOptions& opts) {
  return profiled(getRank(), c10d::OpType::GATHER, "cgx:gather", inputs,
                  [&] { return inner_->gather(outputs, inputs, opts); });
}

WorkPtr ProcessGroupCgx::scatter(Tensors& outputs, std::vector<Tensors>& inputs,
                                 const c10d::ScatterOptions& opts) {
  return profiled(getRank(), c10d::OpType::SCATTER, "cgx:scatter", none_or_first(inputs),
                  [&] { return inner_->scatter(outputs, inputs, opts); });
}

WorkPtr ProcessGroupCgx::reduce_scatter(Tensors& outputs, std::vector<Tensors>& inputs,
                                        const c10d::ReduceScatterOptions& opts) {
  return profiled(getRank(), c10d::OpType::REDUCE_SCATTER, "cgx:reduce_scatter", none_or_first(inputs),
                  [&] { return inner_->reduce_scatter(outputs, inputs, opts); });
}

WorkPtr ProcessGroupCgx::_reduce_scatter_base(at::Tensor& output, at::Tensor& input,
                                              const c10d::ReduceScatterOptions& opts) {
  return profiled(getRank(), c10d::OpType::_REDUCE_SCATTER_BASE, "cgx:reduce_scatter", Tensors{input},
                  [&] { return inner_->_reduce_scatter_base(output, input, opts); });
}

WorkPtr ProcessGroupCgx::reduce_scatter_tensor_coalesced(Tensors& outputs, Tensors& inputs,
                                                         const c10d::ReduceScatterOptions& opts) {
  return profiled(getRank(), c10d::OpType::COALESCED, "cgx:reduce_scatter", inputs,
                  [&] { return inner_->reduce_scatter_tensor_coalesced(outputs, inputs, opts); });
}

WorkPtr ProcessGroupCgx::alltoall_base(at::Tensor& output, at::Tensor& input,
                                       std::vector<int64_t>& output_splits,
                                       std::vector<int64_t>& input_splits,
                                       const c10d::AllToAllOptions& opts) {
  return profiled(getRank(), c10d::OpType::ALLTOALL_BASE, "cgx:all_to_all", Tensors{input},
                  [&] { return inner_->alltoall_base(output, input, output_splits, input_splits, opts); });
}

WorkPtr ProcessGroupCgx::alltoall(Tensors& outputs, Tensors& inputs, const c10d::AllToAllOptions& opts) {
  return profiled(getRank(), c10d::OpType::ALLTOALL, "cgx:all_to_all", inputs,
                  [&] { return inner_->alltoall(outputs, inputs, opts); });
}

WorkPtr ProcessGroupCgx::send(Tensors& tensors, int dst, int tag) {
  return profiled(getRank(), c10d::OpType::SEND, "cgx:send", tensors,
                  [&] { return inner_->send(tensors, dst, tag); });
}

WorkPtr ProcessGroupCgx::recv(Tensors& tensors, int src, int tag) {
  return profiled(getRank(), c10d::OpType::RECV, "cgx:recv", tensors,
                  [&] { return inner_->recv(tensors, src, tag); });
}

WorkPtr ProcessGroupCgx::recvAnysource(Tensors& tensors, int tag) {
  return profiled(getRank(), c10d::OpType::RECVANYSOURCE, "cgx:recvAnySource", tensors,
                  [&] { return inner_->recvAnysource(tensors, tag); });
}

WorkPtr ProcessGroupCgx::barrier(const c10d::BarrierOptions& opts) {
  return profiled(getRank(), c10d::OpType::BARRIER, "cgx:barrier", std::nullopt,
                  [&] { return inner_->barrier(opts); });
}

void ProcessGroupCgx::monitoredBarrier(const c10d::BarrierOptions& opts, bool wait_all_ranks) {
  inner_->monitoredBarrier(opts, wait_all_ranks);
}

void ProcessGroupCgx::setSequenceNumberForGroup() { inner_->setSequenceNumberForGroup(); }

uint64_t ProcessGroupCgx::getSequenceNumberForGroup() {
  return inner_->getSequenceNumberForGroup() + sequence_;
}

bool ProcessGroupCgx::supportsCoalescing() const { return inner_->supportsCoalescing(); }

void ProcessGroupCgx::startCoalescing() { inner_->startCoalescing(); }

WorkPtr ProcessGroupCgx::endCoalescing() { return inner_->endCoalescing(); }

void ProcessGroupCgx::waitForPendingWorks() { inner_->waitForPendingWorks(); }

void ProcessGroupCgx::enableCollectivesTiming() { inner_->enableCollectivesTiming(); }

}  // namespace cgx_torch
