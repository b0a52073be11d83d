// A barrier in a page of memory that processes share.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

namespace cgx::bench {

// Keeps ranks in step, at a price of under a microsecond where every rank has a core.
class RankBarrier {
 public:
  // `slot`: of several barriers in the same page, each on a line of its own.
  RankBarrier(const std::string& shared_path, int ranks, int slot = 0);
  static constexpr int kSlots = 64;
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
  static constexpr size_t kLine = 64;
  // True for the last to arrive, who has released the others.
  bool arrive(uint32_t& generation);

  Shared* shared_ = nullptr;
  uint32_t ranks_;
  bool oversubscribed_;
};

}  // namespace cgx::bench
