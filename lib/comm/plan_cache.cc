// See plan_cache.h.
#include "comm/plan_cache.h"

#include <algorithm>

#include "base/hash.h"
#include "base/log.h"

namespace cgx {
namespace {

// Of what a rank sums, at least, where slices are longer than the default: what of the first and the last one
// overlaps with nothing is then a sixteenth.
constexpr uint64_t kSlicesOfAShare = 16;

uint64_t fingerprint_of(uint64_t asked, const Selection& selection, uint32_t depth,
                        const std::vector<int>& hosts) {
  uint64_t hash = mix(asked, selection.layout.fingerprint());
  for (const char* c = selection.algorithm->name; *c != '\0'; ++c)
    hash = mix(hash, static_cast<uint64_t>(*c));
  for (const int host : hosts) hash = mix(hash, static_cast<uint64_t>(host));
  return mix(mix(hash, selection.slice_bytes), depth);
}

}  // namespace

PlanCache::PlanCache(Config config)
    : config_(std::move(config)),
      default_profile_(default_profile(config_.size, config_.same_host, config_.hosts)) {
  default_profile_.links = config_.links;
}

void PlanCache::set_profile(std::optional<Profile> profile, bool for_all) {
  profile_ = std::move(profile);
  if (profile_) profile_->links = config_.links;
  for_all_ = for_all;
  entries_.clear();
}

// Without measurements nothing but the algorithm is chosen, from round figures: the same call gives the same
// bits on every run. (Slices do not change bits.)
Selection PlanCache::choose(const Layout& layout) const {
  const bool open = layout.any_auto();
  Wish wish{config_.algorithm, config_.slice_bytes, config_.inner_codec, longest_slice(layout)};
  const bool by_defaults = !open && !(profile_ && for_all_);
  if (by_defaults && wish.slice_bytes == 0) wish.slice_bytes = kDefaultSliceBytes;
  CGX_CHECK(by_defaults || profile_.has_value());
  const Profile& profile = by_defaults ? default_profile_ : *profile_;
  Selection selection = select(wish, layout, profile);
  if (by_defaults && config_.slice_bytes == 0) {
    selection.slice_bytes = long_slice_bytes(selection.layout, wish.longest_usual);
  }
  // Once a layout, as its plan is kept.
  if (log_enabled(LogLevel::kInfo, Subsystem::kTuning)) {
    log_line(LogLevel::kInfo, Subsystem::kTuning,
             fmt::format("policy: {} -> {} in slices of {} bytes, {} under way, by {}", layout.describe(),
                         selection.layout.describe(), selection.slice_bytes, depth(selection),
                         explain(selection, wish, profile)));
  }
  return selection;
}

// A message costs its receiver a wakeup, and in sockets both sides system calls and packets: the fewer the
// better, as long as a link has enough of them to overlap. In shared memory slices stay in caches, and longer
// ones pay only where ranks sleep for each other.
uint64_t PlanCache::longest_slice(const Layout& layout) const {
  if (config_.same_host) return config_.crowded ? UINT64_MAX : kDefaultSliceBytes;
  const uint64_t bytes = layout.count() * dtype_bytes(layout.dtype());
  return bytes / static_cast<uint64_t>(config_.size) / kSlicesOfAShare;
}

uint32_t PlanCache::depth(const Selection& selection) const {
  const Turn turn = selection.algorithm->turn(config_.size, default_profile_.hosts);
  return depth_of(turn, load_of(selection.layout, default_profile_, selection.slice_bytes), default_profile_);
}

const CachedPlan* PlanCache::find(const Layout& layout) {
  ++uses_;
  const uint64_t key = layout.fingerprint();
  for (const auto& entry : entries_) {
    if (entry->key == key && entry->cached.asked == layout) {
      entry->last_use = uses_;
      return &entry->cached;
    }
  }
  Selection selection = choose(layout);
  if (entries_.size() == kCapacity) {
    entries_.erase(std::min_element(entries_.begin(), entries_.end(),
                                    [](const auto& a, const auto& b) { return a->last_use < b->last_use; }));
  }
  auto entry = std::make_unique<Entry>();
  entry->key = key;
  entry->last_use = uses_;
  CachedPlan& cached = entry->cached;
  cached.asked = layout;
  const uint32_t deep = depth(selection);
  cached.fingerprint = fingerprint_of(key, selection, deep, config_.hosts);
  cached.description = fmt::format("{}, {}", selection.layout.describe(), selection.algorithm->name);
  cached.accounting = account(selection.layout);
  cached.plan = selection.algorithm->plan({config_.rank, config_.size, selection.layout,
                                           selection.slice_bytes, config_.hosts, config_.inner_codec, deep});
  cached.tally = make_tally(cached.plan, selection.layout);
  cached.shared_writes = std::make_unique<TwoWays>(shared_writes_of(selection.layout));
  cached.layout = std::move(selection.layout);
  entries_.push_back(std::move(entry));
  return &cached;
}

}  // namespace cgx
