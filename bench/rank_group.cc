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

#include "contender.h"
#include "openmpi.h"

namespace cgx::bench {
namespace {

volatile sig_atomic_t interrupted = 0;
void on_interrupt(int) { interrupted = 1; }

void check(bool good, const char* what) {
  if (!good) throw BenchError(fmt::format("{} failed: {}", what, std::strerror(errno)));
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

void catch_interrupts() {
  struct sigaction action = {};
  action.sa_handler = on_interrupt;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

RankGroup::RankGroup(const Options& options) {
  const std::filesystem::path base = options.meeting_directory.empty()
                                         ? std::filesystem::temp_directory_path()
                                         : std::filesystem::path(options.meeting_directory);
  std::string name = (base / "cgx-bench-XXXXXX").string();
  check(mkdtemp(name.data()) != nullptr, "making a meeting directory");
  directory_ = name;
  shared_fd_ = memfd_create("cgx-bench", MFD_CLOEXEC);
  check(shared_fd_ >= 0 && ftruncate(shared_fd_, 4096) == 0, "making the ranks' barrier");
  for (int rank = 0; rank < options.ranks; ++rank) start(options, rank);
  const std::vector<Entry> all = entries(options);
  for (size_t e = 0; e < all.size(); ++e) {
    if (all[e].kind == Kind::kOpenMpi) start_mpirun(options, all[e].method, static_cast<int>(e));
  }
}

std::vector<std::string> RankGroup::rank_words(const Options& options) const {
  std::vector<std::string> words = {std::filesystem::read_symlink("/proc/self/exe").string()};
  words.insert(words.end(), options.words.begin() + 1, options.words.end());
  for (const std::string& name : options.skipped) words.push_back("--skip=" + name);
  words.push_back(fmt::format("--shared=/proc/{}/fd/{}", getpid(), shared_fd_));
  words.push_back("--ranks-directory=" + directory_);
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

void RankGroup::start_mpirun(const Options& options, const std::string& method, int number) {
  std::vector<std::string> words = rank_words(options);
  words.push_back("--as-rank=mpi");
  words.push_back(fmt::format("--as-guest={}", number));
  const std::string own = fmt::format("{}/mpirun-{}", directory_, number);
  std::filesystem::create_directory(own);
  words = mpirun_words(options, method, own, words);
  int ends[2];
  check(pipe2(ends, O_CLOEXEC) == 0, "pipe");
  const pid_t parent = getpid();
  const pid_t child = fork();
  check(child >= 0, "fork");
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(1);
    dup2(open("/dev/null", O_RDONLY | O_CLOEXEC), STDIN_FILENO);  // which mpirun would read for rank 0
    setenv("TMPDIR", own.c_str(), 1);                             // where it keeps its sessions
    take_turns();
    fcntl(ends[1], F_SETFD, 0);
    become(words, ends[1]);
  }
  close(ends[1]);
  mpiruns_.push_back({child, ends[0], ""});
}

void RankGroup::end_mpiruns() {
  // Asked, they end their ranks, also those in other namespaces.
  for (const Rank& mpirun : mpiruns_) {
    if (mpirun.process > 0) kill(mpirun.process, SIGTERM);
  }
  for (Rank& mpirun : mpiruns_) {
    if (mpirun.process > 0) {
      pollfd ended = {mpirun.fd, POLLIN, 0};
      poll(&ended, 1, 5000);
      kill(mpirun.process, SIGKILL);
      waitpid(mpirun.process, nullptr, 0);
    }
    if (mpirun.fd >= 0) close(mpirun.fd);
  }
}

RankGroup::~RankGroup() {
  end_mpiruns();
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
    for (const Rank& mpirun : mpiruns_) waiting.push_back({mpirun.fd, POLLIN, 0});
    if (poll(waiting.data(), waiting.size(), -1) < 0) continue;  // a signal: seen above
    bool heard = false;
    for (size_t r = 0; r < ranks_.size(); ++r) {
      if (waiting[r].revents == 0) continue;
      read_some(ranks_[r], static_cast<int>(r));
      heard = true;
    }
    for (size_t m = 0; m < mpiruns_.size() && !heard; ++m) {  // not before all that ranks say is read
      if (waiting[ranks_.size() + m].revents == 0) continue;
      const pid_t process = std::exchange(mpiruns_[m].process, -1);
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
  for (Rank& mpirun : mpiruns_) wait_for(mpirun.process, "mpirun");
}

}  // namespace cgx::bench
