// fork and exec of /proc/self/exe with the same words and a few more; a memfd for the barrier.
#include "rank_group.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <sstream>
#include <thread>

#include <nlohmann/json.hpp>

namespace cgx::bench {
namespace {

volatile sig_atomic_t interrupted = 0;
void on_interrupt(int) { interrupted = 1; }

void check(bool good, const char* what) {
  if (!good) throw BenchError(fmt::format("{} failed: {}", what, std::strerror(errno)));
}

std::vector<std::string> prefix_words(const std::string& prefix, int rank) {
  std::vector<std::string> words;
  std::istringstream in(prefix);
  for (std::string word; in >> word; words.push_back(word)) {
    const size_t at = word.find("{rank}");
    if (at != word.npos) word.replace(at, 6, std::to_string(rank));
  }
  return words;
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

}  // namespace

void catch_interrupts() {
  struct sigaction action = {};
  action.sa_handler = on_interrupt;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

RankBarrier::RankBarrier(int fd, int ranks)
    : ranks_(static_cast<uint32_t>(ranks)), oversubscribed_(ranks_ > std::thread::hardware_concurrency()) {
  void* page = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
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
  shared_fd_ = memfd_create("cgx-bench", 0);
  check(shared_fd_ >= 0 && ftruncate(shared_fd_, 4096) == 0, "making the ranks' barrier");
  for (int rank = 0; rank < options.ranks; ++rank) start(options, rank);
}

void RankGroup::start(const Options& options, int rank) {
  int ends[2];
  check(pipe2(ends, O_CLOEXEC) == 0, "pipe");
  std::vector<std::string> words = prefix_words(options.launch_prefix, rank);
  words.push_back(std::filesystem::read_symlink("/proc/self/exe").string());
  words.insert(words.end(), options.words.begin() + 1, options.words.end());
  words.push_back(fmt::format("--as-rank={}", rank));
  words.push_back(fmt::format("--report-fd={}", ends[1]));
  words.push_back(fmt::format("--shared-fd={}", shared_fd_));
  words.push_back("--meeting-directory=" + directory_);
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const pid_t parent = getpid();
  const pid_t child = fork();
  check(child >= 0, "fork");
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(1);
    fcntl(ends[1], F_SETFD, 0);
    execvp(argv[0], argv.data());
    const std::string report =
        nlohmann::json{{"error", fmt::format("cannot run {}: {}", words[0], std::strerror(errno))}}.dump() +
        "\n";
    (void)!write(ends[1], report.data(), report.size());
    _exit(127);
  }
  close(ends[1]);
  ranks_.push_back({child, ends[0], ""});
}

RankGroup::~RankGroup() {
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
  int state = 0;
  waitpid(rank.process, &state, 0);
  rank.process = -1;
  const std::string how = WIFSIGNALED(state) ? fmt::format("was killed by signal {} ({})", WTERMSIG(state),
                                                           strsignal(WTERMSIG(state)))
                                             : fmt::format("ended with exit status {}", WEXITSTATUS(state));
  throw BenchError(fmt::format("rank {} {}", number, how));
}

void RankGroup::read_some(Rank& rank, int number) {
  char bytes[65536];
  const ssize_t got = read(rank.fd, bytes, sizeof bytes);
  if (got < 0 && errno == EINTR) return;
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
    if (poll(waiting.data(), waiting.size(), -1) < 0) continue;  // a signal: seen above
    for (size_t r = 0; r < ranks_.size(); ++r) {
      if (waiting[r].revents != 0) read_some(ranks_[r], static_cast<int>(r));
    }
  }
}

void RankGroup::finish() {
  for (size_t r = 0; r < ranks_.size(); ++r) {
    int state = 0;
    while (waitpid(ranks_[r].process, &state, 0) < 0 && errno == EINTR) {
      if (interrupted != 0) throw BenchError("interrupted");
    }
    ranks_[r].process = -1;
    if (state != 0) throw BenchError(fmt::format("rank {} did not end well (wait status {})", r, state));
  }
}

}  // namespace cgx::bench
