// The c10d backend "cgx". It compresses allreduce where that was asked for; every other collective
// goes to an inner Gloo backend, made in Python, so that this code links no Gloo.
#ifndef CGX_BINDINGS_TORCH_PROCESS_GROUP_H_
#define CGX_BINDINGS_TORCH_PROCESS_GROUP_H_

#include <array>
#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <torch/csrc/distributed/c10d/Backend.hpp>
#include <vector>

#include "communicator.h"
#include "completions.h"
#include "layout.h"
#include "work.h"

namespace cgx_torch {

using WorkPtr = c10::intrusive_ptr<c10d::Work>;
using Tensors = std::vector<at::Tensor>;

// What the user chooses for a process group. Equal on all its ranks.
struct CgxOptions : c10d::Backend::Options {
  CgxOptions() : c10d::Backend::Options("cgx") {}
  c10::intrusive_ptr<c10d::Backend::Options> clone() const { return c10::make_intrusive<CgxOptions>(*this); }

  // Of plain all_reduce. Empty: it goes to the inner backend; "none": uncompressed, by cgx.
  std::string codec;
  int64_t min_elements = 1024;
  bool compress_1d = false;
  CommunicatorOptions communicator;
};

// Why an all_reduce went to the inner backend. In the order in which they are looked at.
enum class Reason : uint8_t {
  kNotAsked,
  kCoalesced,
  kNotCpu,
  kSparse,
  kNotFloat,
  kOtherReduction,
  kNotContiguous,
  kOneDimensional,
  kSmall,
  kCount
};
const char* reason_name(Reason reason);

struct Tally {
  uint64_t calls = 0;
  uint64_t elements = 0;
};
using Tallies = std::array<Tally, static_cast<size_t>(Reason::kCount)>;

class ProcessGroupCgx final : public c10d::Backend {
 public:
  ProcessGroupCgx(c10::intrusive_ptr<c10d::Store> store, int rank, int size,
                  std::chrono::milliseconds timeout, const c10::intrusive_ptr<CgxOptions>& options,
                  c10::intrusive_ptr<c10d::Backend> inner,
                  std::shared_ptr<Communicator> communicator = nullptr);
  ~ProcessGroupCgx() override;

  // Makes the communicator, unless it is there. Collective: called where all ranks of the group are known to
  // come (creation when a codec was asked for, ddp_hook), never from inside an all_reduce.
  void connect();
  // Reduces a dense contiguous tensor of which each segment of `layout` has its own spec. `op`: SUM or AVG.
  WorkPtr allreduce_layout(const at::Tensor& tensor, const Layout& layout, const c10d::ReduceOp& op,
                           std::chrono::milliseconds timeout);
  // The first of `count` tensor ids that no one else in this group has. The same on all ranks if they ask in
  // the same order.
  uint32_t reserve_tensor_ids(uint32_t count);
  std::shared_ptr<Communicator> communicator() const;  // null before connect()
  std::shared_ptr<Communicator> connected() const;     // throws before connect() and after shutdown()
  Tallies tallies() const;
  const c10::intrusive_ptr<CgxOptions>& options() const { return options_; }
  const c10::intrusive_ptr<c10d::Backend>& inner() const { return inner_; }

  const std::string getBackendName() const override { return "cgx"; }
  c10::intrusive_ptr<c10d::Backend::Options> getBackendOptions() override { return options_->clone(); }
  c10d::ErrorType getError() override;
  void shutdown() override;
  void abort() override;
  void setTimeout(std::chrono::milliseconds timeout) override;
  // torch.distributed.shrink_group(): goes on without `excluded`, which must not call it, with the residuals
  // of those that do. Excluded ranks that live are waited for, for the group's timeout: let them end.
  // (shrink.cc)
  bool supportsShrinking() const override { return true; }
  c10::intrusive_ptr<c10d::Backend> shrink(
      const std::vector<int64_t>& excluded, int flags,
      const c10::intrusive_ptr<c10d::Backend::Options>& options) override;

  WorkPtr allreduce(Tensors& tensors, const c10d::AllreduceOptions& opts) override;
  WorkPtr allreduce_coalesced(Tensors& tensors, const c10d::AllreduceCoalescedOptions& opts) override;

  // Everything below goes to the inner backend.
  WorkPtr allreduce_sparse(Tensors& tensors, const c10d::AllreduceOptions& opts) override;
  WorkPtr broadcast(Tensors& tensors, const c10d::BroadcastOptions& opts) override;
  WorkPtr reduce(Tensors& tensors, const c10d::ReduceOptions& opts) override;
  WorkPtr allgather(std::vector<Tensors>& outputs, Tensors& inputs,
                    const c10d::AllgatherOptions& opts) override;
  WorkPtr _allgather_base(at::Tensor& output, at::Tensor& input, const c10d::AllgatherOptions& opts) override;
  WorkPtr allgather_coalesced(std::vector<Tensors>& outputs, Tensors& inputs,
                              const c10d::AllgatherOptions& opts) override;
  WorkPtr allgather_into_tensor_coalesced(Tensors& outputs, Tensors& inputs,
                                          const c10d::AllgatherOptions& opts) override;
  WorkPtr gather(std::vector<Tensors>& outputs, Tensors& inputs, const c10d::GatherOptions& opts) override;
  WorkPtr scatter(Tensors& outputs, std::vector<Tensors>& inputs, const c10d::ScatterOptions& opts) override;
  WorkPtr reduce_scatter(Tensors& outputs, std::vector<Tensors>& inputs,
                         const c10d::ReduceScatterOptions& opts) override;
  WorkPtr _reduce_scatter_base(at::Tensor& output, at::Tensor& input,
                               const c10d::ReduceScatterOptions& opts) override;
  WorkPtr reduce_scatter_tensor_coalesced(Tensors& outputs, Tensors& inputs,
                                          const c10d::ReduceScatterOptions& opts) override;
  WorkPtr alltoall_base(at::Tensor& output, at::Tensor& input, std::vector<int64_t>& output_splits,
                        std::vector<int64_t>& input_splits, const c10d::AllToAllOptions& opts) override;
  WorkPtr alltoall(Tensors& outputs, Tensors& inputs, const c10d::AllToAllOptions& opts) override;
  WorkPtr send(Tensors& tensors, int dst, int tag) override;
  WorkPtr recv(Tensors& tensors, int src, int tag) override;
  WorkPtr recvAnysource(Tensors& tensors, int tag) override;
  WorkPtr barrier(const c10d::BarrierOptions& opts) override;
  void monitoredBarrier(const c10d::BarrierOptions& opts, bool wait_all_ranks) override;
  void setSequenceNumberForGroup() override;
  uint64_t getSequenceNumberForGroup() override;
  bool supportsCoalescing() const override;
  void startCoalescing() override;
  WorkPtr endCoalescing() override;
  void waitForPendingWorks() override;
  void enableCollectivesTiming() override;

 private:
  // kCount: none.
  Reason reason_to_delegate(const Tensors& tensors, const c10d::ReduceOp& op) const;
  Reason reason_to_delegate(const at::Tensor& tensor, const c10d::ReduceOp& op) const;
  void count_delegated(Reason reason, const Tensors& tensors);
  void check_open() const;
  // Of `size` ranks, in which this is `rank`; null where there is no communicator.
  std::shared_ptr<Communicator> shrunk_communicator(int rank, int size);
  // One collective a tensor, one work for all.
  WorkPtr submit(const Tensors& tensors, cgx_allreduce_args args, const c10d::ReduceOp& op,
                 std::chrono::milliseconds timeout);

  const c10::intrusive_ptr<c10d::Store> store_;
  const c10::intrusive_ptr<CgxOptions> options_;
  c10::intrusive_ptr<c10d::Backend> inner_;  // set once; not const, so that the destructor can drop it
  const std::shared_ptr<Completions> completions_ = std::make_shared<Completions>();
  CodecPtr codec_;  // of plain all_reduce, or null
  bool lossless_ = false;
  std::atomic<uint64_t> sequence_{0};
  std::atomic<uint32_t> next_tensor_id_{1};  // 0 is plain all_reduce's
  std::atomic<bool> failed_{false};

  std::mutex connecting_;                 // one connect() or shrink() at a time; never taken by anything else
  std::shared_ptr<Communicator> shrunk_;  // of a shrink() that failed later on: the next one goes on from it
  mutable std::mutex mutex_;
  std::chrono::milliseconds timeout_;
  std::shared_ptr<Communicator> communicator_;
  bool closed_ = false;
  Tallies tallies_{};
};

}  // namespace cgx_torch

#endif  // CGX_BINDINGS_TORCH_PROCESS_GROUP_H_
