// Everybody encodes the whole tensor once and sends it to all; everybody sums all ranks' blocks, its own
// encoding among them, in rank order. One rounding, and the only choice that keeps a sparse block
// sparse: (size - 1) blocks cross each link, which pays where a block is far smaller than the tensor.
//
// Pipelined where blocks may be cut: slice k is encoded and sent before slice k - d is summed, d the depth.
#include "plan/algorithms/algorithms.h"
#include "plan/builder.h"

namespace cgx {

Plan plan_allgather(const PlanKey& key) {
  PlanBuilder build(key);
  const std::vector<Range> slices = cut_slices(key.layout, {0, key.layout.count()}, key.slice_bytes);
  const size_t ranks = static_cast<size_t>(key.size), me = static_cast<size_t>(key.rank);
  std::vector<std::vector<uint32_t>> encoded(slices.size(), std::vector<uint32_t>(ranks));  // [slice][rank]
  for (size_t k = 0; k < slices.size() + key.depth; ++k) {
    if (k < slices.size()) {
      for (int d = 1; d < key.size; ++d) {
        const int peer = build.before(d);
        encoded[k][static_cast<size_t>(peer)] = build.post(peer, slices[k]);
      }
      encoded[k][me] = build.encode(slices[k], 0);
      build.send(encoded[k][me], build.others());
    }
    if (k < key.depth) continue;
    const std::vector<uint32_t>& arriving = encoded[k - key.depth];
    for (int d = 1; d < key.size; ++d) {
      build.receive(build.before(d), arriving[static_cast<size_t>(build.before(d))]);
    }
    build.reduce(slices[k - key.depth], arriving);
    for (uint32_t message : arriving) build.release(message);
  }
  return build.take();
}

}  // namespace cgx
