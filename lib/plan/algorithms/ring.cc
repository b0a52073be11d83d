// Reduce-scatter and all-gather around a ring: every rank talks to two neighbours only. Chunk c starts
// at rank c; each next rank adds its own elements to what it received and rounds again; rank c - 1 is
// the last to add, encodes the sum once, and those bytes are forwarded around the ring unchanged. As
// many roundings as ranks, so it is for fast codecs on slow, ring-shaped networks. The order of the sum
// is the order of the ring from c on, which every run repeats.
//
// Twice as many slices as the pipeline is deep walk the ring together: while some are summed the others are
// on their way.
#include <algorithm>

#include "plan/algorithms/algorithms.h"
#include "plan/builder.h"

namespace cgx {

namespace {

class Ring {
 public:
  explicit Ring(const PlanKey& key) : build_(key), in_flight_(2 * key.depth), incoming_(in_flight_) {
    for (const Range& chunk : cut_chunks(key.layout, key.size)) {
      slices_.push_back(cut_slices(key.layout, chunk, key.slice_bytes));
      turns_ = std::max(turns_, slices_.back().size());
    }
  }

  Plan plan() {
    const int last_hop = 2 * build_.size() - 3;
    for (size_t first = 0; first < turns_; first += in_flight_) {
      for (int hop = 0; hop <= last_hop; ++hop) {
        for (size_t i = 0; i < in_flight_; ++i) send(hop, first + i, i);
      }
      for (size_t i = 0; i < in_flight_; ++i) finish(first + i, i);
    }
    return build_.take();
  }

 private:
  // The slice k that this rank sends at a hop; it receives the one that the rank before it sends.
  const Range* sent(int rank, int hop, size_t k) const {
    const int chunk = (rank + 2 * build_.size() - hop) % build_.size();
    const std::vector<Range>& slices = slices_[static_cast<size_t>(chunk)];
    return k < slices.size() ? &slices[k] : nullptr;
  }

  // Hops 0 .. size - 2 carry partial sums; size - 1 .. 2 size - 3 carry the encoded sum.
  void send(int hop, size_t k, size_t slot) {
    const int left = build_.before(1);
    const Range* range = sent(build_.rank(), hop, k);
    const Range* next = sent(left, hop, k);
    const uint32_t posted = next != nullptr ? build_.post(left, *next) : kNoMessage;
    if (range != nullptr) {
      const uint32_t message = fill(hop, *range, slot);
      build_.send(message, {build_.after(1)});
      build_.release(message);
    }
    incoming_[slot] = posted;
  }

  // The message of a hop, made from the one that arrived at the hop before it.
  uint32_t fill(int hop, Range range, size_t slot) {
    if (hop == 0) return build_.encode(range, 0);
    const uint32_t input = incoming_[slot];
    build_.receive(build_.before(1), input);
    const uint8_t stage = static_cast<uint8_t>(hop);
    const int owned_hop = build_.size() - 1;
    uint32_t message = kNoMessage;
    if (hop < owned_hop) {
      message = build_.reduce_encode(range, {input, kOwnInput}, stage);
    } else if (hop == owned_hop) {
      message = build_.reduce_encode_last(range, {input, kOwnInput}, stage);
    } else {
      message = build_.forward(input);
      build_.decode(input);
    }
    build_.release(input);
    return message;
  }

  void finish(size_t k, size_t slot) {
    if (sent(build_.before(1), 2 * build_.size() - 3, k) == nullptr) return;
    build_.take_result(build_.before(1), incoming_[slot]);
  }

  PlanBuilder build_;
  const size_t in_flight_;
  std::vector<std::vector<Range>> slices_;  // of each chunk
  size_t turns_ = 0;
  std::vector<uint32_t> incoming_;  // posted at the last hop, by slot
};

}  // namespace

Plan plan_ring(const PlanKey& key) { return Ring(key).plan(); }

}  // namespace cgx
