// R14: a job runs while strangers hold thousands of idle connections to the only port that it keeps open, the
// store's, greet it a byte at a time, send noise, and announce lengths that nobody has memory for. In turns
// with quiet, so that the ratio of both is of one run.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <thread>

#include "options.h"
#include "ports.h"
#include "processes.h"
#include "transport/store_tcp_wire.h"

namespace cgx::test {
namespace {

constexpr Wait kWait{60000, "scatter"};
constexpr size_t kBytes = 256 << 10;
constexpr auto kWindow = std::chrono::milliseconds(300);
constexpr size_t kIdle = 10000;
constexpr long kMostKib = 4096;

struct Job {
  std::atomic<uint64_t> exchanges{0};
  std::atomic<bool> stop{false};
  std::atomic<int> running{0};
};

void run_rank(int rank, uint16_t port, Shared<Job>& job) {
  auto store = make_tcp_store({"127.0.0.1", port, rank, 30000});
  ASSERT_TRUE(store.ok()) << store.status().message();
  auto opened = open_transport("tcp", config_of(store->get(), rank, 2));
  ASSERT_TRUE(opened.ok()) << opened.status().message();
  Transport& t = **opened;
  const int peers[] = {1 - rank};
  std::vector<uint8_t> own(kBytes, static_cast<uint8_t>(rank + 1));
  job->running.fetch_add(1);
  for (bool stop = false; !stop;) {
    ASSERT_TRUE(t.post(peers[0], kBytes).ok());
    auto out = t.acquire(kBytes, kWait);
    ASSERT_TRUE(out.ok());
    // Rank 0 says when the last one was.
    own[0] = rank == 0 && job->stop ? 0xff : 1;
    std::memcpy(*out, own.data(), kBytes);
    ASSERT_TRUE(t.send(*out, kBytes, peers).ok());
    t.release(*out);
    const auto in = t.receive(peers[0], kBytes, kWait);
    ASSERT_TRUE(in.ok()) << in.status().message();
    stop = own[0] == 0xff || (*in)[0] == 0xff;
    t.release(*in);
    if (rank == 0) job->exchanges.fetch_add(1);
  }
  ASSERT_TRUE(t.flush(kWait).ok());
}

long rss_kib(pid_t pid) {
  std::ifstream file(fmt::format("/proc/{}/statm", pid));
  long all = 0, resident = 0;
  file >> all >> resident;
  return resident * (::sysconf(_SC_PAGESIZE) / 1024);
}

// What the threads of a process but its first have used: in rank 0 that is the store's server.
double server_cpu_seconds(pid_t pid) {
  uint64_t ns = 0;
  for (const auto& task : std::filesystem::directory_iterator(fmt::format("/proc/{}/task", pid))) {
    if (task.path().filename() == std::to_string(pid)) continue;
    std::ifstream file(task.path() / "schedstat");
    uint64_t one = 0;
    file >> one;
    ns += one;
  }
  return static_cast<double>(ns) * 1e-9;
}

class Strangers {
 public:
  explicit Strangers(uint16_t port) : port_(port) {
    rlimit limit = {};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
    ::getrlimit(RLIMIT_NOFILE, &limit);
    room_ = std::min<size_t>(kIdle, limit.rlim_cur - 400);
  }
  ~Strangers() {
    for (const auto* list : {&idle_, &slow_, &bombs_}) {
      for (const int fd : *list) ::close(fd);
    }
  }
  size_t idle() const { return idle_.size(); }

  // A few of each kind: some 600 connections a second.
  void attack_for(std::chrono::milliseconds time) {
    const auto end = std::chrono::steady_clock::now() + time;
    while (std::chrono::steady_clock::now() < end) {
      for (int i = 0; i < 3; ++i) {
        if (const int fd = knock(); fd >= 0) idle_.push_back(fd);
        if (idle_.size() > room_) drop_first(idle_);
      }
      make_noise();
      greet_slowly();
      announce_huge_lengths();
      std::this_thread::sleep_for(std::chrono::milliseconds(8));
    }
  }
  // The thousands, as fast as they are taken.
  void hold_thousands() {
    while (idle_.size() < room_) {
      const int fd = knock();
      if (fd < 0) return;
      idle_.push_back(fd);
      if (idle_.size() % 100 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  }

 private:
  int knock() const {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    const sockaddr_in address = loopback(port_);
    if (fd >= 0) ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address);
    return fd;
  }
  static void drop_first(std::vector<int>& list) {
    ::close(list.front());
    list.erase(list.begin());
  }
  static void say(int fd, const void* bytes, size_t size) {
    static_cast<void>(::send(fd, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT));
  }
  void make_noise() {
    const int fd = knock();
    uint8_t noise[4096];
    for (uint8_t& byte : noise) byte = static_cast<uint8_t>(random_());
    say(fd, noise, sizeof noise);
    ::close(fd);
  }
  void greet_slowly() {
    const store_tcp::ClientHello hello;
    if (slow_.size() < 100) {
      slow_.push_back(knock());
    } else {
      const size_t i = slow_turn_++ % slow_.size();
      say(slow_[i], reinterpret_cast<const uint8_t*>(&hello) + slow_turn_ / slow_.size() % sizeof hello, 1);
    }
  }
  void announce_huge_lengths() {
    const int fd = knock();
    const store_tcp::ClientHello hello;
    say(fd, &hello, sizeof hello);
    const store_tcp::RequestHeader most = {1, 0, store_tcp::kMaxKey, store_tcp::kMaxValue, 0};
    const store_tcp::RequestHeader more = {1, 0, 0xffff, 0xffffffff, 0};
    say(fd, bombs_.size() % 2 == 0 ? &most : &more, sizeof most);
    const std::vector<uint8_t> part(60000, 'x');
    say(fd, part.data(), part.size());
    bombs_.push_back(fd);
    if (bombs_.size() > 300) drop_first(bombs_);
  }

  uint16_t port_;
  size_t room_ = 0;
  std::minstd_rand random_{5};
  std::vector<int> idle_, slow_, bombs_;
  size_t slow_turn_ = 0;
};

struct Rates {
  std::vector<double> quiet, attacked;
  double server_share = 0;  // of one core, while attacked
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

Rates measure(Shared<Job>& job, pid_t zero, Strangers& strangers, uint64_t rounds) {
  Rates rates;
  double server = 0, attacked = 0;
  const auto rate_of = [&](const std::function<void()>& body) {
    const uint64_t before = job->exchanges;
    const auto begin = std::chrono::steady_clock::now();
    body();
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
    return static_cast<double>(job->exchanges - before) / took.count();
  };
  for (uint64_t i = 0; i < rounds; ++i) {
    rates.quiet.push_back(rate_of([] { std::this_thread::sleep_for(kWindow); }));
    const double before = server_cpu_seconds(zero);
    const auto begin = std::chrono::steady_clock::now();
    rates.attacked.push_back(rate_of([&] { strangers.attack_for(kWindow); }));
    server += server_cpu_seconds(zero) - before;
    attacked += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  }
  rates.server_share = server / attacked;
  return rates;
}

TEST(Flood, StrangersDoNotSlowOrFillARunningJob) {
  Shared<Job> job;
  const uint16_t port = free_port();
  pid_t ranks[2];
  for (const int rank : {0, 1}) ranks[rank] = start_process([&] { run_rank(rank, port, job); });
  while (job->running < 2) {
    ASSERT_EQ(::waitpid(ranks[0], nullptr, WNOHANG), 0) << "rank 0 has ended";
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  std::this_thread::sleep_for(kWindow);
  const long before = rss_kib(ranks[0]);
  Rates rates;
  size_t idle = 0;
  {
    Strangers strangers(port);
    rates = measure(job, ranks[0], strangers, times(4));
    strangers.hold_thousands();
    strangers.attack_for(kWindow);
    idle = strangers.idle();
  }
  const long after = rss_kib(ranks[0]);
  job->stop = true;
  EXPECT_EQ(outcome_of(ranks[0]), 0);
  EXPECT_EQ(outcome_of(ranks[1]), 0);
  const double ratio = median(rates.quiet) / median(rates.attacked);
  std::printf(
      "R14: %zu idle connections, slow greetings, noise and allocation bombs: the job takes %.3f of its "
      "time, "
      "the store's server %.1f %% of a core, rank 0 has %+ld KiB\n",
      idle, ratio, 100 * rates.server_share, after - before);
  EXPECT_LT(after - before, kMostKib);
  // It takes 3.1 % on a quiet machine, and was seen to take 5.1 % where others use the cores too. One that
  // spins takes all.
  EXPECT_LT(rates.server_share, 0.1) << "what an attack may cost the cores that ranks compute on";
  EXPECT_LT(ratio, 2)
      << "the attackers themselves take time, where cores are few: the figure is from a quiet machine";
}

}  // namespace
}  // namespace cgx::test
