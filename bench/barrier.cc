// See barrier.h.
#include "barrier.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

#include "options.h"

namespace cgx::bench {
namespace {

void pause_briefly(int& turns, bool spin) {
  if (spin && turns < 20000) {
    __builtin_ia32_pause();
  } else if (spin || turns < 100) {
    sched_yield();
  } else {
    std::this_thread::sleep_for(std::chrono::microseconds(200));
  }
  ++turns;
}

}  // namespace

RankBarrier::RankBarrier(const std::string& shared_path, int ranks, int slot)
    : ranks_(static_cast<uint32_t>(ranks)), oversubscribed_(ranks_ > std::thread::hardware_concurrency()) {
  const int fd = open(shared_path.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) throw BenchError(fmt::format("opening the ranks' barrier failed: {}", std::strerror(errno)));
  void* page = mmap(nullptr, kSlots * kLine, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  if (page == MAP_FAILED)
    throw BenchError(fmt::format("mmap of the ranks' barrier: {}", std::strerror(errno)));
  // The memfd is zero: a valid start.
  shared_ = reinterpret_cast<Shared*>(static_cast<char*>(page) + static_cast<size_t>(slot) * kLine);
}

bool RankBarrier::arrive(uint32_t& generation) {
  generation = shared_->generation.load(std::memory_order_acquire);
  if (shared_->arrived.fetch_add(1, std::memory_order_acq_rel) + 1 < ranks_) return false;
  shared_->arrived.store(0, std::memory_order_relaxed);
  shared_->generation.fetch_add(1, std::memory_order_release);
  return true;
}

void RankBarrier::wait_spinning() {
  uint32_t generation = 0;
  if (arrive(generation)) return;
  int turns = oversubscribed_ ? 20000 : 0;
  while (shared_->generation.load(std::memory_order_acquire) == generation) pause_briefly(turns, true);
}

void RankBarrier::wait_patiently() {
  uint32_t generation = 0;
  if (arrive(generation)) return;
  int turns = 0;
  while (shared_->generation.load(std::memory_order_acquire) == generation) pause_briefly(turns, false);
}

}  // namespace cgx::bench
