// R11 and R15: what sockets may do to messages. Calls that take less than asked for or nothing, signals,
// connections reset and closed in the middle of a message, and flipped bits: ranks get every byte right, or
// an error that names one.
#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "options.h"
#include "ports.h"
#include "ranks.h"
#include "transport/store.h"
#include "weather.h"

namespace cgx::test {
namespace {

constexpr Wait kWait{30000, "scatter"};

uint8_t byte_of(int from, uint64_t turn, size_t i) {
  return static_cast<uint8_t>(static_cast<uint64_t>(from) * 31 + turn * 7 + i * 13 + (i >> 8));
}

// One message to every peer and one from each, of random sizes that both ends know. kInternal: a wrong byte.
Status exchange(Transport& t, uint64_t turn, std::vector<uint64_t>* right) {
  std::mt19937_64 random(turn);
  const size_t bytes = 1 + random() % (random() % 8 == 0 ? 200000 : 3000);
  std::vector<int> peers;
  for (int peer = 0; peer < t.size(); ++peer) {
    if (peer != t.rank()) peers.push_back(peer);
  }
  for (const int peer : peers) CGX_RETURN_IF_ERROR(t.post(peer, bytes));
  CGX_ASSIGN_OR_RETURN(uint8_t * out, t.acquire(bytes, kWait));
  for (size_t i = 0; i < bytes; ++i) out[i] = byte_of(t.rank(), turn, i);
  Status sent = t.send(out, bytes, peers);
  t.release(out);
  CGX_RETURN_IF_ERROR(std::move(sent));
  for (const int peer : peers) {
    CGX_ASSIGN_OR_RETURN(const uint8_t* in, t.receive(peer, bytes, kWait));
    for (size_t i = 0; i < bytes; ++i) {
      if (in[i] != byte_of(peer, turn, i))
        return error(Code::kInternal, "byte {} of turn {} is wrong", i, turn);
    }
    t.release(in);
    ++(*right)[static_cast<size_t>(t.rank())];
  }
  return t.flush(kWait);
}

class Wire : public testing::Test {
 protected:
  ~Wire() override {
    weather().storm = 0;
    weather().flip_after = -1;
    weather().break_after = -1;
  }
};

TEST_F(Wire, AStormOfShortCallsAndSignalsLosesNothing) {
  weather().storm = 40;
  const uint64_t wanted = times(50000);
  uint64_t messages = 0;
  const uint64_t before = weather().calls;
  for (int size = 2; weather().calls - before < wanted; size = size == 4 ? 2 : size + 1) {
    std::vector<uint64_t> right(static_cast<size_t>(size), 0);
    run_ranks(
        "tcp", size,
        [&](Transport& t) {
          for (uint64_t turn = 0; turn < 150; ++turn) {
            const Status status = exchange(t, turn, &right);
            ASSERT_TRUE(status.ok()) << status.message();
          }
        },
        [&](TransportConfig& config) { config.tcp_streams = size == 3 ? 3 : 1; });
    for (const uint64_t of_rank : right) messages += of_rank;
    if (HasFailure()) return;
  }
  std::printf("R11: %llu socket calls, %llu of them disturbed; %llu messages, every byte right\n",
              static_cast<unsigned long long>(weather().calls - before),
              static_cast<unsigned long long>(weather().disturbed.load()),
              static_cast<unsigned long long>(messages));
}

TEST_F(Wire, TheStoreWorksInAStormToo) {
  const uint16_t port = free_port();
  weather().storm = 40;
  const auto server = make_tcp_store({"127.0.0.1", port, 0, 20000, "0123456789abcdef"});
  ASSERT_TRUE(server.ok()) << server.status().message();
  const auto client = make_tcp_store({"127.0.0.1", port, 1, 20000, "0123456789abcdef"});
  ASSERT_TRUE(client.ok()) << client.status().message();
  for (int i = 0; i < 200; ++i) {
    const std::string key = fmt::format("key {}", i);
    ASSERT_TRUE((*client)->set(key, std::string(static_cast<size_t>(i) * 50, 'v')).ok());
    const auto value = (*server)->get(key, 20000);
    ASSERT_TRUE(value.ok()) << value.status().message();
    ASSERT_EQ(*value, std::string(static_cast<size_t>(i) * 50, 'v'));
  }
}

// Three ranks exchange until the weather strikes; then all of them must hear of it. Returns how each ended.
std::vector<Status> until_it_strikes(const std::function<void()>& arm) {
  constexpr uint64_t kTurns = 400;
  std::vector<Status> ends(3);
  std::vector<uint64_t> right(3, 0);
  std::atomic<int> ready{0};
  weather().struck = false;
  run_ranks("tcp", 3, [&](Transport& t) {
    if (ready.fetch_add(1) == 2) arm();
    Status status;
    for (uint64_t turn = 0; turn < kTurns && status.ok(); ++turn) status = exchange(t, turn, &right);
    ends[static_cast<size_t>(t.rank())] = status;
  });
  return ends;
}

void expect_named_error(const std::vector<Status>& ends, const std::string& what) {
  ASSERT_TRUE(weather().struck) << what;
  for (const Status& end : ends) {
    ASSERT_FALSE(end.ok()) << what;
    ASSERT_TRUE(end.code() == Code::kPeerFailed || end.code() == Code::kCorrupt ||
                end.code() == Code::kMismatch)
        << what << ": " << end.message();
    ASSERT_NE(end.message().find("rank "), std::string::npos) << end.message();
  }
}

TEST_F(Wire, AConnectionThatEndsInTheMiddleOfAMessageIsNamedByAll) {
  std::mt19937_64 random(3);
  const uint64_t turns = times(30);
  for (uint64_t i = 0; i < turns; ++i) {
    const auto ends = until_it_strikes([&] {
      weather().break_by_reset = i % 2 == 0;
      weather().break_after = static_cast<int64_t>(random() % 400000);
    });
    expect_named_error(ends, i % 2 == 0 ? "RST" : "FIN");
    if (HasFatalFailure()) return;
  }
  std::printf("R11: %llu connections reset or closed in the middle of a message, all named by all ranks\n",
              static_cast<unsigned long long>(turns));
}

TEST_F(Wire, AFlippedBitIsNeverReadAsData) {
  std::mt19937_64 random(4);
  const uint64_t turns = times(30);
  for (uint64_t i = 0; i < turns; ++i) {
    const auto ends =
        until_it_strikes([&] { weather().flip_after = static_cast<int64_t>(random() % 400000); });
    expect_named_error(ends, "a flipped bit");
    if (HasFatalFailure()) return;
  }
  std::printf("R15: %llu bits flipped between ranks, all found, on all ranks\n",
              static_cast<unsigned long long>(turns));
}

}  // namespace
}  // namespace cgx::test
