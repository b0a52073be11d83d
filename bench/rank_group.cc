// fork and exec of /proc/self/exe with the same words and a few more; a memfd for the barrier.
#include "rank_group.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <sstream>
#include <thread>
#include <utility>

#include <nlohmann/json.hpp>

#include "openmpi.h"

namespace cgx::bench {
namespace {

volatile sig_atomic_t interrupted = 0;
void on_interrupt(int) { interrupted = 1; }

void check(bool good, const char* what) {
  if (!good) throw BenchError(fmt::format("{} failed: {}", what, std::strerror(errno)));
}

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

// In a new process: `words`, or an error line to `report_fd` where they cannot be run.
[[noreturn]] void become(const std::vector<std::string>& words, int report_fd) {
  std::vector<char*> argv;
  for (const std::string& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  execvp(argv[0], argv.data());
  const std::string report =
      nlohmann::json{{"error", fmt::format("cannot run {}: {}", words[0], std::strerror(errno))}}.dump() +
      "\n";
  (void)!write(report_fd, report.data(), report.size());
  _exit(127);
}

// Under `chrt -f` ranks that poll in MPI_Init would keep mpirun from ever answering them.
void take_turns() {
  sched_param parameters = {};
  if (sched_getscheduler(0) == SCHED_FIFO && sched_getparam(0, &parameters) == 0) {
    sched_setscheduler(0, SCHED_RR, &parameters);
  }
}

std::string how_it_ended(pid_t process) {
  int state = 0;
  waitpid(process, &state, 0);
  return WIFSIGNALED(state)
             ? fmt::format("was killed by signal {} ({})", WTERMSIG(state), strsignal(WTERMSIG(state)))
             : fmt::format("ended with exit status {}", WEXITSTATUS(state));
}

std::string report_path(const std::string& directory, int rank) {
  return fmt::format("{}/report-{}", directory, rank);
}

}  // namespace

std::vector<std::string> prefix_words(const std::string& prefix, int rank) {
  std::vector<std::string> words;
  std::istringstream in(prefix);
  for (std::string word; in >> word; words.push_back(word)) {
    const size_t at = word.find("{rank}");
    if (at != word.npos) word.replace(at, 6, std::to_string(rank));
  }
  return words;
}

int report_descriptor(const Options& options) {
  if (options.report_fd >= 0) return options.report_fd;
  prctl(PR_SET_PDEATHSIG, SIGKILL);  // of mpirun or its daemon
  const int fd = open(report_path(options.meeting_directory, options.rank).c_str(), O_WRONLY | O_CLOEXEC);
  check(fd >= 0, "opening the way back to cgx-bench");
  return fd;
}

void catch_interrupts() {
  struct sigaction action = {};
  action.sa_handler = on_interrupt;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

RankBarrier::RankBarrier(const std::string& shared_path, int ranks)
    : ranks_(static_cast<uint32_t>(ranks)), oversubscribed_(ranks_ > std::thread::hardware_concurrency()) {
  const int fd = open(shared_path.c_str(), O_RDWR | O_CLOEXEC);
  check(fd >= 0, "opening the ranks' barrier");
  void* page = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  close(fd);
  check(page != MAP_FAILED, "mmap of the ranks' barrier");
  shared_ = static_cast<Shared*>(page);  // the memfd is zero: a valid start
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

RankGroup::RankGroup(const Options& options) {
  std::string name = (std::filesystem::temp_directory_path() / "cgx-bench-XXXXXX").string();
  check(mkdtemp(name.data()) != nullptr, "making a meeting directory");
  directory_ = name;
  shared_fd_ = memfd_create("cgx-bench", MFD_CLOEXEC);
  check(shared_fd_ >= 0 && ftruncate(shared_fd_, 4096) == 0, "making the ranks' barrier");
  if (wants_openmpi(options)) {
    start_mpirun(options);
  } else {
    for (int rank = 0; rank < options.ranks; ++rank) start(options, rank);
  }
}

std::vector<std::string> RankGroup::rank_words(const Options& options) const {
  std::vector<std::string> words = {std::filesystem::read_symlink("/proc/self/exe").string()};
  words.insert(words.end(), options.words.begin() + 1, options.words.end());
  for (const std::string& name : options.skipped) words.push_back("--skip=" + name);
  words.push_back(fmt::format("--shared=/proc/{}/fd/{}", getpid(), shared_fd_));
  words.push_back("--meeting-directory=" + directory_);
  return words;
}

void RankGroup::start(const Options& options, int rank) {
  int ends[2];
  check(pipe2(ends, O_CLOEXEC) == 0, "pipe");
  std::vector<std::string> words = prefix_words(options.launch_prefix, rank);
  for (const std::string& word : rank_words(options)) words.push_back(word);
  words.push_back(fmt::format("--as-rank={}", rank));
  words.push_back(fmt::format("--report-fd={}", ends[1]));
  const pid_t parent = getpid();
  const pid_t child = fork();
  check(child >= 0, "fork");
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(1);
    fcntl(ends[1], F_SETFD, 0);
    become(words, ends[1]);
  }
  close(ends[1]);
  ranks_.push_back({child, ends[0], ""});
}

// mpirun hands no descriptors on to its ranks: each opens a FIFO of its number.
void RankGroup::start_mpirun(const Options& options) {
  for (int rank = 0; rank < options.ranks; ++rank) {
    const std::string path = report_path(directory_, rank);
    check(mkfifo(path.c_str(), 0600) == 0, "making a FIFO");
    ranks_.push_back({-1, open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC), ""});
    check(ranks_.back().fd >= 0, "opening a FIFO");
  }
  std::vector<std::string> words = rank_words(options);
  words.push_back("--as-rank=mpi");
  words = mpirun_words(options, directory_, words);
  int ends[2];
  check(pipe2(ends, O_CLOEXEC) == 0, "pipe");
  const pid_t parent = getpid();
  const pid_t child = fork();
  check(child >= 0, "fork");
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(1);
    dup2(open("/dev/null", O_RDONLY | O_CLOEXEC), STDIN_FILENO);  // which mpirun would read for rank 0
    setenv("TMPDIR", directory_.c_str(), 1);                      // where it keeps its sessions
    take_turns();
    fcntl(ends[1], F_SETFD, 0);
    become(words, ends[1]);
  }
  close(ends[1]);
  mpirun_ = {child, ends[0], ""};
}

void RankGroup::end_mpirun() {
  if (mpirun_.process > 0) {
    // Asked, it ends its ranks, also those in other namespaces.
    kill(mpirun_.process, SIGTERM);
    pollfd ended = {mpirun_.fd, POLLIN, 0};
    poll(&ended, 1, 5000);
    kill(mpirun_.process, SIGKILL);
    waitpid(mpirun_.process, nullptr, 0);
  }
  if (mpirun_.fd >= 0) close(mpirun_.fd);
}

RankGroup::~RankGroup() {
  end_mpirun();
  for (Rank& rank : ranks_) {
    if (rank.process > 0) kill(rank.process, SIGKILL);
  }
  for (Rank& rank : ranks_) {
    if (rank.process > 0) waitpid(rank.process, nullptr, 0);
    if (rank.fd >= 0) close(rank.fd);
  }
  if (shared_fd_ >= 0) close(shared_fd_);
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

void RankGroup::report_death(Rank& rank, int number) {
  if (rank.process < 0) throw BenchError(fmt::format("rank {} of mpirun ended too early", number));
  const pid_t process = rank.process;
  rank.process = -1;
  throw BenchError(fmt::format("rank {} {}", number, how_it_ended(process)));
}

void RankGroup::read_some(Rank& rank, int number) {
  char bytes[65536];
  const ssize_t got = read(rank.fd, bytes, sizeof bytes);
  if (got < 0 && (errno == EINTR || errno == EAGAIN)) return;
  if (got <= 0) report_death(rank, number);
  rank.unread.append(bytes, static_cast<size_t>(got));
}

std::vector<std::string> RankGroup::next_lines() {
  std::vector<std::string> lines(ranks_.size());
  std::vector<bool> have(ranks_.size(), false);
  for (;;) {
    std::vector<pollfd> waiting;
    for (size_t r = 0; r < ranks_.size(); ++r) {
      const size_t end = have[r] ? std::string::npos : ranks_[r].unread.find('\n');
      if (end != std::string::npos) {
        lines[r] = ranks_[r].unread.substr(0, end);
        ranks_[r].unread.erase(0, end + 1);
        have[r] = true;
        const nlohmann::json report = nlohmann::json::parse(lines[r]);
        if (report.contains("error")) {
          throw BenchError(fmt::format("rank {}: {}", r, report["error"].get<std::string>()));
        }
      }
      waiting.push_back({have[r] ? -1 : ranks_[r].fd, POLLIN, 0});
    }
    if (std::all_of(have.begin(), have.end(), [](bool b) { return b; })) return lines;
    if (interrupted != 0) throw BenchError("interrupted");
    waiting.push_back({mpirun_.fd, POLLIN, 0});
    if (poll(waiting.data(), waiting.size(), -1) < 0) continue;  // a signal: seen above
    for (size_t r = 0; r < ranks_.size(); ++r) {
      if (waiting[r].revents != 0) {
        read_some(ranks_[r], static_cast<int>(r));
        waiting.back().revents = 0;  // not before all is read
      }
    }
    if (waiting.back().revents != 0) {
      const pid_t process = std::exchange(mpirun_.process, -1);
      throw BenchError(fmt::format("mpirun {}", how_it_ended(process)));
    }
  }
}

void RankGroup::finish() {
  const auto wait_for = [](pid_t& process, const std::string& name) {
    if (process < 0) return;
    int state = 0;
    while (waitpid(process, &state, 0) < 0 && errno == EINTR) {
      if (interrupted != 0) throw BenchError("interrupted");
    }
    process = -1;
    if (state != 0) throw BenchError(fmt::format("{} did not end well (wait status {})", name, state));
  };
  for (size_t r = 0; r < ranks_.size(); ++r) wait_for(ranks_[r].process, fmt::format("rank {}", r));
  wait_for(mpirun_.process, "mpirun");
}

}  // namespace cgx::bench
