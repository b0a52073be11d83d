// The parts of tcp that a well-behaved peer never shows: bytes that are damaged or foreign, one at a
// time, and visitors that are no peers.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <array>
#include <cstring>
#include <string>
#include <thread>
#include <utility>

#include "knocking.h"
#include "ranks.h"
#include "transport/network.h"
#include "transport/rendezvous.h"
#include "transport/store.h"
#include "transport/tcp_connect.h"
#include "transport/tcp_control.h"
#include "transport/tcp_stream.h"
#include "transport/tcp_wire.h"

namespace cgx::test {
namespace {

std::array<TcpSocket, 2> pair_of_sockets() {
  int fds[2] = {-1, -1};
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
  return {TcpSocket(fds[0]), TcpSocket(fds[1])};
}

TcpMessage* message_of(TcpPool& pool, size_t bytes, uint8_t first) {
  TcpMessage* message = pool.take(bytes);
  for (size_t i = 0; i < bytes; ++i) message->payload()[i] = static_cast<uint8_t>(first + i * 7);
  message->crc = crc32c(0, message->payload(), bytes);
  return message;
}

std::string frame_of(uint64_t number, const std::string& payload) {
  const TcpHeader header =
      make_tcp_header(TcpFrame::kData, number, payload.size(), crc32c(0, payload.data(), payload.size()));
  return std::string(reinterpret_cast<const char*>(&header), sizeof header) + payload;
}

// What a stream that expects `bytes` bytes as message 0 of rank 1 makes of `wire`.
TcpMoved pull_of(const std::string& wire, size_t bytes) {
  auto [near, far] = pair_of_sockets();
  EXPECT_EQ(::send(far.get(), wire.data(), wire.size(), 0), static_cast<ssize_t>(wire.size()));
  TcpPool pool;
  TcpStream stream(std::move(near), 0, 1, &pool);
  stream.expect(pool.take(bytes), 0);
  TcpMoved moved = stream.pull();
  EXPECT_EQ(stream.has_arrived(), moved.wrong.ok());
  return moved;
}

TEST(TcpStream, AMessageArrivesWhateverPiecesItComesIn) {
  auto [near, far] = pair_of_sockets();
  TcpPool pool;
  TcpStream stream(std::move(near), 0, 1, &pool);
  const std::string wire = frame_of(0, "the first message") + frame_of(1, "x") + frame_of(2, "and another");
  for (const size_t bytes : {17, 1, 11})
    stream.expect(pool.take(bytes), bytes == 17 ? 0 : bytes == 1 ? 1 : 2);
  std::string got;
  for (const char byte : wire) {
    ASSERT_EQ(::send(far.get(), &byte, 1, 0), 1);
    const TcpMoved moved = stream.pull();
    ASSERT_TRUE(moved.wrong.ok()) << moved.wrong.message();
    EXPECT_EQ(moved.bytes, 1u);
    while (stream.has_arrived()) {
      TcpMessage* message = stream.take();
      got.append(reinterpret_cast<char*>(message->payload()), message->bytes);
      pool.release(message);
    }
  }
  EXPECT_EQ(got, "the first messagexand another");
}

TEST(TcpStream, ManySmallAndHugeMessagesPassASocketThatTakesLittle) {
  auto [near, far] = pair_of_sockets();
  const int little = 4096;
  ::setsockopt(near.get(), SOL_SOCKET, SO_SNDBUF, &little, sizeof little);
  TcpPool pool;
  TcpStream out(std::move(near), 0, 1, &pool);
  TcpStream in(std::move(far), 1, 0, &pool);
  const auto bytes_of = [](uint64_t i) { return size_t{1} + (i % 97 == 96 ? 700000 : i * 13 % 900); };
  constexpr uint64_t kMessages = 500;
  for (uint64_t i = 0; i < kMessages; ++i) {
    TcpMessage* message = message_of(pool, bytes_of(i), static_cast<uint8_t>(i));
    out.queue(message, i);
    pool.release(message);
    in.expect(pool.take(bytes_of(i)), i);
  }
  uint64_t arrived = 0;
  while (arrived < kMessages) {
    ASSERT_FALSE(out.push().closed);
    const TcpMoved moved = in.pull();
    ASSERT_TRUE(moved.wrong.ok()) << moved.wrong.message();
    for (; in.has_arrived(); ++arrived) {
      TcpMessage* message = in.take();
      ASSERT_EQ(message->bytes, bytes_of(arrived));
      ASSERT_EQ(message->payload()[message->bytes - 1],
                static_cast<uint8_t>(arrived + (message->bytes - 1) * 7));
      pool.release(message);
    }
  }
  EXPECT_FALSE(out.has_queued());
  EXPECT_EQ(out.queued_bytes(), 0u);
  EXPECT_EQ(pool.unsent_bytes(), 0u);
}

// CRC-32C detects every single flipped bit, of headers and payloads of these sizes.
TEST(TcpStream, EveryFlippedBitIsDetected) {
  const std::string sound = frame_of(0, "twenty bytes of data");
  EXPECT_TRUE(pull_of(sound, 20).wrong.ok());
  for (size_t bit = 0; bit < sound.size() * 8; ++bit) {
    std::string wire = sound;
    wire[bit / 8] = static_cast<char>(wire[bit / 8] ^ (1 << (bit % 8)));
    const TcpMoved moved = pull_of(wire, 20);
    ASSERT_FALSE(moved.wrong.ok()) << "bit " << bit;
    EXPECT_NE(moved.wrong.message().find("rank 1"), std::string::npos) << moved.wrong.message();
  }
}

TEST(TcpStream, LengthsNumbersAndTypesAreComparedNotBelieved) {
  EXPECT_EQ(pull_of(frame_of(0, "nineteen bytes, huh"), 20).wrong.code(), Code::kMismatch);
  EXPECT_EQ(pull_of(frame_of(0, "one-and-twenty bytes."), 20).wrong.code(), Code::kMismatch);
  EXPECT_EQ(pull_of(frame_of(1, "twenty bytes of data"), 20).wrong.code(), Code::kCorrupt);
  EXPECT_EQ(pull_of(std::string(100, 'x'), 20).wrong.code(), Code::kCorrupt);
  TcpHeader huge = make_tcp_header(TcpFrame::kData, 0, UINT64_MAX, 0);
  const std::string wire(reinterpret_cast<const char*>(&huge), sizeof huge);
  EXPECT_EQ(pull_of(wire, 20).wrong.code(), Code::kMismatch);
  const TcpHeader other = make_tcp_header(TcpFrame::kGoodbye, 0, 20, 0);
  EXPECT_EQ(pull_of(std::string(reinterpret_cast<const char*>(&other), sizeof other), 20).wrong.code(),
            Code::kCorrupt);
}

TEST(TcpStream, TheEndInTheMiddleOfAMessageIsSeen) {
  auto [near, far] = pair_of_sockets();
  const std::string wire = frame_of(0, "twenty bytes of data").substr(0, 40);
  ASSERT_EQ(::send(far.get(), wire.data(), wire.size(), 0), 40);
  far.reset();
  TcpPool pool;
  TcpStream stream(std::move(near), 0, 1, &pool);
  stream.expect(pool.take(20), 0);
  TcpMoved moved = stream.pull();
  if (!moved.closed) moved = stream.pull();
  EXPECT_TRUE(moved.closed);
  EXPECT_FALSE(stream.has_arrived());
}

TEST(TcpControl, TellsFailuresGoodbyesAndDeath) {
  for (const char what : {'f', 'g', 'd', 'n'}) {
    auto [near, far] = pair_of_sockets();
    TcpControl control(std::move(near), 3);
    EXPECT_EQ(control.look(), TcpControl::State::kOpen);
    {
      TcpControl peer(std::move(far), 0);
      if (what == 'f') peer.tell_failure(Code::kMismatch, 2, std::string(2000, 'w'));
      if (what == 'g') peer.say_goodbye();
      if (what == 'n') {
        EXPECT_EQ(::send(peer.fd(), "0123456789abcdef0123456789abcdef", 32, 0), 32);
      }
    }
    const TcpControl::State state = control.look();
    EXPECT_EQ(state, what == 'f'   ? TcpControl::State::kFailed
                     : what == 'g' ? TcpControl::State::kLeft
                                   : TcpControl::State::kLost);
    if (what != 'f') continue;
    int origin = -1;
    std::string words;
    EXPECT_EQ(control.told(4, &origin, &words).code(), Code::kMismatch);
    EXPECT_EQ(origin, 2);
    EXPECT_EQ(words, std::string(kTcpWords - 1, 'w'));
    EXPECT_EQ(control.told(2, &origin, &words).code(), Code::kMismatch);
    EXPECT_EQ(origin, 3) << "a rank that does not exist is not believed";
  }
}

TEST(TcpPool, MemoryComesBackOnceNobodyNeedsIt) {
  TcpPool pool;
  TcpMessage* message = pool.take(100000);
  const uint8_t* payload = message->payload();
  EXPECT_EQ(reinterpret_cast<uintptr_t>(payload) % 64, 0u);
  pool.add_unsent(message);
  pool.add_unsent(message);
  EXPECT_EQ(pool.unsent_messages(), 1u);
  EXPECT_GE(pool.unsent_bytes(), 100000u);
  pool.release(message);
  pool.sent(message);
  EXPECT_NE(pool.take(100000)->payload(), payload) << "a socket still needs it";
  pool.sent(message);
  EXPECT_EQ(pool.unsent_bytes(), 0u);
  EXPECT_EQ(pool.take(100000)->payload(), payload);
  for (size_t bytes = 1; bytes < (size_t{1} << 24); bytes = bytes * 9 / 8 + 1) {
    TcpMessage* any = pool.take(bytes);
    ASSERT_GE(any->capacity, bytes);
    ASSERT_LE(any->capacity, std::max<size_t>(4096, bytes * 5 / 4));
    pool.release(any);
  }
}

std::string change(size_t offset, char by) {
  std::string bytes(sizeof(TcpHello), '\0');
  bytes[offset] = by;
  return bytes;
}

TEST(TcpHandshake, NoiseAndSilenceOnThePortDoNotKeepRanksApart) {
  std::vector<std::string> visits(200);  // say nothing
  visits.push_back("GET / HTTP/1.1\r\n\r\n");
  visits.push_back(std::string(100000, '\xff'));
  visits.push_back("CGXT");  // stops there
  const std::string log = log_of_meeting_despite(visits);
  EXPECT_NE(log.find("its bytes are no hello of cgx"), std::string::npos) << log;
}

TEST(TcpHandshake, EveryFieldOfAForeignHelloIsRefusedByName) {
  const std::pair<size_t, const char*> fields[] = {
      {offsetof(TcpHello, magic), "no hello of cgx"}, {offsetof(TcpHello, version), "version"},
      {offsetof(TcpHello, byte_order), "byte order"}, {offsetof(TcpHello, from), "that it is rank"},
      {offsetof(TcpHello, to), "wants rank"},         {offsetof(TcpHello, size), "of 3"},
      {offsetof(TcpHello, stream), "socket 1 of 1"},  {offsetof(TcpHello, streams), "socket 0 of 0"},
      {offsetof(TcpHello, job_hash), "another job"},  {offsetof(TcpHello, nonce), "nonce"},
      {offsetof(TcpHello, nonce) + 15, "nonce"},      {sizeof(TcpHello) - 1, "damaged"}};
  for (const auto& [offset, words] : fields) {
    const std::string log = log_of_meeting_despite({change(offset, 1)});
    EXPECT_NE(log.find(words), std::string::npos) << words << ": " << log;
  }
}

TEST(TcpHandshake, DifferentNumbersOfSocketsAreNamed) {
  const std::unique_ptr<Store> store = make_memory_store();
  std::vector<std::thread> threads;
  for (const int rank : {0, 1}) {
    threads.emplace_back([&, rank] {
      TransportConfig config = config_of(store.get(), rank, 2);
      config.tcp_streams = 1u + static_cast<uint32_t>(rank);
      const auto opened = open_transport("tcp", config);
      EXPECT_EQ(opened.status().code(), Code::kMismatch) << opened.status().message();
      EXPECT_NE(opened.status().message().find("sockets a pair"), std::string::npos)
          << opened.status().message();
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(TcpHandshake, ACardOfAnotherVersionIsNamed) {
  const std::unique_ptr<Store> store = make_memory_store();
  TcpCard card;
  card.magic = kTcpAcceptMagic;
  card.version = 1;
  const std::string old(reinterpret_cast<const char*>(&card), 88);
  EXPECT_TRUE(store->set("cgx/host/1", host_identity(config_of(store.get(), 1, 2))).ok());
  EXPECT_TRUE(store->set("cgx/tcp/1", network_card()).ok());
  EXPECT_TRUE(store->set("cgx/tcp.card/1", old).ok());
  const auto opened = open_transport("tcp", config_of(store.get(), 0, 2));
  EXPECT_EQ(opened.status().code(), Code::kMismatch) << opened.status().message();
  EXPECT_NE(opened.status().message().find("protocol (1) than rank 0 (2)"), std::string::npos)
      << opened.status().message();
}

// A store in which rank 1's round trip reads as `said`.
class FalseTrip final : public Store {
 public:
  FalseTrip(Store* store, std::string said) : store_(store), said_(std::move(said)) {}
  Status set(const std::string& key, const std::string& value) override { return store_->set(key, value); }
  Result<std::string> get(const std::string& key, int64_t timeout_ms) override {
    Result<std::string> value = store_->get(key, timeout_ms);
    return value.ok() && key.ends_with("/tcp.trip/1") ? said_ : value;
  }

 private:
  Store* store_;
  const std::string said_;
};

TEST(TcpRoundTrip, IsTheLongestThatAnyRankMeasured) {
  const std::unique_ptr<Store> store = make_memory_store();
  std::array<int64_t, 3> trips = {};
  std::vector<std::thread> threads;
  for (const int rank : {0, 1, 2}) {
    threads.emplace_back([&, rank] {
      FalseTrip view(store.get(), "123456");
      const auto opened = open_transport("tcp", config_of(rank == 1 ? store.get() : &view, rank, 3));
      ASSERT_TRUE(opened.ok()) << opened.status().message();
      trips[static_cast<size_t>(rank)] = (*opened)->links().round_trip_us;
      EXPECT_EQ((*opened)->links().streams, 1u);
      EXPECT_FALSE((*opened)->links().shared_inside);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(trips[0], 123456);
  EXPECT_EQ(trips[2], 123456);
  EXPECT_GT(trips[1], 0);
  EXPECT_LT(trips[1], 123456) << "what it measured on loopback";
}

TEST(TcpRoundTrip, WhatIsNoneIsAnErrorThatNamesTheRank) {
  for (const char* said : {"", "-1", "12x", "4294967296", "a long time"}) {
    const std::unique_ptr<Store> store = make_memory_store();
    std::vector<std::thread> threads;
    for (const int rank : {0, 1}) {
      threads.emplace_back([&, rank] {
        FalseTrip view(store.get(), said);
        const auto opened = open_transport("tcp", config_of(rank == 1 ? store.get() : &view, rank, 2));
        if (rank == 1) return;  // has gone on, and hears of it in its first collective
        EXPECT_EQ(opened.status().code(), Code::kMismatch) << opened.status().message();
        EXPECT_NE(opened.status().message().find("rank 1 left \"" + std::string(said)), std::string::npos)
            << opened.status().message();
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
}

TEST(TcpHandshake, AnUnknownInterfaceIsNamedOnAllRanks) {
  const std::unique_ptr<Store> store = make_memory_store();
  std::vector<std::thread> threads;
  for (const int rank : {0, 1}) {
    threads.emplace_back([&, rank] {
      TransportConfig config = config_of(store.get(), rank, 2, 20000);
      config.interface_name = rank == 0 ? "nosuch0" : "lo";
      const auto opened = open_transport("tcp", config);
      ASSERT_FALSE(opened.ok());
      EXPECT_EQ(opened.status().code(), rank == 0 ? Code::kInvalidArgument : Code::kPeerFailed);
      EXPECT_NE(opened.status().message().find("nosuch0"), std::string::npos) << opened.status().message();
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace cgx::test
