// Reduce-scatter, then all-gather, both direct. Rank c owns chunk c: everybody encodes its contribution
// to that chunk and sends it to c; c adds them to its own elements, which were never rounded, in rank
// order, encodes the sum once, and sends those bytes to all. Two roundings, whatever the number of ranks.
//
// Slices go through three steps of a pipeline of depth d, so that a rank encodes slice k while its peers sum
// slice k - d and slice k - 2 d is on its way back:
//
//   turn k:   contribute(k)   sum(k - d)   collect(k - 2 d)
//
// A rank that has received slice k of the contributions knows that its peers have collected slice k - 2 d - 1
// (they did so before they contributed k). So at most 2 d + 1 slices of each kind are in flight, on any
// transport.
#include <algorithm>

#include "plan/algorithms/algorithms.h"
#include "plan/builder.h"

namespace cgx {

namespace {

class ScatterGather {
 public:
  explicit ScatterGather(const PlanKey& key) : build_(key), depth_(key.depth) {
    const size_t ranks = static_cast<size_t>(key.size);
    const uint64_t slice_bytes = slice_among(key.size, key.slice_bytes);
    for (const Range& chunk : cut_chunks(key.layout, key.size)) {
      slices_.push_back(cut_slices(key.layout, chunk, slice_bytes));
      turns_ = std::max(turns_, slices_.back().size());
    }
    contributions_.assign(ranks, std::vector<uint32_t>(turns_, kNoMessage));
    sums_ = contributions_;
  }

  Plan plan() {
    for (size_t turn = 0; turn < turns_ + 2 * depth_; ++turn) {
      if (turn < turns_) contribute(turn);
      if (turn >= depth_ && turn - depth_ < turns_) sum(turn - depth_);
      if (turn >= 2 * depth_) collect(turn - 2 * depth_);
    }
    return build_.take();
  }

 private:
  bool has(int owner, size_t k) const { return k < slices_[index(owner)].size(); }
  Range slice(int owner, size_t k) const { return slices_[index(owner)][k]; }
  static size_t index(int rank) { return static_cast<size_t>(rank); }

  void contribute(size_t k) {
    const int me = build_.rank();
    for (int d = 1; d < build_.size() && has(me, k); ++d) {
      const int peer = build_.before(d);
      contributions_[index(peer)][k] = build_.post(peer, slice(me, k));
    }
    for (int peer : build_.others()) {
      if (!has(peer, k)) continue;
      const uint32_t message = build_.encode(slice(peer, k), 0);
      build_.send(message, {peer});
      build_.release(message);
    }
  }

  void sum(size_t k) {
    const int me = build_.rank();
    for (int d = 1; d < build_.size(); ++d) {
      const int peer = build_.before(d);
      if (has(peer, k)) sums_[index(peer)][k] = build_.post(peer, slice(peer, k));
    }
    if (!has(me, k)) return;
    std::vector<uint32_t> inputs(static_cast<size_t>(build_.size()), kOwnInput);
    for (int d = 1; d < build_.size(); ++d) {
      const int peer = build_.before(d);
      inputs[index(peer)] = contributions_[index(peer)][k];
      build_.receive(peer, inputs[index(peer)]);
    }
    const uint32_t message = build_.reduce_encode_last(slice(me, k), inputs, 1);
    build_.send(message, build_.others());
    build_.release(message);
    for (uint32_t input : inputs) {
      if (input != kOwnInput) build_.release(input);
    }
  }

  void collect(size_t k) {
    for (int d = 1; d < build_.size(); ++d) {
      const int peer = build_.before(d);
      if (has(peer, k)) build_.take_result(peer, sums_[index(peer)][k]);
    }
  }

  PlanBuilder build_;
  const size_t depth_;
  std::vector<std::vector<Range>> slices_;  // of each owner's chunk
  size_t turns_ = 0;
  std::vector<std::vector<uint32_t>> contributions_;  // [peer][slice], to this rank's chunk
  std::vector<std::vector<uint32_t>> sums_;           // [peer][slice], of that peer's chunk
};

}  // namespace

Plan plan_scatter_gather(const PlanKey& key) { return ScatterGather(key).plan(); }

}  // namespace cgx
