#include "comm/plan_cache.h"

#include <algorithm>

#include "plan/select.h"

namespace cgx {

Result<const Plan*> PlanCache::find(const PlanKey& key, uint64_t layout_fingerprint) {
  ++uses_;
  for (const auto& entry : entries_) {
    if (entry->fingerprint == layout_fingerprint && entry->key == key) {
      entry->last_use = uses_;
      return &entry->plan;
    }
  }
  CGX_ASSIGN_OR_RETURN(const Algorithm* row, select_algorithm(algorithm_, key.layout, key.size));
  if (entries_.size() == kCapacity) {
    entries_.erase(std::min_element(entries_.begin(), entries_.end(),
                                    [](const auto& a, const auto& b) { return a->last_use < b->last_use; }));
  }
  entries_.push_back(std::make_unique<Entry>(Entry{layout_fingerprint, key, row->plan(key), uses_}));
  return &entries_.back()->plan;
}

}  // namespace cgx
