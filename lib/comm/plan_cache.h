// The plans of a communicator's recent calls: making one is pure but not free, and training repeats the
// same few layouts.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "plan/plan.h"

namespace cgx {

class PlanCache {
 public:
  // Plans kept; the one used longest ago goes first.
  static constexpr size_t kCapacity = 64;

  // `algorithm` as select_algorithm() takes it.
  explicit PlanCache(std::string algorithm) : algorithm_(std::move(algorithm)) {}

  // The plan for this key; lives until the next call.
  Result<const Plan*> find(const PlanKey& key, uint64_t layout_fingerprint);
  size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    uint64_t fingerprint;
    PlanKey key;
    Plan plan;
    uint64_t last_use;
  };

  std::string algorithm_;
  std::vector<std::unique_ptr<Entry>> entries_;
  uint64_t uses_ = 0;
};

}  // namespace cgx
