// What every transport of the list must do, with ranks as threads: a new row is tested the moment it is
// listed. Messages carry a pattern of (sender, number), so that a lost, swapped or torn one shows.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <deque>
#include <numeric>

#include "ranks.h"

namespace cgx::test {
namespace {

constexpr Wait kWait{20000, "scatter"};

uint64_t pattern(int sender, uint64_t number, size_t word) {
  return (static_cast<uint64_t>(sender) * 131 + number * 31 + word + 1) * 0x9e3779b97f4a7c15ULL;
}

// A word at a time: sanitizers make bytes slow.
void fill(uint8_t* memory, size_t bytes, int sender, uint64_t number) {
  for (size_t i = 0; i < bytes; i += 8) {
    const uint64_t word = pattern(sender, number, i / 8);
    std::memcpy(memory + i, &word, std::min<size_t>(8, bytes - i));
  }
}

bool holds(const uint8_t* memory, size_t bytes, int sender, uint64_t number) {
  for (size_t i = 0; i < bytes; i += 8) {
    const uint64_t word = pattern(sender, number, i / 8);
    if (std::memcmp(memory + i, &word, std::min<size_t>(8, bytes - i)) != 0) return false;
  }
  return true;
}

// The tests' own words for one message from here to there, with every step checked.
void put(Transport& t, std::span<const int> peers, size_t bytes, uint64_t number) {
  auto memory = t.acquire(bytes, kWait);
  ASSERT_TRUE(memory.ok()) << memory.status().message();
  ASSERT_EQ(reinterpret_cast<uintptr_t>(*memory) % 64, 0u);
  fill(*memory, bytes, t.rank(), number);
  const Status sent = t.send(*memory, bytes, peers);
  ASSERT_TRUE(sent.ok()) << sent.message();
  t.release(*memory);
}

void put(Transport& t, int peer, size_t bytes, uint64_t number) {
  const int peers[] = {peer};
  put(t, peers, bytes, number);
}

const uint8_t* take(Transport& t, int peer, size_t bytes, uint64_t number) {
  auto memory = t.receive(peer, bytes, kWait);
  EXPECT_TRUE(memory.ok()) << memory.status().message();
  if (!memory.ok()) return nullptr;
  EXPECT_TRUE(holds(*memory, bytes, peer, number))
      << "rank " << t.rank() << ": message " << number << " of rank " << peer << " is not what was sent";
  return *memory;
}

void get(Transport& t, int peer, size_t bytes, uint64_t number) {
  ASSERT_TRUE(t.post(peer, bytes).ok());
  const uint8_t* memory = take(t, peer, bytes, number);
  ASSERT_NE(memory, nullptr);
  t.release(memory);
}

std::vector<int> others(const Transport& t) {
  std::vector<int> peers;
  for (int peer = 0; peer < t.size(); ++peer) {
    if (peer != t.rank()) peers.push_back(peer);
  }
  return peers;
}

std::string message_of(const Status& status) { return status.message(); }

struct Case {
  std::string name;
  std::string transport;
  uint64_t shm_pool_bytes = 0;
  int hosts = 0;  // that the ranks say to be on, in turn; 0: they say nothing
};

Adjust as(const Case& row) {
  return [row](TransportConfig& config) {
    config.shm_pool_bytes = row.shm_pool_bytes;
    if (row.hosts > 0) config.host_id = std::to_string(config.rank % row.hosts);
  };
}

class TransportConformance : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    const std::unique_ptr<Store> store = make_memory_store();
    const Status alone = open_transport(transport(), config_of(store.get(), 0, 1)).status();
    if (alone.code() == Code::kUnsupported) GTEST_SKIP() << alone.message();
  }
  std::string transport() const { return GetParam().transport; }
  void run(int size, const Body& body) const { run_ranks(transport(), size, body, as(GetParam())); }

  std::atomic<int> through_ = 0;  // how often ranks got through something
};

TEST_P(TransportConformance, KnowsItsNameRankAndSize) {
  std::atomic<int> ranks = 0;
  run(3, [&](Transport& t) {
    EXPECT_EQ(t.name(), transport());
    EXPECT_EQ(t.size(), 3);
    ranks += 1 << t.rank();
  });
  EXPECT_EQ(ranks, 7);
}

TEST_P(TransportConformance, RanksThatShareNoIdentityAreOnSeveralHosts) {
  const auto rows = transports();
  const auto row =
      std::find_if(rows.begin(), rows.end(), [&](const auto& r) { return r.name == transport(); });
  run_ranks(
      transport(), 4,
      [&](Transport& t) {
        const std::vector<int> expected =
            row->same_host_only ? std::vector<int>{0, 0, 0, 0} : std::vector<int>{0, 1, 0, 2};
        EXPECT_EQ(t.hosts(), expected);
      },
      [](TransportConfig& config) {
        const char* ids[] = {"zebra", "ant", "zebra", "bee"};
        config.host_id = ids[config.rank];
      });
}

TEST_P(TransportConformance, OneRankAloneNeedsNobody) {
  run(1, [&](Transport& t) {
    auto memory = t.acquire(100, kWait);
    ASSERT_TRUE(memory.ok());
    t.release(*memory);
    EXPECT_TRUE(t.flush(kWait).ok());
  });
}

TEST_P(TransportConformance, AMessageOfAnySizeArrivesWhole) {
  const size_t sizes[] = {1,       2, 63, 64, 65, 1000, 4096, 65537, 262144, 1000003, 4 << 20, (16 << 20) + 5,
                          64 << 20};
  run(2, [&](Transport& t) {
    uint64_t number = 0;
    for (const size_t bytes : sizes) {
      ++number;
      if (t.rank() == 0) {
        put(t, 1, bytes, number);
        get(t, 1, bytes, number);
      } else {
        get(t, 0, bytes, number);
        put(t, 0, bytes, number);
      }
    }
    EXPECT_TRUE(t.flush(kWait).ok());
    const uint64_t sum = std::accumulate(std::begin(sizes), std::end(sizes), uint64_t{0});
    EXPECT_EQ(t.stats().sent_bytes, sum);
    EXPECT_EQ(t.stats().received_bytes, sum);
    EXPECT_EQ(t.stats().sent_messages, std::size(sizes));
    EXPECT_EQ(t.stats().received_messages, std::size(sizes));
  });
}

TEST_P(TransportConformance, EveryPairExchangesAtOnce) {
  for (const int size : {2, 3, 4, 8}) {
    run(size, [&](Transport& t) {
      for (uint64_t round = 0; round < 5; ++round) {
        const size_t bytes = 1000 + 777 * round;
        for (const int peer : others(t)) ASSERT_TRUE(t.post(peer, bytes).ok());
        for (const int peer : others(t)) put(t, peer, bytes, round);
        for (const int peer : others(t)) t.release(take(t, peer, bytes, round));
      }
      EXPECT_TRUE(t.flush(kWait).ok());
    });
  }
}

TEST_P(TransportConformance, MessagesOfAPairKeepTheirOrderWhateverTheirSizes) {
  constexpr uint64_t kMessages = 400;
  const auto bytes_of = [](uint64_t i) { return size_t{1} + (i % 50 == 49 ? 5u << 20 : i * 997 % 20000); };
  run(2, [&](Transport& t) {
    if (t.rank() == 0) {
      for (uint64_t i = 0; i < kMessages; ++i) put(t, 1, bytes_of(i), i);
      EXPECT_TRUE(t.flush(kWait).ok());
    } else {
      for (uint64_t i = 0; i < kMessages; ++i) get(t, 0, bytes_of(i), i);
    }
  });
}

TEST_P(TransportConformance, OneMessageReachesManyReceivers) {
  for (const size_t bytes : {size_t{300}, size_t{262144}, size_t{9} << 20}) {
    run(4, [&](Transport& t) {
      for (const int peer : others(t)) ASSERT_TRUE(t.post(peer, bytes).ok());
      auto memory = t.acquire(bytes, kWait);
      ASSERT_TRUE(memory.ok());
      fill(*memory, bytes, t.rank(), 1);
      const std::vector<int> peers = others(t);
      ASSERT_TRUE(t.send(*memory, bytes, peers).ok());
      for (const int peer : peers) t.release(take(t, peer, bytes, 1));
      EXPECT_TRUE(holds(*memory, bytes, t.rank(), 1)) << "the sender may read until it releases";
      t.release(*memory);
      EXPECT_TRUE(t.flush(kWait).ok());
      EXPECT_EQ(t.stats().sent_bytes, 3 * bytes);
    });
  }
}

TEST_P(TransportConformance, ReleaseInAnyOrderReturnsTheMemory) {
  constexpr size_t kBytes = 100000;
  run(2, [&](Transport& t) {
    for (uint64_t round = 0; round < 50; ++round) {
      if (t.rank() == 0) {
        for (uint64_t i = 0; i < 8; ++i) put(t, 1, kBytes, round * 8 + i);
        get(t, 1, 1, round);
      } else {
        const uint8_t* messages[8];
        for (int i = 0; i < 8; ++i) ASSERT_TRUE(t.post(0, kBytes).ok());
        for (uint64_t i = 0; i < 8; ++i) messages[i] = take(t, 0, kBytes, round * 8 + i);
        for (const size_t i : {3, 7, 0, 5, 1, 2, 6, 4}) {
          ASSERT_NE(messages[i], nullptr);
          EXPECT_TRUE(holds(messages[i], kBytes, 0, round * 8 + i)) << "held until released";
          t.release(messages[i]);
        }
        put(t, 0, 1, round);
      }
    }
    EXPECT_TRUE(t.flush(kWait).ok());
  });
}

// The sender runs ahead of a receiver that does not look: it must stop, with an error, before it has
// taken memory without bound (1 GiB here; every transport documents its own bound, all far below).
TEST_P(TransportConformance, ASenderThatRunsAheadIsHeldBack) {
  constexpr size_t kBytes = 1 << 20;
  std::atomic<bool> done = false;
  run(2, [&](Transport& t) {
    if (t.rank() == 1) {
      while (!done) std::this_thread::yield();
      return;
    }
    const int peers[] = {1};
    Status stopped;
    for (int i = 0; i < 1024 && stopped.ok(); ++i) {
      auto memory = t.acquire(kBytes, {200, "scatter"});
      stopped = memory.status();
      if (!memory.ok()) break;
      stopped = t.send(*memory, kBytes, peers);
      t.release(*memory);
    }
    EXPECT_EQ(stopped.code(), Code::kTimeout) << stopped.message();
    EXPECT_NE(stopped.message().find("rank 1"), std::string::npos) << stopped.message();
    EXPECT_NE(stopped.message().find("scatter"), std::string::npos) << stopped.message();
    done = true;
  });
}

TEST_P(TransportConformance, AllSendHugeMessagesToAllAtOnce) {
  constexpr size_t kBytes = (24 << 20) + 3;
  for (const int size : {2, 3}) {
    run(size, [&](Transport& t) {
      for (uint64_t round = 0; round < 2; ++round) {
        for (const int peer : others(t)) ASSERT_TRUE(t.post(peer, kBytes).ok());
        put(t, others(t), kBytes, round);
        for (const int peer : others(t)) t.release(take(t, peer, kBytes, round));
      }
      EXPECT_TRUE(t.flush(kWait).ok());
    });
  }
}

// More than any transport's bounded memory is sent by both before either receives: nobody may wait for
// the other for ever. 24 MiB in flight each way is three times what shm maps.
TEST_P(TransportConformance, BothSendMuchBeforeEitherReceives) {
  constexpr uint64_t kMessages = 12;
  constexpr size_t kBytes = 2 << 20;
  run(2, [&](Transport& t) {
    const int peer = 1 - t.rank();
    for (uint64_t i = 0; i < kMessages; ++i) ASSERT_TRUE(t.post(peer, kBytes).ok());
    for (uint64_t i = 0; i < kMessages; ++i) put(t, peer, kBytes, i);
    for (uint64_t i = 0; i < kMessages; ++i) t.release(take(t, peer, kBytes, i));
    EXPECT_TRUE(t.flush(kWait).ok());
  });
}

TEST_P(TransportConformance, ATimeoutNamesThePeerAndThePhaseAndStays) {
  std::atomic<bool> done = false;
  run(3, [&](Transport& t) {
    if (t.rank() != 0) {
      while (!done) std::this_thread::yield();
      return;
    }
    ASSERT_TRUE(t.post(2, 10).ok());
    const auto start = std::chrono::steady_clock::now();
    const Status status = t.receive(2, 10, {150, "gather"}).status();
    const auto elapsed = std::chrono::steady_clock::now() - start;
    EXPECT_EQ(status.code(), Code::kTimeout) << status.message();
    EXPECT_NE(status.message().find("rank 2"), std::string::npos) << status.message();
    EXPECT_NE(status.message().find("gather"), std::string::npos) << status.message();
    EXPECT_GE(elapsed, std::chrono::milliseconds(150));
    EXPECT_LT(elapsed, std::chrono::seconds(5))
        << "the promise is the timeout and a second, on a quiet machine";
    EXPECT_EQ(message_of(t.acquire(1, kWait).status()), status.message()) << "the error stays";
    EXPECT_EQ(message_of(t.flush(kWait)), status.message());
    EXPECT_EQ(message_of(t.post(1, 1)), status.message());
    done = true;
  });
}

TEST_P(TransportConformance, SlowProgressIsNoTimeout) {
  constexpr Wait kShort{400, "scatter"};
  run(3, [&](Transport& t) {
    if (t.rank() == 0) {
      // Rank 1's many messages move the deadline while rank 2's is waited for.
      ASSERT_TRUE(t.post(2, 4).ok());
      for (int i = 0; i < 10; ++i) ASSERT_TRUE(t.post(1, 4).ok());
      auto late = t.receive(2, 4, kShort);
      EXPECT_TRUE(late.ok()) << late.status().message();
      for (uint64_t i = 0; i < 10; ++i) t.release(take(t, 1, 4, i));
    } else if (t.rank() == 1) {
      // Not a race: the pause *is* what is tested. 10 x 100 ms is more than kShort allows.
      for (uint64_t i = 0; i < 10; ++i) {
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
        put(t, 0, 4, i);
      }
      put(t, 2, 4, 10);
      EXPECT_TRUE(t.flush(kWait).ok());
    } else {
      get(t, 1, 4, 10);
      put(t, 0, 4, 11);
      EXPECT_TRUE(t.flush(kWait).ok());
    }
  });
}

// Runs `block` on rank 0 while another thread aborts its transport; rank 1 waits for a silent rank 2.
void expect_aborted(const Case& row, const std::function<Status(Transport&)>& block) {
  std::atomic<bool> done = false;
  const auto body = [&](Transport& t) {
    while (t.rank() == 2 && !done) std::this_thread::yield();
    if (t.rank() == 2) return;
    if (t.rank() == 1) {
      const Status posted = t.post(2, 8);
      const Status told = posted.ok() ? t.receive(2, 8, kWait).status() : posted;
      EXPECT_EQ(told.code(), Code::kPeerFailed) << told.message();
      EXPECT_NE(told.message().find("rank 0"), std::string::npos) << told.message();
      EXPECT_NE(told.message().find("the user pressed stop"), std::string::npos) << told.message();
      done = true;
      return;
    }
    std::thread stopper([&] { t.abort(error(Code::kAborted, "the user pressed stop")); });
    const Status status = block(t);
    stopper.join();
    EXPECT_EQ(status.code(), Code::kAborted) << status.message();
    EXPECT_NE(status.message().find("the user pressed stop"), std::string::npos) << status.message();
  };
  run_ranks(row.transport, 3, body, as(row));
}

TEST_P(TransportConformance, AbortFromAnotherThreadEndsReceive) {
  expect_aborted(GetParam(), [](Transport& t) {
    const Status posted = t.post(1, 8);
    return posted.ok() ? t.receive(1, 8, kWait).status() : posted;
  });
}

TEST_P(TransportConformance, AbortFromAnotherThreadEndsAcquire) {
  expect_aborted(GetParam(), [](Transport& t) {
    const int peers[] = {1};
    for (;;) {
      auto memory = t.acquire(1 << 20, kWait);
      if (!memory.ok()) return memory.status();
      const Status sent = t.send(*memory, 1 << 20, peers);
      t.release(*memory);
      if (!sent.ok()) return sent;
    }
  });
}

TEST_P(TransportConformance, AbortFromAnotherThreadEndsFlush) {
  expect_aborted(GetParam(), [](Transport& t) {
    for (;;) {
      const Status flushed = t.flush(kWait);
      if (!flushed.ok()) return flushed;
    }
  });
}

TEST_P(TransportConformance, AMismatchOfSizesIsNamedOnBothSides) {
  run(2, [&](Transport& t) {
    if (t.rank() == 0) {
      put(t, 1, 100, 0);
      ASSERT_TRUE(t.post(1, 8).ok());
      const Status status = t.receive(1, 8, kWait).status();
      EXPECT_FALSE(status.ok());
      EXPECT_NE(status.message().find("rank 1"), std::string::npos) << status.message();
      return;
    }
    ASSERT_TRUE(t.post(0, 200).ok());
    const Status status = t.receive(0, 200, kWait).status();
    EXPECT_EQ(status.code(), Code::kMismatch) << status.message();
    EXPECT_NE(status.message().find("100"), std::string::npos) << status.message();
    EXPECT_NE(status.message().find("200"), std::string::npos) << status.message();
  });
}

TEST_P(TransportConformance, AnErrorOfOneRankReachesAll) {
  run(4, [&](Transport& t) {
    if (t.rank() == 3) return t.abort(error(Code::kInternal, "out of luck"));
    const int waits_for = (t.rank() + 1) % 3;  // nobody waits for rank 3 itself
    const Status posted = t.post(waits_for, 64);
    const Status status = posted.ok() ? t.receive(waits_for, 64, kWait).status() : posted;
    EXPECT_EQ(status.code(), Code::kPeerFailed) << status.message();
    EXPECT_NE(status.message().find("rank 3"), std::string::npos) << status.message();
    EXPECT_NE(status.message().find("out of luck"), std::string::npos) << status.message();
  });
}

TEST_P(TransportConformance, WaitingForARankThatHasClosedIsAnError) {
  run(2, [&](Transport& t) {
    if (t.rank() == 1) {
      put(t, 0, 16, 5);
      EXPECT_TRUE(t.flush(kWait).ok());
      return;
    }
    get(t, 1, 16, 5);  // what it sent before it left still arrives
    ASSERT_TRUE(t.post(1, 16).ok());
    const Status status = t.receive(1, 16, kWait).status();
    EXPECT_EQ(status.code(), Code::kPeerFailed) << status.message();
    EXPECT_NE(status.message().find("rank 1"), std::string::npos) << status.message();
    EXPECT_NE(status.message().find("scatter"), std::string::npos) << status.message();
  });
}

// Also on a transport that failed before: that is when it is asked.
TEST_P(TransportConformance, ARankThatLeftIsGoneAndOneThatFailedIsNot) {
  if (transport() == "gloo") GTEST_SKIP() << "Gloo's pairs do not tell without waiting";
  run(3, [&](Transport& t) {
    const auto await = [&](const std::function<bool()>& condition) {
      const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
      while (!condition()) {
        ASSERT_LT(std::chrono::steady_clock::now(), deadline) << "rank " << t.rank();
        std::this_thread::yield();
      }
    };
    for (const int peer : others(t)) put(t, peer, 100, 1);
    for (const int peer : others(t)) {
      get(t, peer, 100, 1);
      EXPECT_FALSE(t.gone(peer));
    }
    EXPECT_FALSE(t.gone(t.rank()));
    ++through_;
    await([&] { return through_ >= 3; });
    t.abort(error(Code::kFailed, "the test"));
    if (t.rank() == 2) return;
    await([&] { return t.gone(2); });
    EXPECT_FALSE(t.gone(1 - t.rank()));
    ++through_;
    await([&] { return through_ == 5; });
  });
}

TEST_P(TransportConformance, ARankThatNeverComesIsNamed) {
  const std::unique_ptr<Store> store = make_memory_store();
  std::vector<std::thread> threads;
  for (const int rank : {0, 2}) {
    threads.emplace_back([&, rank] {
      TransportConfig config = config_of(store.get(), rank, 3, 300);
      as(GetParam())(config);
      auto opened = open_transport(transport(), config);
      ASSERT_FALSE(opened.ok());
      EXPECT_EQ(opened.status().code(), Code::kTimeout) << opened.status().message();
      EXPECT_NE(opened.status().message().find("rank 1"), std::string::npos) << opened.status().message();
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_P(TransportConformance, TwoJobsOfOneStoreDoNotMeet) {
  const std::unique_ptr<Store> store = make_memory_store();
  std::vector<std::thread> threads;
  for (const int job : {0, 1}) {
    for (const int rank : {0, 1}) {
      threads.emplace_back([&, job, rank] {
        TransportConfig config = config_of(store.get(), rank, 2);
        as(GetParam())(config);
        config.job = job == 0 ? "left" : "right";
        auto opened = open_transport(transport(), config);
        ASSERT_TRUE(opened.ok()) << opened.status().message();
        Transport& t = **opened;
        for (uint64_t i = 0; i < 50; ++i) {
          const uint64_t number = i * 2 + static_cast<uint64_t>(job);
          put(t, 1 - rank, 5000, number);
          get(t, 1 - rank, 5000, number);
        }
        EXPECT_TRUE(t.flush(kWait).ok());
      });
    }
  }
  for (std::thread& thread : threads) thread.join();
}

std::vector<Case> listed() {
  std::vector<Case> cases;
  for (const TransportEntry& entry : transports()) cases.push_back({entry.name, entry.name});
  // So small that nearly everything goes through the lanes.
  cases.push_back({"shm_with_a_tiny_pool", "shm", 16 << 10});
  // Ranks 0 and 2 share a host, and 1 and 3; and no two.
  cases.push_back({"mixed_on_two_hosts", "mixed", 0, 2});
  cases.push_back({"mixed_on_two_hosts_with_a_tiny_pool", "mixed", 16 << 10, 2});
  cases.push_back({"mixed_on_hosts_of_one_rank", "mixed", 0, 99});
  return cases;
}

INSTANTIATE_TEST_SUITE_P(List, TransportConformance, testing::ValuesIn(listed()),
                         [](const auto& row) { return row.param.name; });

TEST(TransportList, AnUnknownNameIsAnsweredWithTheKnownOnes) {
  const std::unique_ptr<Store> store = make_memory_store();
  const auto opened = open_transport("pigeon", config_of(store.get(), 0, 1));
  EXPECT_EQ(opened.status().code(), Code::kInvalidArgument);
  EXPECT_NE(opened.status().message().find("pigeon"), std::string::npos);
  EXPECT_NE(opened.status().message().find("local"), std::string::npos);
}

TEST(TransportList, BadRanksSizesAndTimeoutsAreRefused) {
  const std::unique_ptr<Store> store = make_memory_store();
  for (const auto& [rank, size, timeout_ms] :
       {std::tuple(2, 2, 10), std::tuple(-1, 2, 10), std::tuple(0, 0, 10), std::tuple(0, 1, 0)}) {
    EXPECT_EQ(open_transport("local", config_of(store.get(), rank, size, timeout_ms)).status().code(),
              Code::kInvalidArgument);
  }
}

}  // namespace
}  // namespace cgx::test
