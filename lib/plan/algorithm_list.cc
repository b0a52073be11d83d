#include "plan/algorithm_list.h"

#include "plan/algorithms/algorithms.h"
#include "plan/builder.h"
#include "plan/cost.h"

namespace cgx {

namespace {

// One rank needs no algorithm: y = x * scale, and nothing is rounded.
template <Plan (*kPlan)(const PlanKey&)>
Plan alone_or(const PlanKey& key) {
  if (key.size > 1) return kPlan(key);
  PlanBuilder build(key);
  for (const Range& slice : cut_slices(key.layout, {0, key.layout.count()}, key.slice_bytes)) {
    build.reduce(slice, {kOwnInput});
  }
  return build.take();
}

constexpr Algorithm kAlgorithms[] = {
    {"scatter_gather",
     "every rank sums the chunk it owns and sends the encoded sum to all: two roundings, balanced traffic",
     [](int size, int) { return size > 1 ? 2 : 0; }, scatter_gather_turn, alone_or<plan_scatter_gather>,
     scatter_gather_ns},
    {"ring", "partial sums walk around a ring, re-encoded by each rank: as many roundings as ranks",
     [](int size, int) { return size > 1 ? size : 0; }, ring_turn, alone_or<plan_ring>, ring_ns},
    {"allgather",
     "every rank encodes its whole tensor once and all sum all encodings: one rounding, for sparse codecs "
     "and small tensors",
     [](int size, int) { return size > 1 ? 1 : 0; }, allgather_turn, alone_or<plan_allgather>, allgather_ns},
    {"tree",
     "partial sums climb a binomial tree and the encoded sum comes down it: few messages, for small tensors "
     "of "
     "many ranks; as many roundings as the tree has levels",
     [](int size, int) { return size > 1 ? tree_depth(size) + 1 : 0; }, tree_turn, alone_or<plan_tree>,
     tree_ns},
    {"hierarchical",
     "ranks of a host sum at one of them, and only those exchange between hosts: one rank a host on the "
     "network, two "
     "roundings",
     [](int size, int hosts) { return size < 2    ? 0
                                      : hosts > 1 ? 2
                                                  : 1; }, hierarchical_turn,
     alone_or<plan_hierarchical>, hierarchical_ns},
};

}  // namespace

std::span<const Algorithm> algorithms() { return kAlgorithms; }

const Algorithm* find_algorithm(std::string_view name) {
  for (const Algorithm& algorithm : kAlgorithms) {
    if (name == algorithm.name) return &algorithm;
  }
  return nullptr;
}

}  // namespace cgx
