// The plans of a communicator's recent calls: making one is pure but not free, and training repeats the
// same few layouts. Here what the caller left open ("auto") meets the policy.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"
#include "base/two_ways.h"
#include "comm/accounting.h"
#include "comm/ledger.h"
#include "plan/plan.h"
#include "plan/run.h"
#include "plan/select.h"

namespace cgx {

// A plan with what else each call of its layout needs.
struct CachedPlan {
  Layout asked;
  Layout layout;             // with a codec wherever `asked` left the choice
  uint64_t fingerprint = 0;  // of all that ranks must agree on: both layouts, algorithm and slices
  std::string description;   // of the same, for people
  Accounting accounting;
  Plan plan;
  std::shared_ptr<PlanTally> tally;
  // RunArgs::shared_writes of this plan's calls: all ranks try a way at the same call, as all make the same
  // calls.
  std::unique_ptr<TwoWays> shared_writes;
};

class PlanCache {
 public:
  // Plans kept; the one used longest ago goes first.
  static constexpr size_t kCapacity = 256;

  struct Config {
    const Algorithm* algorithm = nullptr;  // null: by cost
    uint64_t slice_bytes = 0;  // 0: by cost where `profile` was measured, else by transport and size
    int rank = 0;
    int size = 1;
    bool same_host = false;
    std::vector<int> hosts = {};  // of each rank; empty: one
    CodecSpec inner_codec = {};
    bool crowded = false;  // more ranks than cores somewhere
    Transport::Links links = {};
  };
  explicit PlanCache(Config config);

  // A measured profile (none: as if nothing had been measured), and whether it also decides for layouts that
  // leave no codec open. Drops all plans.
  void set_profile(std::optional<Profile> profile, bool for_all);
  const Profile* profile() const { return profile_ ? &*profile_ : nullptr; }
  bool decides_for_all() const { return for_all_; }

  // Lives until the next call. REQUIRES: a profile, where the layout leaves a codec open.
  const CachedPlan* find(const Layout& layout);
  size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    CachedPlan cached;
    uint64_t key;  // fingerprint of what was asked
    uint64_t last_use;
  };

  uint64_t longest_slice(const Layout& layout) const;
  uint32_t depth(const Selection& selection) const;
  Selection choose(const Layout& layout) const;

  const Config config_;
  Profile default_profile_;
  std::optional<Profile> profile_;
  bool for_all_ = false;
  std::vector<std::unique_ptr<Entry>> entries_;
  uint64_t uses_ = 0;
};

}  // namespace cgx
