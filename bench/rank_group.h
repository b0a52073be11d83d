// The processes that are ranks: started as copies of this program, by itself or by mpirun, ended together.
// What they share is a page with a barrier; what they say comes back as lines over one pipe each.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "options.h"

namespace cgx::bench {

// Keeps ranks in step, at a price of under a microsecond where every rank has a core.
class RankBarrier {
 public:
  RankBarrier(const std::string& shared_path, int ranks);
  // For the instant before a timed call: spins first.
  void wait_spinning();
  // For when a rank may take long: sleeps, and leaves the cores to those who work.
  void wait_patiently();

 private:
  struct Shared {
    std::atomic<uint32_t> arrived;
    std::atomic<uint32_t> generation;
  };
  static_assert(std::atomic<uint32_t>::is_always_lock_free);
  // True for the last to arrive, who has released the others.
  bool arrive(uint32_t& generation);

  Shared* shared_ = nullptr;
  uint32_t ranks_;
  bool oversubscribed_;
};

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
    pid_t process = -1;  // -1 under mpirun, too
    int fd = -1;
    std::string unread;
  };
  std::vector<std::string> rank_words(const Options& options) const;
  void start(const Options& options, int rank);
  void start_mpirun(const Options& options);
  void read_some(Rank& rank, int number);
  [[noreturn]] void report_death(Rank& rank, int number);
  void end_mpirun();

  int shared_fd_ = -1;
  std::string directory_;
  std::vector<Rank> ranks_;
  Rank mpirun_;  // fd: readable once it has ended
};

// Of a command: {rank} is its number.
std::vector<std::string> prefix_words(const std::string& prefix, int rank);

// Where a rank's lines go.
int report_descriptor(const Options& options);

// Lets Ctrl-C and SIGTERM end a run in order: RankGroup then throws.
void catch_interrupts();

}  // namespace cgx::bench
