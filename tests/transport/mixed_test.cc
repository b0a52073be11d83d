// What is special in a transport of two halves: each goes on while the rank waits in the other, and a message
// lies where its receivers take it from.
#include <gtest/gtest.h>

#include <cstring>

#include "ranks.h"
#include "transport/hosts.h"

namespace cgx::test {
namespace {

constexpr Wait kWait{60000, "scatter"};
// More than sockets buffer, than shared memory's pool holds, and than any bound on what is not yet sent.
constexpr size_t kHuge = size_t{48} << 20;

// Ranks 0 and 1 are on one host, rank 2 on another.
void two_and_one(TransportConfig& config) { config.host_id = config.rank < 2 ? "here" : "there"; }

void put(Transport& t, std::vector<int> peers, size_t bytes, int value) {
  auto memory = t.acquire_for(peers, bytes, kWait);
  ASSERT_TRUE(memory.ok()) << memory.status().message();
  std::memset(memory->memory, value, bytes);
  const Status sent = t.send(memory->memory, bytes, peers);
  ASSERT_TRUE(sent.ok()) << sent.message();
  t.release(memory->memory);
}

void get(Transport& t, int peer, size_t bytes, int value) {
  ASSERT_TRUE(t.post(peer, bytes).ok());
  auto memory = t.receive(peer, bytes, kWait);
  ASSERT_TRUE(memory.ok()) << memory.status().message();
  EXPECT_EQ((*memory)[0], value);
  EXPECT_EQ(std::memcmp(*memory, *memory + 1, bytes - 1), 0);
  t.release(*memory);
}

TEST(Mixed, WhileARankWaitsNearbyWhatItSentFarMovesOn) {
  run_ranks(
      "mixed", 3,
      [](Transport& t) {
        if (t.rank() == 0) {
          put(t, {2}, kHuge, 7);
          get(t, 1, 8, 9);  // sent only once rank 2 has all of the above
        } else if (t.rank() == 1) {
          get(t, 2, 8, 8);
          put(t, {0}, 8, 9);
        } else {
          get(t, 0, kHuge, 7);
          put(t, {1}, 8, 8);
        }
        EXPECT_TRUE(t.flush(kWait).ok());
      },
      two_and_one);
}

TEST(Mixed, WhileARankWaitsFarAwayWhatItSentNearbyMovesOn) {
  run_ranks(
      "mixed", 3,
      [](Transport& t) {
        if (t.rank() == 0) {
          put(t, {1}, kHuge, 7);
          get(t, 2, 8, 9);
        } else if (t.rank() == 1) {
          get(t, 0, kHuge, 7);
          put(t, {2}, 8, 8);
        } else {
          get(t, 1, 8, 8);
          put(t, {0}, 8, 9);
        }
        EXPECT_TRUE(t.flush(kWait).ok());
      },
      two_and_one);
}

// Everything that can be in flight is, in both halves, while nobody receives in the order of sending.
TEST(Mixed, HugeMessagesToNearAndFarAtOnceAllArrive) {
  run_ranks(
      "mixed", 4,
      [](Transport& t) {
        for (int peer = 3; peer >= 0; --peer) {
          if (peer == t.rank()) continue;
          ASSERT_TRUE(t.post(peer, kHuge / 4).ok());
        }
        std::vector<int> peers;
        for (int peer = 0; peer < 4; ++peer) {
          if (peer != t.rank()) peers.push_back(peer);
        }
        put(t, peers, kHuge / 4, t.rank() + 1);
        for (int peer = 3; peer >= 0; --peer) {
          if (peer == t.rank()) continue;
          auto memory = t.receive(peer, kHuge / 4, kWait);
          ASSERT_TRUE(memory.ok()) << memory.status().message();
          EXPECT_EQ((*memory)[0], peer + 1);
          EXPECT_EQ(std::memcmp(*memory, *memory + 1, kHuge / 4 - 1), 0);
          t.release(*memory);
        }
        EXPECT_TRUE(t.flush(kWait).ok());
        EXPECT_EQ(t.stats().sent_bytes, 3 * (kHuge / 4));
        EXPECT_EQ(t.stats().received_messages, 3u);
      },
      [](TransportConfig& config) { config.host_id = std::to_string(config.rank / 2); });
}

TEST(Mixed, AMessageLiesWhereItsReceiversTakeItFrom) {
  run_ranks(
      "mixed", 3,
      [](Transport& t) {
        EXPECT_EQ(t.hosts(), (std::vector<int>{0, 0, 1}));
        if (t.rank() != 0) {
          for (const int value : {1, 2, 3}) {
            if (value != (t.rank() == 1 ? 2 : 1)) get(t, 0, 1000, value);
          }
          return;
        }
        const std::vector<std::pair<std::vector<int>, bool>> cases = {
            {{1}, true}, {{2}, false}, {{1, 2}, false}};
        int value = 0;
        for (const auto& [peers, shared] : cases) {
          const auto memory = t.acquire_for(peers, 1000, kWait);
          ASSERT_TRUE(memory.ok());
          EXPECT_EQ(memory->shared, shared) << "to " << peers.size() << " from " << peers[0];
          std::memset(memory->memory, ++value, 1000);
          ASSERT_TRUE(t.send(memory->memory, 1000, peers).ok());
          t.release(memory->memory);
        }
        EXPECT_TRUE(t.flush(kWait).ok());
      },
      two_and_one);
}

TEST(Mixed, AMessageReachesRanksThatItsMemoryWasNotMeantFor) {
  run_ranks(
      "mixed", 3,
      [](Transport& t) {
        if (t.rank() != 0) {
          for (const int value : {1, 2}) get(t, 0, 1000, value);
          return;
        }
        for (const int meant : {1, 2}) {
          const int for_whom[] = {meant};
          const auto memory = t.acquire_for(for_whom, 1000, kWait);
          ASSERT_TRUE(memory.ok());
          std::memset(memory->memory, meant, 1000);
          for (const int to : {1, 2}) {
            const int peers[] = {to};
            ASSERT_TRUE(t.send(memory->memory, 1000, peers).ok());
          }
          t.release(memory->memory);
        }
        EXPECT_TRUE(t.flush(kWait).ok());
      },
      two_and_one);
}

// A rank that waits for a far one hears of a near one, and the other way round; both name who failed.
TEST(Mixed, AFailureOfOneHalfFailsTheOther) {
  for (const int culprit : {1, 2}) {
    run_ranks(
        "mixed", 3,
        [&](Transport& t) {
          if (t.rank() == culprit) return t.abort(error(Code::kInternal, "out of luck"));
          const int silent = t.rank() == 0 ? 3 - culprit : 0;
          const Status posted = t.post(silent, 8);
          const Status status = posted.ok() ? t.receive(silent, 8, kWait).status() : posted;
          EXPECT_EQ(status.code(), Code::kPeerFailed) << status.message();
          EXPECT_NE(status.message().find(fmt::format("rank {}", culprit)), std::string::npos)
              << status.message();
          EXPECT_NE(status.message().find("out of luck"), std::string::npos) << status.message();
          EXPECT_EQ(t.flush(kWait).message(), status.message()) << "of both halves";
        },
        two_and_one);
  }
}

TEST(TransportList, AutoTakesMixedWhereSomeRanksShareAHost) {
  const std::vector<std::pair<std::vector<const char*>, std::string>> cases = {
      {{"a", "a", "a"}, "shm"}, {{"a", "b", "c"}, "tcp"}, {{"a", "b", "a"}, "mixed"}};
  for (const auto& [ids, expected] : cases) {
    run_ranks(
        "auto", 3, [&name = expected](Transport& t) { EXPECT_EQ(t.name(), name); },
        [&hosts = ids](TransportConfig& config) {
          config.host_id = hosts[static_cast<size_t>(config.rank)];
        });
  }
}

}  // namespace
}  // namespace cgx::test
