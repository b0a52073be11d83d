// What can be seen of a communicator from outside: totals, the ledger by tensor, times, trace, metrics, the
// summary at its end. Off, all of it together costs a collective one lock.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <mutex>
#include <string>

#include "base/status.h"
#include "base/trace.h"
#include "comm/plan_cache.h"
#include "comm/stats.h"

namespace cgx {

class Observer {
 public:
  struct Settings {
    int rank = 0, size = 1;
    std::string job, transport;
    bool summary = false;  // told whatever the log's level is
    uint32_t every = 0;    // as observe()
  };
  // Adds what the environment says. kInvalidArgument where it says nonsense.
  static Result<Settings> from_environment(Settings settings);

  explicit Observer(Settings settings);
  Observer(const Observer&) = delete;
  Observer& operator=(const Observer&) = delete;
  // Tells the summary, and brings the files up to date.
  ~Observer();

  // From now on notes are taken of each tensor, and every `every`-th collective of a plan measures what its
  // encodings lost; 0: no more.
  void observe(uint32_t every);

  Trace* trace() const { return trace_; }
  // For a run of that plan; null: nobody asked. Of the thread that runs collectives.
  RunNotes* notes(const CachedPlan& plan);

  // What is known of a collective when it has ended.
  struct Ended {
    const CachedPlan* plan = nullptr;  // null: it did not come that far
    const RunStats* run = nullptr;
    const Status* status = nullptr;
    uint64_t operation = 0;
    int64_t begin_ns = 0;  // of all of it, where there is a trace; else what the run timed is as good
    uint64_t not_sum = 0;  // elements whose codec was left out, as sums alone are compressed
  };
  void ended(const Ended& collective);

  CommunicatorStats stats() const;
  std::map<uint32_t, TensorRow> tensors() const;
  Snapshot snapshot() const;
  void tell_summary() const;

 private:
  void trace_collective(const Ended& collective) const;

  const Settings settings_;
  Trace* const trace_;
  const int64_t begun_ns_;

  // Of the thread that runs collectives.
  RunNotes notes_;
  bool noting_ = false;  // the collective that runs

  std::atomic<uint32_t> every_;

  mutable std::mutex mutex_;  // of the rest
  Ledger ledger_;
  CommunicatorStats stats_;
  Histogram times_;
  int64_t last_end_ns_ = 0;
  std::string last_failure_;
};

}  // namespace cgx
