// Error feedback: what each rounding of a tensor lost, added to it the next time. Two residuals a
// tensor, keyed by tensor id: of this rank's contribution and of the sums it owns.
//
// Each residual is a pair of buffers: a collective reads the committed one and writes the other, and
// commit() swaps them, so a failed collective leaves no trace.
#pragma once

#include <array>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/status.h"
#include "codec/layout.h"
#include "plan/run.h"

namespace cgx {

class ErrorFeedback {
 public:
  // Residuals for one collective over `layout`: one entry a segment, null where it has no error
  // feedback; empty if none has. `use` says which plan will run: a plan writes the same elements each
  // time, so the buffers need bringing in line only when it changes. The span lives until the next
  // begin(). Ends with commit() or rollback().
  struct Use {
    uint64_t plan = 0;  // distinct for distinct plans and scales
    float scale = 1;    // of the sum; the residual of owned sums is what remains after it
  };
  Result<std::span<const SegmentResidual>> begin(const Layout& layout, Use use);
  void commit();
  void rollback();

  // For another set of ranks: what is owed for owned sums goes with the contributions.
  void fold();

  // Forgets all residuals.
  void reset();
  // What a tensor is owed, committed; the spans live until the next begin(), restore() or reset().
  struct Owed {
    uint32_t tensor_id = 0;
    Use use;  // of the collective that wrote it
    std::span<const float> contribution;
    std::span<const float> sum;
  };
  // All tensors, by rising id.
  std::vector<Owed> owed() const;
  // Takes over a copy of `owed`. REQUIRES: its tensor id is new, its spans are of equal size.
  Status restore(const Owed& owed);

  // L2 norm of a tensor's committed residuals together; 0 for an unknown tensor.
  double norm(uint32_t tensor_id) const;

 private:
  struct Free {
    void operator()(float* p) const { std::free(p); }
  };
  // From calloc: pages that no plan writes (sums that this rank does not own) cost no memory.
  using Buffer = std::unique_ptr<float[], Free>;

  struct Tensor {
    uint64_t count = 0;
    Use use;               // of the collective that wrote the pending buffers last
    bool in_line = false;  // outside of that plan's ranges, pending equals committed
    int committed = 0;     // index of the committed buffer of each pair
    std::array<Buffer, 2> contribution;
    std::array<Buffer, 2> sum;

    void fold_sums(Use next);
    void bring_in_line();
  };

  Result<Tensor*> make(uint32_t tensor_id, uint64_t count, Use use);
  Result<Tensor*> prepare(const Segment& segment, Use use);
  static Status allocate(Buffer* buffer, uint64_t count);

  std::unordered_map<uint32_t, Tensor> tensors_;
  std::vector<SegmentResidual> residuals_;
  std::vector<Tensor*> active_;
};

}  // namespace cgx
