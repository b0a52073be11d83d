// Log lines, to standard error or to the sink that the application gave. The sink is the one mutable
// global of the library: a log line must find its way from code that holds no handle. A mutex guards it.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <functional>
#include <string>
#include <utility>

namespace cgx {

// The values are those of cgx_log_level in cgx.h.
enum class LogLevel : int32_t { kError = 0, kWarn = 1, kInfo = 2, kTrace = 3 };

using LogSink = std::function<void(LogLevel, const char* message)>;

// Sends lines up to `level` to `sink` (empty: standard error). Once it returns, the earlier sink is not
// called again. A sink is called by one thread at a time and must not log.
void set_log(LogSink sink, LogLevel level);
bool log_enabled(LogLevel level);
void log_line(LogLevel level, const std::string& message);

// log(LogLevel::kWarn, "{} is unknown", name): formatted only where it will be read.
template <typename... Args>
void log(LogLevel level, fmt::format_string<Args...> format, Args&&... args) {
  if (log_enabled(level)) log_line(level, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace cgx
