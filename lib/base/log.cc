// See log.h. The state is made at the first use and never destroyed: threads may log while the process ends.
#include "base/log.h"

#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <mutex>

#include "base/config.h"

namespace cgx {
namespace {

struct LogState {
  std::atomic<LogLevel> level{config::log_level()};
  std::mutex mutex;  // guards sink, and keeps lines whole
  LogSink sink;
};

LogState& state() {
  static LogState* const s = new LogState;
  return *s;
}

const char* level_name(LogLevel level) {
  constexpr const char* kNames[] = {"error", "warning", "info", "trace"};
  return kNames[static_cast<int32_t>(level)];
}

}  // namespace

void set_log(LogSink sink, LogLevel level) {
  LogState& s = state();
  const std::lock_guard lock(s.mutex);
  s.sink = std::move(sink);
  s.level.store(level, std::memory_order_relaxed);
}

bool log_enabled(LogLevel level) { return level <= state().level.load(std::memory_order_relaxed); }

void log_line(LogLevel level, const std::string& message) {
  LogState& s = state();
  const std::lock_guard lock(s.mutex);
  if (s.sink) {
    s.sink(level, message.c_str());
  } else {
    std::fprintf(stderr, "cgx[%ld] %s: %s\n", static_cast<long>(getpid()), level_name(level),
                 message.c_str());
  }
}

}  // namespace cgx
