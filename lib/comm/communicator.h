// The communicator: what outlives one collective. It finds the plan, says hello, runs, and commits or
// rolls back residuals; after an error it is failed and says so to every later call.
//
// Collectives run one at a time in call order: on the caller's thread while nothing is queued, else on
// the communicator's own. One thread at a time may call it, but abort() and stats() may come from any.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "codec/layout.h"
#include "comm/error_feedback.h"
#include "comm/hello.h"
#include "comm/measure.h"
#include "comm/observer.h"
#include "comm/plan_cache.h"
#include "comm/request.h"
#include "comm/shrink.h"
#include "comm/state.h"
#include "comm/work.h"
#include "comm/worker.h"
#include "plan/parallel.h"
#include "plan/run.h"
#include "transport/store.h"
#include "transport/transport.h"

namespace cgx {

struct CommunicatorConfig {
  static constexpr int kMaxSize = 16;
  static constexpr uint32_t kMaxThreads = 256;

  int rank = 0;
  int size = 1;
  Store* store = nullptr;
  std::string job = "cgx";
  std::string transport = "auto";
  std::string algorithm = "auto";
  std::string interface_name;
  int64_t timeout_ms = 300000;
  uint64_t seed = 0;
  uint64_t slice_bytes = 0;             // 0: the library's choice
  uint32_t threads = 1;                 // of this rank's codecs, the caller's included
  bool tune = false;                    // measure at creation
  std::string policy;                   // a policy as JSON, instead of measuring
  std::string secret;                   // "": none
  std::shared_ptr<Store> signed_store;  // what `store` became where there is a secret: set by create()
  std::string inner_codec;              // of messages inside a host (plan/levels.h); "": none
  std::string host_id;                  // of this rank's host; "": CGX_HOST_ID, or found out
};

// kInvalidArgument where a field is out of its range; does not look at the store.
Status check_config(const CommunicatorConfig& config);

struct AllreduceCall {
  const void* input = nullptr;
  void* output = nullptr;
  Layout layout;
  bool average = false;
  int64_t timeout_ms = 0;            // 0: the communicator's
  ReduceOp op = ReduceOp::kSum;      // others take no codec: see make_request()
  Spared spared = Spared::kNothing;  // what a request did not get, and the sentence that says so
  uint64_t spared_elements = 0;
  std::string spared_words;
};

class Communicator;

// A communicator of survivors, and the stores that it needs besides those of the failed one.
struct Shrunk {
  std::vector<std::unique_ptr<Store>> stores;  // outlive it
  Store* store = nullptr;                      // where they met: one of these or the failed one's
  std::unique_ptr<Communicator> communicator;
};

class Communicator {
 public:
  // Meets the others. Collective. (communicator_open.cc)
  static Result<std::unique_ptr<Communicator>> create(CommunicatorConfig config);
  // Waits for what is queued, at most the timeout, then aborts it.
  ~Communicator();

  Status allreduce(AllreduceCall call);
  // An error here means that nothing was queued and `done` is not called.
  Result<std::shared_ptr<Work>> allreduce_async(AllreduceCall call, Work::Done done);
  // Any thread. Ends a running shrink() too, with kAborted.
  void abort(const std::string& reason);
  // Goes on with the survivors: ranks in the old order, residuals as of the last success. Collective over
  // those that live; fails the communicator where it has not failed. Once, unless it ends with an error.
  // (communicator_shrink.cc)
  Result<Shrunk> shrink(int64_t timeout_ms);

  // Measures codecs and links, agrees on the result, and lets it decide from now on. Collective;
  // kInvalidArgument while work is outstanding.
  Status tune();
  // The policy as JSON; "" as long as nothing was measured. Not while work is outstanding.
  Result<std::string> policy() const;

  // kInvalidArgument in a fork of the process that made this communicator, which must not even destroy it:
  // that would speak on connections that its parent uses.
  Status require_own_process() const;
  int rank() const { return config_.rank; }
  int size() const { return config_.size; }
  const char* transport_name() const { return transport_->name(); }
  CommunicatorStats stats() const { return observer_->stats(); }
  // From now on, see Observer::observe(). Any thread.
  void observe(uint32_t every) { observer_->observe(every); }
  // What became of each tensor, as JSON: see table_text.h. Not while work is outstanding.
  Result<std::string> table() const;
  // kInvalidArgument while work is outstanding.
  Status reset_residuals();
  Result<double> residual_norm(uint32_t tensor_id) const;
  // What a restart needs: see state.h. Not while work is outstanding.
  Result<uint64_t> state_bytes() const;
  Status save_state(std::span<uint8_t> out) const;
  // After an error everything is as before.
  Status load_state(std::span<const uint8_t> bytes);

 private:
  Communicator(CommunicatorConfig config, PlanCache::Config plans, std::unique_ptr<Transport> transport,
               Lineage lineage);
  // Connected, but without a policy: begin() is still to come.
  static Result<std::unique_ptr<Communicator>> open(CommunicatorConfig config, Lineage lineage,
                                                    int64_t meet_ms, const StopFlag& stop);
  Status begin();
  // The parts of shrink().
  class Shrinking;
  Result<Shrunk> agree_and_go_on(int64_t timeout_ms);
  Lineage next_generation(const Survivors& survivors);
  Result<Shrunk> go_on(Lineage next, Store* found, uint64_t operation, int64_t timeout_ms);
  struct FailedAttempt {
    std::unique_ptr<Store> store;
    std::unique_ptr<Communicator> communicator;
  };
  void keep_failed(FailedAttempt attempt);
  // Every rank is here and has made this communicator.
  Status greet(const std::string& words, int64_t timeout_ms);

  // What can be refused before anything is sent.
  Status check(const AllreduceCall& call) const;
  // Tells once of a codec that was asked for and cannot serve.
  void tell_spared(const AllreduceCall& call);
  Status execute(const AllreduceCall& call);
  // Sets `plan` once there is one.
  Status find_and_execute(const AllreduceCall& call, RunStats* run_stats, const CachedPlan** plan);
  Status execute_plan(const AllreduceCall& call, const CachedPlan& plan, RunStats* run_stats);
  // What `why` is for goes into the hello, so that a rank that measures meets only ranks that do.
  Status measure_profile(uint64_t why, const std::string& words, int64_t timeout_ms, bool for_all);
  Hello make_hello(const AllreduceCall& call, const CachedPlan& plan) const;
  // Ends a collective that began: from now on the communicator is failed.
  Status fail(Status status);
  // kFailed with the first error's words, if there was one.
  Status failure() const;
  Status require_idle(const char* what) const;
  Result<StateView> view_state() const;

  const CommunicatorConfig config_;
  const std::unique_ptr<Transport> transport_;

  // Of the thread that runs collectives.
  PlanCache plans_;
  ErrorFeedback feedback_;
  Workspace workspace_;
  std::unique_ptr<Parallel> parallel_;  // null: one thread
  uint64_t operation_ = 0;              // collectives begun
  uint64_t seed_;                       // the configuration's, or a loaded state's
  SurvivorStore survivor_store_;
  Lineage lineage_;
  bool was_shrunk_ = false;
  bool told_not_float_ = false, told_not_sum_ = false;
  const int pid_;  // of the process that made it

  std::unique_ptr<Observer> observer_;  // set by create()

  mutable std::mutex mutex_;  // of the five below
  Status failure_;
  bool aborted_ = false;
  bool shrinking_ = false;
  std::string why_stopped_;            // of the shrink
  Communicator* successor_ = nullptr;  // that a shrink has made and not given out yet
  const std::shared_ptr<std::atomic<bool>> stop_shrink_ = std::make_shared<std::atomic<bool>>(false);

  std::atomic<int> unfinished_{0};  // queued or running operations; a running callback is not one
  std::unique_ptr<Worker> worker_;
};

}  // namespace cgx
