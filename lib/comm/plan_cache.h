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

// A plan with what else each call of its layout needs.
struct CachedPlan {
  Layout layout;
  uint64_t fingerprint = 0;  // of the layout
  std::string description;   // likewise
  Plan plan;
};

class PlanCache {
 public:
  // Plans kept; the one used longest ago goes first.
  static constexpr size_t kCapacity = 64;

  // `algorithm` as select_algorithm() takes it.
  PlanCache(std::string algorithm, int rank, int size, uint64_t slice_bytes)
      : algorithm_(std::move(algorithm)), rank_(rank), size_(size), slice_bytes_(slice_bytes) {}

  // Lives until the next call.
  Result<const CachedPlan*> find(const Layout& layout);
  size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    CachedPlan cached;
    uint64_t last_use;
  };

  std::string algorithm_;
  int rank_;
  int size_;
  uint64_t slice_bytes_;
  std::vector<std::unique_ptr<Entry>> entries_;
  uint64_t uses_ = 0;
};

}  // namespace cgx
