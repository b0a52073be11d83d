// Everybody encodes the whole tensor once and sends it to all; everybody sums all ranks' blocks, its own
// encoding among them, in rank order. One rounding, and the only choice that keeps a sparse block
// sparse: (size - 1) blocks cross each link, which pays where a block is far smaller than the tensor.
//
// Pipelined where blocks may be cut: slice k is encoded and sent before slice k - 1 is summed.
#include "plan/algorithms/algorithms.h"
#include "plan/builder.h"

namespace cgx {

Plan plan_allgather(const PlanKey& key) {
  PlanBuilder build(key);
  const std::vector<Range> slices = cut_slices(key.layout, {0, key.layout.count()}, key.slice_bytes);
  std::vector<uint32_t> encoded(static_cast<size_t>(key.size));
  std::vector<uint32_t> previous;
  for (size_t k = 0; k <= slices.size(); ++k) {
    previous.swap(encoded);
    if (k < slices.size()) {
      encoded.assign(static_cast<size_t>(key.size), kNoMessage);
      for (int d = 1; d < key.size; ++d) {
        encoded[static_cast<size_t>(build.before(d))] = build.post(build.before(d), slices[k]);
      }
      encoded[static_cast<size_t>(key.rank)] = build.encode(slices[k], 0);
      build.send(encoded[static_cast<size_t>(key.rank)], build.others());
    }
    if (k == 0) continue;
    for (int d = 1; d < key.size; ++d) {
      build.receive(build.before(d), previous[static_cast<size_t>(build.before(d))]);
    }
    build.reduce(slices[k - 1], previous);
    for (uint32_t message : previous) build.release(message);
  }
  return build.take();
}

}  // namespace cgx
