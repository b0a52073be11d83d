// Ranks as processes: forked children with a communicator each, that meet in a file store and report what
// they saw through memory shared with the test.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "comm/world.h"

namespace cgx::test {

// What a child leaves for the test. Plain memory: a child may be killed at any moment.
struct Report {
  std::atomic<int> code;  // of Status; -1: none yet
  std::atomic<int> steps;
  std::atomic<int64_t> ended_ms;  // on the monotonic clock
  char message[1000];

  void set(const Status& status) {
    std::strncpy(message, status.message().c_str(), sizeof(message) - 1);
    ended_ms = now_ms();
    code = static_cast<int>(status.code());
  }
  static int64_t now_ms() {
    return std::chrono::duration_cast<std::chrono::milliseconds>(
               std::chrono::steady_clock::now().time_since_epoch())
        .count();
  }
};

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    char name[] = "/tmp/cgx-test-XXXXXX";
    path_ = ::mkdtemp(name);
  }
  ~TemporaryDirectory() { std::filesystem::remove_all(path_); }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// REQUIRES: no other thread in this process when start() forks.
class Processes {
 public:
  explicit Processes(int size) : size_(size) {
    void* memory = ::mmap(nullptr, bytes(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    EXPECT_NE(memory, MAP_FAILED);
    reports_ = static_cast<Report*>(memory);
    for (int r = 0; r < size_; ++r) new (&reports_[r]) Report{{-1}, {0}, {0}, {}};
    pids_.assign(static_cast<size_t>(size), -1);
  }
  ~Processes() {
    for (const pid_t pid : pids_) {
      if (pid > 0) ::kill(pid, SIGKILL);
    }
    for (int r = 0; r < size_; ++r) wait_for(r);
    ::munmap(reports_, bytes());
  }
  Processes(const Processes&) = delete;
  Processes& operator=(const Processes&) = delete;

  // The child ends with what `body` gives, or with the failure to make a communicator.
  void start(int rank, const std::function<Status(Report&)>& body) {
    const pid_t pid = ::fork();
    ASSERT_GE(pid, 0);
    if (pid == 0) {
      report(rank).set(body(report(rank)));
      ::_exit(0);
    }
    pids_[static_cast<size_t>(rank)] = pid;
  }
  void kill(int rank) { ::kill(pids_[static_cast<size_t>(rank)], SIGKILL); }
  void resume(int rank) { ::kill(pids_[static_cast<size_t>(rank)], SIGCONT); }
  void wait_for(int rank) {
    pid_t& pid = pids_[static_cast<size_t>(rank)];
    if (pid > 0) ::waitpid(pid, nullptr, 0);
    pid = -1;
  }
  Report& report(int rank) { return reports_[rank]; }

 private:
  size_t bytes() const { return sizeof(Report) * static_cast<size_t>(size_); }
  int size_;
  Report* reports_;
  std::vector<pid_t> pids_;
};

// What ranks that are processes of one host begin with. "mixed": two ranks a host.
inline CommunicatorConfig process_config(const std::string& transport, int rank, int size, Store* store,
                                         int64_t timeout_ms) {
  CommunicatorConfig config;
  config.rank = rank;
  config.size = size;
  config.store = store;
  config.job = "processes";
  config.transport = transport;
  config.interface_name = "lo";
  if (transport == "mixed") config.host_id = std::to_string(rank / 2);
  config.timeout_ms = timeout_ms;
  return config;
}

// Waits until `rank` has come that far.
inline void await_steps(Processes& ranks, int rank, int steps) {
  const int64_t give_up_ms = Report::now_ms() + 60000;
  while (ranks.report(rank).steps < steps && ranks.report(rank).code == -1 && Report::now_ms() < give_up_ms) {
    ::usleep(1000);
  }
  ASSERT_GE(ranks.report(rank).steps, steps) << ranks.report(rank).message;
}

}  // namespace cgx::test
