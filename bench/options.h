// The command line of cgx-bench as a value. Flags are those of nccl-tests where it has them; errors are
// UsageError, which main() turns into exit status 2.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "cgx/cgx.h"
#include "types.h"

namespace cgx::bench {

struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A failure of what is measured: exit status 1.
struct BenchError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

enum class Mode { kAllreduce, kCodec, kLayers };
enum class Format { kTable, kOsu, kCsv, kJson };

struct Options {
  Mode mode = Mode::kAllreduce;
  bool help = false;
  std::string help_text;

  uint64_t min_bytes = 0;
  uint64_t max_bytes = 0;
  uint64_t step_factor = 2;
  uint64_t step_bytes = 0;  // 0: by the factor
  int iterations = 5;       // timed calls a round
  int warmup = 1;           // calls before the first round
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
  Format format = Format::kTable;

  std::string model = "resnet50";  // layers

  int ranks = 0;  // 0, before all is read: not said
  bool ranks_given = false;
  std::vector<std::string> baselines;  // "gloo", "openmpi", "memcpy" or a codec spec
  std::vector<std::string> skipped;    // of these, what this machine cannot do
  std::string python;                  // for baselines of PyTorch
  std::string transport = "auto";
  std::string algorithm = "auto";
  std::string interface_name;     // "": as variables say, where ranks are on several hosts
  std::string launch_prefix;      // words before a rank's command; {rank} is its number
  std::string meeting_directory;  // in a rank that was started here: made for this run
  int64_t timeout_ms = 60000;
  std::string link_rate = "not limited";  // what `scripts/netns run` says
  std::string addresses;                  // likewise: of the ranks' namespaces, with commas between

  // Set in the processes that are ranks, by the one that starts them.
  int rank = -1;
  std::string launcher;  // "": started here. Else who has started the ranks: this process is one of them
  int guest_of = -1;     // the number of the entry that this process, one of mpirun's, serves
  int report_fd = -1;
  std::string shared_path;  // of the memory with the barrier

  std::vector<std::string> words;  // the command line as given, for starting ranks
};

// argv[1] is the mode. Throws UsageError.
Options parse_options(int argc, char** argv);
std::string general_help();

const char* mode_name(Mode mode);
// The sizes to measure, in bytes, each a multiple of the element's.
std::vector<uint64_t> sizes(const Options& options);

}  // namespace cgx::bench
