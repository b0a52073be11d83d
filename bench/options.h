// The command line of cgx-bench as a value. Flags are those of nccl-tests where it has them; errors are
// UsageError, which main() turns into exit status 2.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "cgx/cgx.h"

namespace cgx::bench {

struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A failure of what is measured: exit status 1.
struct BenchError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

enum class Mode { kAllreduce, kCodec, kLayers };

struct Options {
  Mode mode = Mode::kAllreduce;
  bool help = false;
  std::string help_text;

  uint64_t min_bytes = 0;
  uint64_t max_bytes = 0;
  uint64_t step_factor = 2;
  int iterations = 5;  // timed calls a round
  int warmup = 1;      // calls before the first round
  int rounds = 7;
  int checks = 1;  // operations whose result is compared with the exact one
  cgx_op op = CGX_SUM;
  cgx_dtype dtype = CGX_FLOAT32;
  std::vector<std::string> codecs;
  uint64_t seed = 1;
  std::string data = "random";  // or a .npy file
  std::string cpu_path;         // "": the best one
  bool warm_cache = false;      // codec: one buffer instead of rotating ones
  bool floors = false;          // codec: the whole table, with what each line must reach
  std::string json_path;

  std::string model = "resnet50";  // layers

  int ranks = 2;
  std::vector<std::string> baselines;  // "gloo", "openmpi", "memcpy" or a codec spec
  std::vector<std::string> skipped;    // of these, what this machine cannot do
  std::string transport = "auto";
  std::string algorithm = "auto";
  std::string interface_name = "lo";
  std::string launch_prefix;  // words before a rank's command; {rank} is its number
  int64_t timeout_ms = 60000;
  std::string link_rate = "not limited";  // what `scripts/netns run` says
  std::string addresses;                  // likewise: of the ranks' namespaces, with commas between

  // Set in the processes that are ranks, by the one that starts them.
  int rank = -1;
  int report_fd = -1;       // -1: the FIFO in the meeting directory
  std::string shared_path;  // of the memory with the barrier
  std::string meeting_directory;

  std::vector<std::string> words;  // the command line as given, for starting ranks
};

// argv[1] is the mode. Throws UsageError.
Options parse_options(int argc, char** argv);
std::string general_help();

uint64_t parse_bytes(const std::string& text);  // "64M"; K, M, G are powers of 1024
const char* dtype_name(cgx_dtype dtype);        // nccl-tests' names: "float", "half", ...
const char* op_name(cgx_op op);
uint64_t dtype_bytes(cgx_dtype dtype);
const char* mode_name(Mode mode);
// The sizes to measure, in bytes, each a multiple of the element's.
std::vector<uint64_t> sizes(const Options& options);

}  // namespace cgx::bench
