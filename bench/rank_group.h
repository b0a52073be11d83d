// The processes that are ranks, started as copies of this program, and the mpiruns whose processes are their
// guests (guest.h); all end together. What ranks share is a page with barriers; what they say comes back as
// lines over pipes.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "options.h"

namespace cgx::bench {

class RankGroup {
 public:
  explicit RankGroup(const Options& options);
  ~RankGroup();  // ends what still runs, removes the meeting directory
  RankGroup(const RankGroup&) = delete;
  RankGroup& operator=(const RankGroup&) = delete;

  // The next line of every rank, in rank order. Throws BenchError with what a rank said or how it died.
  std::vector<std::string> next_lines();
  // Waits until all have ended well.
  void finish();

 private:
  struct Rank {
    pid_t process = -1;
    int fd = -1;
    std::string unread;
  };
  std::vector<std::string> rank_words(const Options& options) const;
  void start(const Options& options, int rank);
  void start_mpirun(const Options& options, const std::string& method, int number);
  void read_some(Rank& rank, int number);
  [[noreturn]] void report_death(Rank& rank, int number);
  void end_mpiruns();

  int shared_fd_ = -1;
  std::string directory_;
  std::vector<Rank> ranks_;
  std::vector<Rank> mpiruns_;  // fd: readable once it has ended
};

// Of a command: {rank} is its number.
std::vector<std::string> prefix_words(const std::string& prefix, int rank);

// Lets Ctrl-C and SIGTERM end a run in order: RankGroup then throws.
void catch_interrupts();

}  // namespace cgx::bench
