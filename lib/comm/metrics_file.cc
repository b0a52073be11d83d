// See metrics_file.h. The state is made at the first communicator and never destroyed.
#include "comm/metrics_file.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "base/config.h"
#include "base/log.h"
#include "base/trace.h"
#include "comm/observer.h"
#include "comm/reports.h"

namespace cgx {
namespace {

struct Watched {
  std::mutex mutex;
  std::vector<const Observer*> live;
  std::vector<Snapshot> ended;  // one a job and rank
  std::string path;
  int64_t every_ns = 0;
  bool warned = false;
  pid_t process = 0;  // that the communicators are of: not a child that was forked later

  std::atomic<bool> has_file{false};  // read without the mutex
  std::atomic<int64_t> due_ns{0};
};

Watched& watched() {
  static Watched* const state = new Watched;
  return *state;
}

void add_to(std::vector<Snapshot>* all, const Snapshot& one) {
  const auto same = [&](const Snapshot& s) { return s.job == one.job && s.rank == one.rank; };
  const auto found = std::find_if(all->begin(), all->end(), same);
  if (found == all->end()) {
    all->push_back(one);
  } else {
    found->add(one);
  }
}

// REQUIRES: w.mutex is held.
void write(Watched& w) {
  std::vector<Snapshot> all = w.ended;
  for (const Observer* observer : w.live) add_to(&all, observer->snapshot());
  const std::string problem = replace_file(w.path, prometheus_text(all));
  if (problem.empty() || w.warned) return;
  w.warned = true;
  log(LogLevel::kWarn, Subsystem::kEnv, "CGX_METRICS: {}", problem);
}

// Communicators that nobody destroyed. An application's sink may be gone by now, and is left alone.
void at_exit() {
  Watched& w = watched();
  if (w.process != getpid()) return;
  const std::lock_guard lock(w.mutex);
  if (w.live.empty()) return;
  if (w.has_file) write(w);
  if (log_has_sink()) return;
  for (const Observer* observer : w.live) observer->tell_summary();
}

}  // namespace

void watch(const Observer* observer) {
  Watched& w = watched();
  const std::lock_guard lock(w.mutex);
  static const bool once = [] { return std::atexit(at_exit) == 0; }();
  static_cast<void>(once);
  w.live.push_back(observer);
  w.process = getpid();
  const std::string pattern = config::metrics_file();
  if (w.has_file || pattern.empty()) return;
  const Result<uint32_t> seconds = config::metrics_seconds();
  w.every_ns = int64_t{1'000'000'000} * (seconds.ok() ? *seconds : 10);
  w.path = config::expand_path(pattern, observer->snapshot().rank);
  w.has_file = true;
}

void unwatch(const Observer* observer) {
  constexpr size_t kKept = 64;  // jobs that ended
  Watched& w = watched();
  const std::lock_guard lock(w.mutex);
  std::erase(w.live, observer);
  if (!w.has_file) return;
  add_to(&w.ended, observer->snapshot());
  if (w.ended.size() > kKept) w.ended.erase(w.ended.begin());
  write(w);
}

void write_metrics(bool now) {
  Watched& w = watched();
  if (!w.has_file.load(std::memory_order_relaxed)) return;
  const int64_t clock = trace_now_ns();
  if (!now && clock < w.due_ns.load(std::memory_order_relaxed)) return;
  const std::lock_guard lock(w.mutex);
  w.due_ns = clock + w.every_ns;
  write(w);
}

}  // namespace cgx
