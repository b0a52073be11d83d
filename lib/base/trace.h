// A Chrome trace (Perfetto and chrome://tracing read it) of what this process did: the last so many spans, in
// a ring of fixed size. The file is written whole and renamed into place, so what lies there is valid at any
// time, also after a crash: when a communicator fails or ends, every ten seconds, and when the process ends.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <unordered_set>
#include <vector>

namespace cgx {

struct TraceSpan {
  const char* name = "";     // a literal
  const char* words = "";    // a literal, or from keep(); "": none
  const char* problem = "";  // likewise: what the collective failed with
  int64_t begin_ns = 0;      // of std::chrono::steady_clock, which a host's processes share
  int64_t end_ns = 0;
  uint64_t operation = 0;       // the communicator's count of collectives
  uint64_t begin = 0, end = 0;  // elements
  uint64_t bytes = 0;           // of the message, or on the wire; 0: none
  int32_t rank = 0;
  int32_t peer = -1;           // -1: none, or several
  int32_t thread = 0;          // filled in by add()
  bool is_collective = false;  // otherwise a step of one
};

class Trace {
 public:
  // Null unless CGX_TRACE is set. The file's name is made with the rank of the first call.
  static Trace* of_process(int rank);
  // What of_process() gave, if it was called.
  static Trace* existing();

  struct Config {
    std::string path;
    uint32_t spans = 65536;
    int rank = 0;
  };
  explicit Trace(const Config& config);

  void add(TraceSpan span);
  // A copy that lives as long as the trace. There are at most kKept: then "...".
  const char* keep(const std::string& words);
  // Writes the file. Where that fails, the log says so, once.
  void write();
  // Writes it if that was last done ten seconds ago.
  void write_if_due();

  uint64_t dropped() const;  // spans that newer ones have replaced

 private:
  static constexpr size_t kKept = 4096;

  std::string text() const;  // REQUIRES: mutex_ is held

  const Config config_;
  mutable std::mutex mutex_;
  std::vector<TraceSpan> ring_;
  uint64_t added_ = 0;
  std::unordered_set<std::string> kept_;
  int64_t written_ns_;
  bool warned_ = false;
};

// The clock of all spans.
int64_t trace_now_ns();

// `text` as a JSON string, quotes included; what is no UTF-8 is replaced.
std::string json_string(const std::string& text);

// Writes a file whole: beside it first, then renamed. An empty string, or what went wrong.
std::string replace_file(const std::string& path, const std::string& content);

}  // namespace cgx
