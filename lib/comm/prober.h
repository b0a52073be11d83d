// What one rank does to measure: probes of links and of codecs, and trials of whole collectives, step by
// step in the same order on all ranks. measure.h says to what end.
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <ctime>
#include <functional>
#include <span>
#include <vector>

#include "base/two_ways.h"
#include "comm/measure.h"
#include "plan/run.h"

namespace cgx {

using ProbeClock = std::chrono::steady_clock;

inline double ns_since(ProbeClock::time_point start) {
  return std::chrono::duration<double, std::nano>(ProbeClock::now() - start).count();
}

inline double cpu_ns(clockid_t whose) {
  timespec now = {};
  clock_gettime(whose, &now);
  return static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
}

inline double process_cpu_ns() { return cpu_ns(CLOCK_PROCESS_CPUTIME_ID); }
// Not the clock on the wall: where ranks share cores, one is often interrupted in the middle.
inline double thread_cpu_ns() { return cpu_ns(CLOCK_THREAD_CPUTIME_ID); }

inline uint64_t picoseconds(double ns) { return static_cast<uint64_t>(std::clamp(ns, 0.0, 1e12) * 1000); }

constexpr size_t kSmall = 64;  // bytes of a message whose time is latency

// A collective that is run to fit the model to it: its size, how often, and the longest that is worth it.
struct Trial {
  uint64_t raw_bytes;
  int repeats;          // at most,
  double contender_ns;  // and what those of one contender may take together, as predicted
  bool warm;            // each time once more before, which does not count
  double longest_ns;
  uint64_t walked_bytes;  // among so many its elements lie, here and there
};

class Prober {
 public:
  explicit Prober(const MeasureArgs& args)
      : t_(*args.transport),
        wait_{args.timeout_ms, "measuring"},
        size_(t_.size()),
        rank_(t_.rank()),
        hosts_(t_.hosts()) {
    for (int d = 1; d < size_; ++d) others_.push_back((rank_ + d) % size_);
  }

  Status measure(Measurement* m);
  Result<std::vector<Measurement>> exchange(const Measurement& own);

 private:
  int host_of(int rank) const { return hosts_[static_cast<size_t>(rank)]; }
  int next() const { return (rank_ + 1) % size_; }
  int previous() const { return (rank_ + size_ - 1) % size_; }
  int partner(int round) const;

  Status send(size_t bytes, std::span<const int> peers);
  Status receive(int peer, size_t bytes);
  double way_ns(const std::vector<int>& peers) const;
  size_t lead(size_t bytes, const std::vector<int>& peers) const;
  Status stream(size_t messages, size_t bytes, const std::vector<int>& to, const std::vector<int>& from);

  Status each_pair(const std::function<Status(int peer)>& work);
  Status latency(Measurement* m);
  Status burst(Measurement* m);
  Status all_links(Measurement* m);
  Status pair_links(Measurement* m);
  Status short_messages(Measurement* m);
  Status level_links(Measurement* m);
  Result<double> stream_ns(const std::vector<int>& peers, size_t messages, size_t bytes);
  void fill_elements();
  Status codecs(Measurement* m);
  // The next place of `count` elements among the first `length`.
  uint64_t walk(uint64_t count, uint64_t length);
  struct Contender {
    Layout layout;
    Plan plan;
    TwoWays shared_writes;
    int repeats;
    std::array<std::vector<double>, 2> times = {};  // by way
    double ns = 0;
  };
  Status run_once(const Trial& trial, Contender* contender);
  // `predicted_ns` by what ranks agree on, as it decides how often it runs.
  Contender contender(const Trial& trial, const Layout& layout, const char* algorithm, const Profile& profile,
                      double predicted_ns) const;
  // What ranks agree on, with what is known of the links.
  Profile profile_of(const std::vector<Measurement>& all) const;
  Status run_trials(const Trial& trial, std::vector<Contender>* contenders);
  Status fit(Measurement* m);
  Status fit_call(Measurement* m);
  Status fit_codecs(const Trial& trial, Measurement* m);
  Status fit_one_shot(Measurement* m);
  Status codec(const CodecSpec& spec, float* x, uint64_t count, double* encode_ns, double* decode_ns);

  Transport& t_;
  const Wait wait_;
  const int size_;
  const int rank_;
  const std::vector<int> hosts_;
  std::vector<int> others_;
  std::vector<float> elements_, results_;
  Workspace workspace_;
  uint64_t walk_length_ = 0, walked_ = 0;
};

}  // namespace cgx
