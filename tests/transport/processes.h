// Runs ranks as processes of this host, as users do: a fork each, meeting through a directory.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "ranks.h"

namespace cgx::test {

// A directory on the file system of /dev/shm, removed with all it holds.
class ShmDirectory {
 public:
  ShmDirectory() {
    char name[] = "/dev/shm/test-cgx-XXXXXX";
    path_ = mkdtemp(name) != nullptr ? name : "";
  }
  ~ShmDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }
  size_t files() const {
    size_t count = 0;
    for (const auto& entry : std::filesystem::directory_iterator(path_))
      count += entry.is_regular_file() ? 1 : 0;
    return count;
  }

 private:
  std::string path_;
};

// Memory that the processes of a test share: what they saw, and when.
template <typename T>
class Shared {
 public:
  Shared() : memory_(mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)) {
    new (memory_) T{};
  }
  ~Shared() { munmap(memory_, sizeof(T)); }
  T* operator->() { return static_cast<T*>(memory_); }

 private:
  void* memory_;
};

inline int64_t monotonic_us() {
  return std::chrono::duration_cast<std::chrono::microseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

inline pid_t start_process(const std::function<void()>& body) {
  std::fflush(nullptr);
  const pid_t pid = fork();
  if (pid == 0) {
    body();
    std::fflush(nullptr);
    _exit(testing::Test::HasFailure() ? 1 : 0);
  }
  return pid;
}

constexpr int kKilled = 1000;  // + signal

inline int outcome_of(pid_t pid) {
  int status = 0;
  if (waitpid(pid, &status, 0) != pid) return -1;
  return WIFSIGNALED(status) ? kKilled + WTERMSIG(status) : WEXITSTATUS(status);
}

// The outcome of each rank: 0 when no expectation failed in it.
inline std::vector<int> run_processes(
    const std::string& transport, int size, const Body& body,
    const Adjust& adjust = [](TransportConfig&) {}) {
  char directory[] = "/tmp/cgx-store-XXXXXX";
  if (mkdtemp(directory) == nullptr) return {-1};
  std::vector<pid_t> pids;
  for (int rank = 0; rank < size; ++rank) {
    pids.push_back(start_process([&] {
      auto store = make_file_store(directory);
      ASSERT_TRUE(store.ok()) << store.status().message();
      TransportConfig config = config_of(store->get(), rank, size);
      adjust(config);
      auto opened = open_transport(transport, config);
      ASSERT_TRUE(opened.ok()) << "rank " << rank << ": " << opened.status().message();
      body(**opened);
    }));
  }
  std::vector<int> outcomes;
  for (const pid_t pid : pids) outcomes.push_back(outcome_of(pid));
  std::error_code ignored;
  std::filesystem::remove_all(directory, ignored);
  return outcomes;
}

}  // namespace cgx::test
