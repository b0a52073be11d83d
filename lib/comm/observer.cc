// See observer.h.
#include "comm/observer.h"

#include <chrono>

#include "base/config.h"
#include "base/log.h"
#include "comm/metrics_file.h"
#include "comm/reports.h"

namespace cgx {

Result<Observer::Settings> Observer::from_environment(Settings settings) {
  CGX_ASSIGN_OR_RETURN(settings.summary, config::summary());
  CGX_ASSIGN_OR_RETURN(settings.every, config::stats_every());
  CGX_RETURN_IF_ERROR(config::trace_events().status());
  CGX_RETURN_IF_ERROR(config::metrics_seconds().status());
  return settings;
}

Observer::Observer(Settings settings)
    : settings_(std::move(settings)),
      trace_(Trace::of_process(settings_.rank)),
      begun_ns_(trace_now_ns()),
      every_(settings_.every) {
  watch(this);
}

Observer::~Observer() {
  unwatch(this);  // and its figures go into the metrics
  tell_summary();
  if (trace_ != nullptr) trace_->write();
}

void Observer::tell_summary() const {
  if (!settings_.summary && !log_enabled(LogLevel::kInfo, Subsystem::kColl)) return;
  for (const std::string& line : summary_lines(snapshot())) {
    log_line(LogLevel::kInfo, Subsystem::kColl, line);
  }
}

void Observer::observe(uint32_t every) { every_.store(every, std::memory_order_relaxed); }

// Only this thread counts calls, so the tally can be read without the lock.
RunNotes* Observer::notes(const CachedPlan& plan) {
  const uint32_t every = every_.load(std::memory_order_relaxed);
  noting_ = every > 0;
  if (!noting_) return nullptr;
  notes_.errors = plan.tally->calls % every == 0;
  notes_.segments.assign(plan.layout.segments().size(), {});
  return &notes_;
}

void Observer::ended(const Ended& c) {
  if (trace_ != nullptr) trace_collective(c);
  const double seconds = 1e-9 * static_cast<double>(c.run->end_ns - c.run->begin_ns);
  {
    const std::lock_guard lock(mutex_);
    CommunicatorStats one;
    one.run = *c.run;
    if (c.run->end_ns != 0) last_end_ns_ = c.run->end_ns;
    if (c.status->ok()) {
      one.collectives = 1;
      one.accounting = c.plan->accounting;
      one.accounting.raw -= c.not_sum;
      one.accounting.not_sum = c.not_sum;
      times_.count(seconds);
      ledger_.count(c.plan->tally, noting_ ? &notes_ : nullptr);
    } else {
      one.failed = 1;
      last_failure_ = c.status->message();
    }
    noting_ = false;
    stats_.add(one);
  }
  log(LogLevel::kTrace, Subsystem::kColl, "allreduce #{} of job \"{}\": {} in {:.1f} us, {} bytes sent: {}",
      c.operation, settings_.job, c.status->ok() ? "ended well" : "failed", seconds * 1e6, c.run->wire_bytes,
      c.plan != nullptr ? c.plan->description : "not begun");
  write_metrics(/*now=*/!c.status->ok());
  if (trace_ == nullptr) return;
  if (c.status->ok()) {
    trace_->write_if_due();
  } else {
    trace_->write();
  }
}

void Observer::trace_collective(const Ended& c) const {
  TraceSpan span;
  span.name = "allreduce";
  span.is_collective = true;
  span.begin_ns = c.begin_ns;
  span.end_ns = trace_now_ns();
  span.operation = c.operation;
  span.rank = settings_.rank;
  span.bytes = c.run->wire_bytes;
  if (c.plan != nullptr) {
    span.end = c.plan->layout.count();
    span.words = trace_->keep(settings_.job + ": " + c.plan->description);
  }
  if (!c.status->ok()) span.problem = trace_->keep(c.status->message());
  trace_->add(span);
}

CommunicatorStats Observer::stats() const {
  const std::lock_guard lock(mutex_);
  return stats_;
}

std::map<uint32_t, TensorRow> Observer::tensors() const {
  const std::lock_guard lock(mutex_);
  return ledger_.tensors();
}

Snapshot Observer::snapshot() const {
  const int64_t now_ns = trace_now_ns();
  const double wall =
      std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  Snapshot s;
  s.rank = settings_.rank;
  s.size = settings_.size;
  s.job = settings_.job;
  s.transport = settings_.transport;
  s.age_seconds = 1e-9 * static_cast<double>(now_ns - begun_ns_);
  const std::lock_guard lock(mutex_);
  if (last_end_ns_ > 0) s.last_wall_seconds = wall - 1e-9 * static_cast<double>(now_ns - last_end_ns_);
  s.stats = stats_;
  s.times = times_;
  s.codecs = ledger_.codecs();
  s.last_failure = last_failure_;
  return s;
}

}  // namespace cgx
