// tcp between real processes: death, standstill, closing in the middle of a message, wrong settings.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "processes.h"

namespace cgx::test {
namespace {

constexpr Wait kWait{20000, "scatter"};

Status put(Transport& t, int peer, size_t bytes) {
  const int peers[] = {peer};
  CGX_ASSIGN_OR_RETURN(uint8_t * out, t.acquire(bytes, kWait));
  std::memset(out, t.rank() + 1, bytes);
  CGX_RETURN_IF_ERROR(t.send(out, bytes, peers));
  t.release(out);
  return {};
}

Status take(Transport& t, int peer, size_t bytes) {
  CGX_ASSIGN_OR_RETURN(const uint8_t* in, t.receive(peer, bytes, kWait));
  const bool same = in[0] == peer + 1 && std::memcmp(in, in + 1, bytes - 1) == 0;
  t.release(in);
  return same ? Status() : error(Code::kInternal, "the bytes of rank {} are not what it sent", peer);
}

Status exchange_with_all(Transport& t, size_t bytes) {
  for (int peer = 0; peer < t.size(); ++peer) {
    if (peer != t.rank()) CGX_RETURN_IF_ERROR(t.post(peer, bytes));
  }
  for (int peer = 0; peer < t.size(); ++peer) {
    if (peer != t.rank()) CGX_RETURN_IF_ERROR(put(t, peer, bytes));
  }
  for (int peer = 0; peer < t.size(); ++peer) {
    if (peer != t.rank()) CGX_RETURN_IF_ERROR(take(t, peer, bytes));
  }
  return t.flush(kWait);
}

Status wait_for(Transport& t, int peer, const Wait& wait = kWait) {
  CGX_RETURN_IF_ERROR(t.post(peer, 8));
  return t.receive(peer, 8, wait).status();
}

struct Times {
  std::atomic<int64_t> killed_us;
  std::atomic<int64_t> seen_us[8];
};

void exchange_every_size(Transport& t) {
  for (const size_t bytes : {size_t{2}, size_t{1000}, size_t{262144}, size_t{20} << 20}) {
    for (int i = 0; i < 3; ++i) {
      const Status status = exchange_with_all(t, bytes);
      ASSERT_TRUE(status.ok()) << status.message();
    }
  }
}

// Address by the host's own means, as users have it, and not the "lo" that the other tests give.
TEST(TcpProcesses, ExchangeMessagesOfEverySize) {
  for (const int size : {2, 4}) {
    const auto outcomes = run_processes("tcp", size, exchange_every_size,
                                        [](TransportConfig& config) { config.interface_name.clear(); });
    EXPECT_EQ(outcomes, std::vector<int>(static_cast<size_t>(size), 0));
  }
}

TEST(TcpProcesses, ExchangeOverSeveralSocketsAPair) {
  const auto outcomes =
      run_processes("tcp", 3, exchange_every_size, [](TransportConfig& config) { config.tcp_streams = 3; });
  EXPECT_EQ(outcomes, (std::vector<int>{0, 0, 0}));
}

// Rank 2 is killed. Rank 1 waits for it, rank 3 sends to it (with SIGPIPE at its deadly default), and rank
// 0 waits for rank 1 only, which is alive.
TEST(TcpProcesses, AKilledRankIsNamedByAllOthersAtOnce) {
  ASSERT_NE(::signal(SIGPIPE, SIG_DFL), SIG_ERR);
  Shared<Times> times;
  const auto outcomes = run_processes("tcp", 4, [&](Transport& t) {
    Status status = exchange_with_all(t, 1000);
    if (t.rank() == 2) {
      times->killed_us = monotonic_us();
      ::kill(::getpid(), SIGKILL);
    }
    // A slow rank may hear of the failure while it still exchanges.
    while (t.rank() == 3 && status.ok()) status = put(t, 2, 1 << 16);
    if (status.ok()) status = wait_for(t, t.rank() == 1 ? 2 : 1);
    times->seen_us[t.rank()] = monotonic_us();
    EXPECT_EQ(status.code(), Code::kPeerFailed) << status.message();
    EXPECT_NE(status.message().find("rank 2"), std::string::npos) << status.message();
    EXPECT_NE(status.message().find("scatter"), std::string::npos) << status.message();
  });
  EXPECT_EQ(outcomes, (std::vector<int>{0, 0, kKilled + SIGKILL, 0}));
  for (const int rank : {0, 1, 3}) {
    const int64_t us = times->seen_us[rank] - times->killed_us;
    RecordProperty(fmt::format("rank{}_us", rank), std::to_string(us));
    // The data of a dead rank may trail by 100 ms; the rest is a loaded machine's scheduling.
    EXPECT_LT(us, 2'000'000) << "rank " << rank;
  }
}

TEST(TcpProcesses, ASenderKilledInTheMiddleOfAMessageIsNamed) {
  const auto outcomes = run_processes("tcp", 2, [](Transport& t) {
    constexpr size_t kBytes = size_t{256} << 20;
    if (t.rank() == 0) {
      const int peers[] = {1};
      auto out = t.acquire(kBytes, kWait);
      ASSERT_TRUE(out.ok());
      ASSERT_TRUE(wait_for(t, 1).ok());  // it has posted
      ASSERT_TRUE(t.send(*out, kBytes, peers).ok());
      ::kill(::getpid(), SIGKILL);  // far more than what socket buffers hold is still here
    }
    ASSERT_TRUE(t.post(0, kBytes).ok());
    ASSERT_TRUE(put(t, 0, 8).ok());
    const auto start = monotonic_us();
    const Status status = t.receive(0, kBytes, kWait).status();
    EXPECT_EQ(status.code(), Code::kPeerFailed) << status.message();
    EXPECT_NE(status.message().find("rank 0"), std::string::npos) << status.message();
    EXPECT_LT(monotonic_us() - start, 5'000'000);
  });
  EXPECT_EQ(outcomes, (std::vector<int>{kKilled + SIGKILL, 0}));
}

// The receiver's kernel answers with RST, as bytes are left that nobody has read.
TEST(TcpProcesses, AReceiverKilledInTheMiddleOfAMessageIsNamed) {
  ASSERT_NE(::signal(SIGPIPE, SIG_DFL), SIG_ERR);
  const auto outcomes = run_processes("tcp", 2, [](Transport& t) {
    constexpr size_t kBytes = size_t{256} << 20;
    if (t.rank() == 1) {
      ASSERT_TRUE(t.post(0, kBytes).ok());
      ASSERT_TRUE(put(t, 0, 8).ok());
      ASSERT_TRUE(t.flush(kWait).ok());
      ::kill(::getpid(), SIGKILL);
    }
    ASSERT_TRUE(wait_for(t, 1).ok());
    Status status = put(t, 1, kBytes);
    if (status.ok()) status = t.flush(kWait);
    EXPECT_EQ(status.code(), Code::kPeerFailed) << status.message();
    EXPECT_NE(status.message().find("rank 1"), std::string::npos) << status.message();
  });
  EXPECT_EQ(outcomes, (std::vector<int>{0, kKilled + SIGKILL}));
}

// A stopped process still acknowledges what the kernel takes for it: only the deadline sees it.
TEST(TcpProcesses, AStoppedRankIsATimeoutAndHearsOfItLater) {
  Shared<std::atomic<pid_t>> stopped;
  const auto outcomes = run_processes("tcp", 2, [&](Transport& t) {
    ASSERT_TRUE(exchange_with_all(t, 100).ok());
    if (t.rank() == 1) {
      stopped->store(::getpid());
      ::kill(::getpid(), SIGSTOP);
      const Status status = wait_for(t, 0);
      EXPECT_EQ(status.code(), Code::kPeerFailed) << status.message();
      EXPECT_NE(status.message().find("rank 0 reported: rank 0: no progress for 300 ms"), std::string::npos)
          << status.message();
      return;
    }
    const auto start = monotonic_us();
    const Status status = wait_for(t, 1, {300, "gather"});
    EXPECT_LT(monotonic_us() - start, 1'300'000) << "the promise is the timeout and a second";
    EXPECT_EQ(status.code(), Code::kTimeout) << status.message();
    EXPECT_NE(status.message().find("from rank 1 (phase gather)"), std::string::npos) << status.message();
    while (stopped->load() == 0) std::this_thread::yield();
    // The stop may come after the number was stored, so wake it until it has ended.
    while (::kill(stopped->load(), 0) == 0) {
      ::kill(stopped->load(), SIGCONT);
      ::usleep(1000);
      std::ifstream stat(fmt::format("/proc/{}/stat", stopped->load()));
      std::string text;
      std::getline(stat, text);
      if (text.find(") Z ") != std::string::npos) break;
    }
  });
  EXPECT_EQ(outcomes, (std::vector<int>{0, 0}));
}

TEST(TcpProcesses, SignalsThatInterruptSystemCallsDoNoHarm) {
  const auto outcomes = run_processes("tcp", 2, [](Transport& t) {
    struct sigaction action = {};
    action.sa_handler = [](int) {};  // without SA_RESTART: calls return EINTR
    ASSERT_EQ(::sigaction(SIGALRM, &action, nullptr), 0);
    const itimerval often = {{0, 300}, {0, 300}};
    ASSERT_EQ(::setitimer(ITIMER_REAL, &often, nullptr), 0);
    for (int i = 0; i < 30; ++i) {
      const Status status = exchange_with_all(t, 1 << 20);
      ASSERT_TRUE(status.ok()) << status.message();
    }
    const itimerval never = {};
    ::setitimer(ITIMER_REAL, &never, nullptr);
  });
  EXPECT_EQ(outcomes, (std::vector<int>{0, 0}));
}

size_t open_descriptors() {
  const auto files = std::filesystem::directory_iterator("/proc/self/fd");
  return static_cast<size_t>(std::distance(begin(files), end(files)));
}

TEST(TcpProcesses, OpeningAndClosingLeavesNoDescriptors) {
  const auto round = [] {
    run_ranks("tcp", 3, [](Transport& t) { EXPECT_TRUE(exchange_with_all(t, 500).ok()); });
  };
  round();
  const size_t before = open_descriptors();
  for (int i = 0; i < 5; ++i) round();
  EXPECT_EQ(open_descriptors(), before);
}

}  // namespace
}  // namespace cgx::test
