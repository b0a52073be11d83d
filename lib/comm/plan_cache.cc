// See plan_cache.h.
#include "comm/plan_cache.h"

#include <algorithm>

#include "plan/select.h"

namespace cgx {

Result<const CachedPlan*> PlanCache::find(const Layout& layout) {
  ++uses_;
  const uint64_t fingerprint = layout.fingerprint();
  for (const auto& entry : entries_) {
    if (entry->cached.fingerprint == fingerprint && entry->cached.layout == layout) {
      entry->last_use = uses_;
      return &entry->cached;
    }
  }
  CGX_ASSIGN_OR_RETURN(const Algorithm* row, select_algorithm(algorithm_, layout, size_));
  if (entries_.size() == kCapacity) {
    entries_.erase(std::min_element(entries_.begin(), entries_.end(),
                                    [](const auto& a, const auto& b) { return a->last_use < b->last_use; }));
  }
  Plan plan = row->plan({rank_, size_, layout, slice_bytes_});
  entries_.push_back(
      std::make_unique<Entry>(Entry{{layout, fingerprint, layout.describe(), std::move(plan)}, uses_}));
  return &entries_.back()->cached;
}

}  // namespace cgx
