// What runs in each rank's process, whoever started it.
#pragma once

#include <memory>
#include <vector>

#include <nlohmann/json.hpp>

#include "accuracy.h"
#include "contender.h"
#include "data.h"
#include "guest.h"
#include "options.h"
#include "team.h"

namespace cgx::bench {

class RankRun {
 public:
  RankRun(const Options& options, Team& team);

  // What its contenders are.
  nlohmann::json ready() const;
  // One size: every contender's times, traffic and errors.
  nlohmann::json measure(uint64_t bytes);

 private:
  std::unique_ptr<Contender> make(const Entry& entry, int number);
  std::shared_ptr<GuestLink> torch_link(int number);
  void load(uint64_t bytes);
  void call(size_t which, size_t buffer, Buffer& out);
  double timed_call(size_t which);
  std::vector<double> one_round(size_t which);
  void check(size_t which, nlohmann::json& row);
  void verify(size_t which, int buffer, Accuracy& accuracy);
  void verify_tensor(const DeclaredBound& bound, const Reduction& reduction, int buffer, const Layer& layer,
                     uint64_t& turn, Accuracy& accuracy);
  void verify_span(const DeclaredBound& bound, const Reduction& reduction, int buffer, uint64_t first,
                   uint64_t count, Accuracy& accuracy);

  const Options& options_;
  Team& team_;
  Source source_;
  std::shared_ptr<GuestLink> torch_;  // all its baselines share one
  std::vector<std::unique_ptr<Contender>> contenders_;
  std::vector<Entry> entries_;   // of each contender
  std::vector<Bucket> buckets_;  // none: one tensor
  std::vector<Buffer> inputs_, outputs_;
  uint64_t count_ = 0;
  uint64_t turn_ = 0;
  uint64_t generation_ = 0;
};

// A rank that cgx-bench started. Returns the exit status of the process.
int run_rank(const Options& options);

}  // namespace cgx::bench
