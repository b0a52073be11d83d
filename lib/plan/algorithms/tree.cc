// A binomial tree over the ranks, root 0: the parent of rank r is r without its lowest bit, so the subtree of
// r is r and the ranks after it. A rank adds its children's sums to its own elements, in rank order, encodes
// that once and sends it up; the root encodes the whole sum, and those bytes are forwarded down the tree
// unchanged. Two messages a rank and slice, 2 (size - 1) in all, where direct exchanges send one for every
// pair: for small tensors of many ranks. As many roundings as the tree has levels of ranks.
//
// A rank sends slice k up before it waits for slice k - 2 d from above, d the pipeline's depth: at most 2 d +
// 1 of its sums are under way.
#include <algorithm>

#include "plan/algorithms/algorithms.h"
#include "plan/builder.h"

namespace cgx {

namespace {

int parent_of(int rank) { return rank & (rank - 1); }

std::vector<int> children_of(int rank, int size) {
  std::vector<int> children;
  for (int bit = 1; rank + bit < size && (rank & bit) == 0; bit *= 2) children.push_back(rank + bit);
  return children;
}

// Levels below a rank.
int height_of(int rank, int size) {
  int height = 0;
  for (int child : children_of(rank, size)) height = std::max(height, 1 + height_of(child, size));
  return height;
}

class Tree {
 public:
  explicit Tree(const PlanKey& key)
      : build_(key),
        lag_(2 * key.depth),
        slices_(cut_slices(key.layout, {0, key.layout.count()}, key.slice_bytes)),
        children_(children_of(key.rank, key.size)),
        largest_first_(children_.rbegin(), children_.rend()),
        stage_(static_cast<uint8_t>(height_of(key.rank, key.size))) {}

  Plan plan() {
    for (size_t turn = 0; turn < slices_.size() + lag_; ++turn) {
      if (turn < slices_.size()) climb(slices_[turn]);
      if (build_.rank() != 0 && turn >= lag_) {
        build_.take_result(parent_of(build_.rank()), results_[turn - lag_], largest_first_);
      }
    }
    return build_.take();
  }

 private:
  void climb(Range slice) {
    std::vector<uint32_t> inputs = {kOwnInput};
    for (int child : children_) inputs.push_back(build_.post(child, slice));
    for (size_t i = 0; i < children_.size(); ++i) build_.receive(children_[i], inputs[i + 1]);
    uint32_t sum = kNoMessage;
    if (build_.rank() == 0) {
      sum = build_.reduce_encode_last(slice, inputs, stage_);
      build_.send(sum, largest_first_);
    } else {
      sum = children_.empty() ? build_.encode(slice, 0) : build_.reduce_encode(slice, inputs, stage_);
      build_.send(sum, {parent_of(build_.rank())});
      results_.push_back(build_.post(parent_of(build_.rank()), slice));
    }
    build_.release(sum);
    for (size_t i = 1; i < inputs.size(); ++i) build_.release(inputs[i]);
  }

  PlanBuilder build_;
  const size_t lag_;
  const std::vector<Range> slices_;
  const std::vector<int> children_, largest_first_;
  const uint8_t stage_;
  std::vector<uint32_t> results_;  // posted, by slice
};

}  // namespace

int tree_depth(int size) { return height_of(0, size); }

Plan plan_tree(const PlanKey& key) { return Tree(key).plan(); }

}  // namespace cgx
