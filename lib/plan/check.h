// Proves a plan right without bytes, threads or clock: runs the plans of all ranks together on symbols
// (whose elements a message sums, and which encoding it is) and says which rank, which step and why.
//
// A plan passes if every element of every rank is in every output exactly once, scaled once; all ranks
// decode the same encoding; no rank rounds an element twice with the same random bits or the same
// residual; messages of a pair arrive in the order, with the range, level and size, that the receiver
// expects; nothing is read before it is written or after it is released, x not after y was written in its
// place; everything sent is received and everything taken is released; and nobody waits for ever, even where
// a transport's memory blocks a rank that has too many unreleased messages.
//
// Each rank's steps run in order and wait only for things that stay true once they are, so one order of
// execution shows what all of them do.
#pragma once

#include <span>
#include <vector>

#include "base/status.h"
#include "plan/plan.h"

namespace cgx {

struct CheckOptions {
  // How many unreleased messages of its own a rank's memory holds, for each peer it has. A message is
  // held until its sender and all its receivers have released it.
  uint32_t window = 4;
  // Of each rank. Where given, only messages for ranks of the own host are held in bounded memory, of so many
  // bytes.
  std::vector<int> hosts = {};
  uint64_t inside_bytes = 0;
};

// plans[r] is the plan of rank r.
Status check_plans(const Layout& layout, std::span<const Plan> plans, const CheckOptions& options = {});
// Makes the plans of all ranks and checks them. `key.rank` is ignored.
Status check_algorithm(const Algorithm& algorithm, const PlanKey& key, const CheckOptions& options = {});

}  // namespace cgx
