// Log lines, to standard error, to the file of CGX_DEBUG_FILE, or to the sink that the application gave. The
// sink is one of the library's few mutable globals: a log line must find its way from code that holds no
// handle. A mutex guards it.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <functional>
#include <string>
#include <utility>

namespace cgx {

// The values are those of cgx_log_level in cgx.h.
enum class LogLevel : int32_t { kError = 0, kWarn = 1, kInfo = 2, kTrace = 3 };

// Who speaks. CGX_DEBUG_SUBSYS chooses whose kInfo and kTrace lines are wanted; the rest is always told.
enum class Subsystem : uint8_t { kInit, kColl, kNet, kCodec, kTuning, kEnv };
inline constexpr int kSubsystems = 6;
const char* subsystem_name(Subsystem subsystem);  // "INIT"

using LogSink = std::function<void(LogLevel, const char* message)>;

// Sends lines up to `level` to `sink` (empty: where the environment says). Once it returns, the earlier sink
// is not called again. A sink is called by one thread at a time and must not log.
void set_log(LogSink sink, LogLevel level);
bool log_has_sink();
bool log_enabled(LogLevel level, Subsystem subsystem = Subsystem::kColl);
void log_line(LogLevel level, Subsystem subsystem, const std::string& message);
// The rank that stands in the calling thread's lines from now on.
void set_log_rank(int rank);
// The line that CGX_DEBUG=VERSION, INFO or TRACE asks for, at the first call of the process.
void log_version(const std::string& words);

// log(LogLevel::kWarn, Subsystem::kNet, "{} is unknown", name): formatted only where it will be read.
template <typename... Args>
void log(LogLevel level, Subsystem subsystem, fmt::format_string<Args...> format, Args&&... args) {
  if (log_enabled(level, subsystem)) {
    log_line(level, subsystem, fmt::format(format, std::forward<Args>(args)...));
  }
}
// Of the communicator, where no better name fits.
template <typename... Args>
void log(LogLevel level, fmt::format_string<Args...> format, Args&&... args) {
  log(level, Subsystem::kColl, format, std::forward<Args>(args)...);
}

}  // namespace cgx
