// The vocabulary in which algorithms are written: where a tensor is cut into chunks and slices, and one
// word for each step. Messages are made by the step that first fills them.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "plan/plan.h"

namespace cgx {

struct Range {
  uint64_t begin = 0, end = 0;

  bool empty() const { return begin == end; }
};

// `parts` chunks that cover the tensor in order, as equal as Layout::chunk_cut allows; some may be
// empty. `also`: another layout of the same tensor, which must allow the cuts, too.
std::vector<Range> cut_chunks(const Layout& layout, int parts, const Layout* also = nullptr);
// The slices of a chunk: as equal as Layout::slice_cut allows, about `slice_bytes` of raw elements
// each, none of them empty.
std::vector<Range> cut_slices(const Layout& layout, Range chunk, uint64_t slice_bytes,
                              const Layout* also = nullptr);

class PlanBuilder {
 public:
  // `inner`: the layout of messages with Level::kInner, where there are any.
  explicit PlanBuilder(const PlanKey& key, Layout inner = {}) : key_(key) { plan_.inner = std::move(inner); }

  int rank() const { return key_.rank; }
  int size() const { return key_.size; }
  // The rank that stands `distance` (>= 0) after or before this one in the circle of ranks.
  int after(int distance) const { return (key_.rank + distance) % key_.size; }
  int before(int distance) const { return (key_.rank + key_.size - distance % key_.size) % key_.size; }
  // All other ranks, the next one first: were every rank to begin with rank 0, it would be swamped.
  std::vector<int> others() const;

  uint32_t encode(Range range, uint8_t stage, Level level = Level::kMain);
  uint32_t reduce_encode(Range range, std::vector<uint32_t> inputs, uint8_t stage);
  // The last rounding: scales, and decodes what it encoded onto y.
  uint32_t reduce_encode_last(Range range, std::vector<uint32_t> inputs, uint8_t stage);
  uint32_t forward(uint32_t message);
  void reduce(Range range, std::vector<uint32_t> inputs);
  void decode(uint32_t message);

  uint32_t post(int peer, Range range, Level level = Level::kMain);
  void receive(int peer, uint32_t message);
  void send(uint32_t message, std::vector<int> peers);
  void release(uint32_t message);
  // Receives a result that was posted, sends it on as it came, if to anybody, and decodes it.
  void take_result(int peer, uint32_t message, const std::vector<int>& onward = {});

  Plan take();

 private:
  uint32_t make_message(Range range, Level level = Level::kMain);
  Range range_of(uint32_t message) const;
  Step& add(Step::Op op, uint32_t message, Range range);

  const PlanKey& key_;
  Plan plan_;
};

}  // namespace cgx
