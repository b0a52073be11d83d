#include "plan/select.h"

#include <algorithm>

#include "plan/algorithm_list.h"

namespace cgx {

namespace {

// scatter_gather sends 2 (size - 1) / size encoded tensors a rank, allgather size - 1: more from three
// ranks on. A dense codec therefore always takes scatter_gather. A sparse one keeps only the largest of
// what it is given, and scatter_gather would drop most of the sum's elements in its second rounding; so it
// takes allgather as long as that sends less than uncompressed scatter_gather would, its price for
// keeping every rank's choice.
bool prefers_allgather(const Layout& layout, int size) {
  const bool any_sparse = std::any_of(layout.segments().begin(), layout.segments().end(),
                                      [](const Segment& s) { return is_sparse(s.spec); });
  if (!any_sparse) return false;
  const uint64_t ranks = static_cast<uint64_t>(size);
  const uint64_t raw = layout.count() * dtype_bytes(layout.dtype());
  return layout.wire_bytes(0, layout.count()) * ranks <= 2 * raw;
}

}  // namespace

Result<const Algorithm*> select_algorithm(std::string_view name, const Layout& layout, int size) {
  if (name.empty() || name == "auto") {
    return find_algorithm(prefers_allgather(layout, size) ? "allgather" : "scatter_gather");
  }
  if (const Algorithm* found = find_algorithm(name)) return found;
  std::string names = "auto";
  for (const Algorithm& algorithm : algorithms()) names += std::string(", ") + algorithm.name;
  return error(Code::kInvalidArgument, "there is no algorithm \"{}\"; there are {}", name, names);
}

}  // namespace cgx
