// See log.h. The state is made at the first use and never destroyed: threads may log while the process ends.
#include "base/log.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <mutex>

#include "base/config.h"

namespace cgx {
namespace {

struct LogState {
  const config::LogSettings settings = config::log_settings();
  const std::string host = config::host_name();
  std::atomic<LogLevel> level{settings.level};
  std::atomic<bool> told_version{false};
  std::mutex mutex;  // guards the two below, and keeps lines whole
  LogSink sink;
  std::FILE* file = nullptr;  // null until the first line
};

LogState& state() {
  static LogState* const s = new LogState;
  return *s;
}

constexpr int kUnknownRank = -1;

int& thread_rank() {
  thread_local int rank = kUnknownRank;
  return rank;
}

// As NCCL's lines, so that tools which read those find their way: host:pid:tid [rank] cgx LEVEL SUBSYS words.
std::string decorate(const LogState& s, LogLevel level, Subsystem subsystem, const std::string& message) {
  constexpr const char* kNames[] = {"ERROR", "WARN", "INFO", "TRACE"};
  const int rank = thread_rank();
  return fmt::format("{}:{}:{} [{}] cgx {} {} {}\n", s.host, getpid(), syscall(SYS_gettid),
                     rank == kUnknownRank ? "-" : std::to_string(rank), kNames[static_cast<int32_t>(level)],
                     subsystem_name(subsystem), message);
}

// REQUIRES: s.mutex is held. Where the file cannot be had, standard error is told so, and takes the lines.
std::FILE* destination(LogState& s) {
  if (s.file != nullptr) return s.file;
  s.file = stderr;
  if (s.settings.file.empty()) return s.file;
  const std::string path = config::expand_path(s.settings.file, thread_rank());
  // Appended to: ranks that share a file must not cut each other's lines off.
  std::FILE* opened = std::fopen(path.c_str(), "ae");
  if (opened == nullptr) {
    std::fprintf(stderr, "cgx: CGX_DEBUG_FILE: %s cannot be opened (%s); logging to standard error\n",
                 path.c_str(), std::strerror(errno));
    return s.file;
  }
  s.file = opened;
  return s.file;
}

}  // namespace

const char* subsystem_name(Subsystem subsystem) {
  constexpr const char* kNames[kSubsystems] = {"INIT", "COLL", "NET", "CODEC", "TUNING", "ENV"};
  return kNames[static_cast<size_t>(subsystem)];
}

void set_log(LogSink sink, LogLevel level) {
  LogState& s = state();
  const std::lock_guard lock(s.mutex);
  s.sink = std::move(sink);
  s.level.store(level, std::memory_order_relaxed);
}

bool log_has_sink() {
  LogState& s = state();
  const std::lock_guard lock(s.mutex);
  return static_cast<bool>(s.sink);
}

bool log_enabled(LogLevel level, Subsystem subsystem) {
  const LogState& s = state();
  if (level > s.level.load(std::memory_order_relaxed)) return false;
  return level <= LogLevel::kWarn || (s.settings.subsystems >> static_cast<uint32_t>(subsystem) & 1) != 0;
}

void log_line(LogLevel level, Subsystem subsystem, const std::string& message) {
  LogState& s = state();
  const std::lock_guard lock(s.mutex);
  if (s.sink) {
    s.sink(level, message.c_str());
    return;
  }
  const std::string line = decorate(s, level, subsystem, message);
  std::FILE* file = destination(s);
  std::fwrite(line.data(), 1, line.size(), file);
  std::fflush(file);
}

void set_log_rank(int rank) { thread_rank() = rank; }

void log_version(const std::string& words) {
  LogState& s = state();
  const bool wanted = s.settings.version || log_enabled(LogLevel::kInfo, Subsystem::kInit);
  if (wanted && !s.told_version.exchange(true)) log_line(LogLevel::kInfo, Subsystem::kInit, words);
}

}  // namespace cgx
