// See trace.h.
#include "base/trace.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <nlohmann/json.hpp>

#include "base/config.h"
#include "base/log.h"

namespace cgx {
namespace {

constexpr int64_t kWriteEveryNs = 10'000'000'000;

int32_t this_thread() {
  thread_local const auto id = static_cast<int32_t>(syscall(SYS_gettid));
  return id;
}

// Made once, never destroyed: threads may add spans while the process ends.
struct OfProcess {
  std::mutex mutex;
  bool asked = false;
  Trace* trace = nullptr;
  pid_t process = 0;  // that the trace is of: not a child that was forked later
};
OfProcess& of_process_state() {
  static OfProcess* const state = new OfProcess;
  return *state;
}

// Between this clock and the wall clock: what aligns the traces of several hosts.
int64_t wall_minus_steady_ns() {
  const auto wall = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::nanoseconds>(wall).count() - trace_now_ns();
}

void append_span(const TraceSpan& s, int process, std::string* out) {
  const int64_t ns = std::max<int64_t>(s.end_ns - s.begin_ns, 0);
  auto to = std::back_inserter(*out);
  fmt::format_to(to,
                 ",\n{{\"ph\":\"X\",\"name\":\"{}\",\"cat\":\"{}\",\"pid\":{},\"tid\":{},\"ts\":{}.{:03},"
                 "\"dur\":{}.{:03},\"args\":{{\"rank\":{},\"operation\":{},\"begin\":{},\"end\":{}",
                 s.name, s.is_collective ? "collective" : "step", process, s.thread, s.begin_ns / 1000,
                 s.begin_ns % 1000, ns / 1000, ns % 1000, s.rank, s.operation, s.begin, s.end);
  if (s.bytes > 0) fmt::format_to(to, ",\"bytes\":{}", s.bytes);
  if (s.peer >= 0) fmt::format_to(to, ",\"peer\":{}", s.peer);
  if (*s.words != '\0') fmt::format_to(to, ",\"what\":{}", json_string(s.words));
  if (*s.problem != '\0') fmt::format_to(to, ",\"error\":{}", json_string(s.problem));
  *out += "}}";
}

bool write_all(int descriptor, const std::string& content) {
  for (size_t done = 0; done < content.size();) {
    const ssize_t n = ::write(descriptor, content.data() + done, content.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    done += static_cast<size_t>(n);
  }
  return true;
}

}  // namespace

int64_t trace_now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

std::string json_string(const std::string& text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string replace_file(const std::string& path, const std::string& content) {
  const std::string draft = fmt::format("{}.{}.tmp", path, getpid());
  const int descriptor = ::open(draft.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (descriptor < 0) return fmt::format("{} cannot be made: {}", draft, std::strerror(errno));
  const bool written = write_all(descriptor, content);
  const int fault = errno;
  const bool closed = ::close(descriptor) == 0;
  if (written && closed && ::rename(draft.c_str(), path.c_str()) == 0) return {};
  std::string problem = fmt::format("{} cannot be written: {}", path, std::strerror(written ? errno : fault));
  ::unlink(draft.c_str());
  return problem;
}

Trace* Trace::of_process(int rank) {
  OfProcess& state = of_process_state();
  const std::lock_guard lock(state.mutex);
  if (state.asked) return state.trace;
  state.asked = true;
  const std::string pattern = config::trace_file();
  if (pattern.empty()) return nullptr;
  const Result<uint32_t> spans = config::trace_events();
  state.trace = new Trace({config::expand_path(pattern, rank), spans.ok() ? *spans : Config().spans, rank});
  state.process = getpid();
  std::atexit([] {
    if (of_process_state().process == getpid()) Trace::existing()->write();
  });
  return state.trace;
}

Trace* Trace::existing() {
  OfProcess& state = of_process_state();
  const std::lock_guard lock(state.mutex);
  return state.trace;
}

Trace::Trace(const Config& config) : config_(config), written_ns_(trace_now_ns()) {
  ring_.reserve(config_.spans);
}

void Trace::add(TraceSpan span) {
  span.thread = this_thread();
  const std::lock_guard lock(mutex_);
  if (ring_.size() < config_.spans) {
    ring_.push_back(span);
  } else {
    ring_[added_ % config_.spans] = span;
  }
  ++added_;
}

const char* Trace::keep(const std::string& words) {
  const std::lock_guard lock(mutex_);
  if (const auto found = kept_.find(words); found != kept_.end()) return found->c_str();
  return kept_.size() < kKept ? kept_.insert(words).first->c_str() : "...";
}

uint64_t Trace::dropped() const {
  const std::lock_guard lock(mutex_);
  return added_ - ring_.size();
}

std::string Trace::text() const {
  const int process = config_.rank;
  const std::string name = fmt::format("rank {} ({}, pid {})", process, config::host_name(), getpid());
  std::string out = fmt::format(
      "{{\"displayTimeUnit\":\"ms\",\"otherData\":{{\"rank\":{},\"host\":{},\"pid\":{},"
      "\"wall_minus_trace_us\":{},\"spans\":{},\"dropped\":{}}},\"traceEvents\":[\n"
      "{{\"ph\":\"M\",\"name\":\"process_name\",\"pid\":{},\"args\":{{\"name\":{}}}}},\n"
      "{{\"ph\":\"M\",\"name\":\"process_sort_index\",\"pid\":{},\"args\":{{\"sort_index\":{}}}}}",
      process, json_string(config::host_name()), getpid(), wall_minus_steady_ns() / 1000, ring_.size(),
      added_ - ring_.size(), process, json_string(name), process, process);
  out.reserve(out.size() + 256 * ring_.size());
  const size_t oldest = ring_.size() < config_.spans ? 0 : added_ % config_.spans;
  for (size_t i = 0; i < ring_.size(); ++i) {
    append_span(ring_[(oldest + i) % ring_.size()], process, &out);
  }
  out += "\n]}\n";
  return out;
}

void Trace::write() {
  const std::lock_guard lock(mutex_);
  written_ns_ = trace_now_ns();
  const std::string problem = replace_file(config_.path, text());
  if (problem.empty() || warned_) return;
  warned_ = true;
  log(LogLevel::kWarn, Subsystem::kEnv, "CGX_TRACE: {}", problem);
}

void Trace::write_if_due() {
  {
    const std::lock_guard lock(mutex_);
    if (trace_now_ns() - written_ns_ < kWriteEveryNs) return;
  }
  write();
}

}  // namespace cgx
