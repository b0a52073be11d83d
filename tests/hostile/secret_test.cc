// R16: ranks whose secrets differ, in every way that they can, never meet, are told so on both sides at once,
// and strangers do not keep those who share one apart.
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <random>
#include <thread>

#include "base/hmac.h"
#include "knocking.h"
#include "options.h"
#include "ports.h"
#include "transport/store_tcp_session.h"
#include "transport/tcp_handshake.h"

namespace cgx::test {
namespace {

constexpr const char* kSecret = "correct horse battery staple";

// Rank `rank` of 2, with `secret` where it is not "".
Status open_and_exchange(const char* transport, Store* store, int rank, const std::string& secret) {
  std::unique_ptr<Store> own;
  if (!secret.empty()) own = make_signed_store(store, secret);
  TransportConfig config = config_of(own ? own.get() : store, rank, 2, 20000);
  config.secret = secret;
  CGX_ASSIGN_OR_RETURN(const std::unique_ptr<Transport> opened, open_transport(transport, config));
  return exchange(*opened);
}

std::vector<Status> meet_with(const char* transport, const std::string& zero, const std::string& one) {
  const std::unique_ptr<Store> store = make_memory_store();
  std::vector<Status> statuses(2);
  std::thread other([&] { statuses[1] = open_and_exchange(transport, store.get(), 1, one); });
  statuses[0] = open_and_exchange(transport, store.get(), 0, zero);
  other.join();
  return statuses;
}

// What the other rank's secret may be, when one is kSecret.
std::vector<std::string> other_secrets() {
  const std::string secret = kSecret;
  return {"",
          "another secret altogether",
          secret + "x",
          secret.substr(1),
          "Correct horse battery staple",
          std::string(100, 'x')};
}

TEST(Secret, RanksThatShareOneMeetOverEveryTransport) {
  for (const char* transport : {"local", "shm", "tcp", "auto"}) {
    for (const Status& status : meet_with(transport, kSecret, kSecret)) {
      EXPECT_TRUE(status.ok()) << transport << ": " << status.message();
    }
  }
}

TEST(Secret, AnotherAMissingOrAOneSidedOneIsNamedOnBothSidesAtOnce) {
  int pairs = 0;
  for (uint64_t turn = 0; turn < times(1); ++turn) {
    for (const char* transport : {"tcp", "shm"}) {
      for (const std::string& other : other_secrets()) {
        for (const bool swapped : {false, true}) {
          const auto begin = std::chrono::steady_clock::now();
          const auto statuses =
              swapped ? meet_with(transport, other, kSecret) : meet_with(transport, kSecret, other);
          ++pairs;
          EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(15))
              << "it waited for the timeout, 20 s";
          for (const int rank : {0, 1}) {
            const std::string& words = statuses[static_cast<size_t>(rank)].message();
            EXPECT_EQ(statuses[static_cast<size_t>(rank)].code(), Code::kMismatch) << words;
            EXPECT_NE(words.find(rank == 0 ? "rank 1" : "rank 0"), std::string::npos) << words;
            EXPECT_NE(words.find("secret"), std::string::npos) << words;
          }
        }
      }
    }
  }
  std::printf("R16: %d pairs of ranks with differing secrets, all told on both sides\n", pairs);
}

TEST(Secret, TheTcpStoreTellsBothSides) {
  for (const std::string& other : other_secrets()) {
    for (const bool server_has_other : {false, true}) {
      const uint16_t port = free_port();
      const std::string of_server = server_has_other ? other : kSecret;
      const std::string of_client = server_has_other ? kSecret : other;
      const auto server = make_tcp_store({"127.0.0.1", port, 0, 5000, of_server});
      ASSERT_TRUE(server.ok()) << server.status().message();
      const auto client = make_tcp_store({"127.0.0.1", port, 1, 5000, of_client});
      ASSERT_FALSE(client.ok());
      EXPECT_EQ(client.status().code(), Code::kMismatch);
      EXPECT_NE(client.status().message().find("secret"), std::string::npos) << client.status().message();
      EXPECT_NE(client.status().message().find("rank 0"), std::string::npos) << client.status().message();
      const Status missing = meet(server->get(), 0, 2, "job", 300);
      EXPECT_EQ(missing.code(), Code::kTimeout);
      EXPECT_NE(missing.message().find("rank 1 was refused"), std::string::npos) << missing.message();
      EXPECT_NE(missing.message().find("secret"), std::string::npos) << missing.message();
      EXPECT_NE(missing.message().find("127.0.0.1:"), std::string::npos) << missing.message();
      const auto right = make_tcp_store({"127.0.0.1", port, 1, 5000, of_server});
      EXPECT_TRUE(right.ok()) << "who shares the secret comes in after a stranger, too";
    }
  }
}

TEST(Secret, ARankThatReadTheStoreButHasNoSecretIsTurnedAwayAtTheDoor) {
  const std::string nothing(sizeof(TcpHello), '\0');  // a hello that is right but for its proof
  std::string guess = nothing;
  for (size_t i = 0; i < 32; ++i) guess[offsetof(TcpHello, proof) + i] = static_cast<char>(i + 1);
  const std::string log = log_of_meeting_despite({nothing, guess}, kSecret);
  EXPECT_NE(log.find("it proves no secret, and this rank has one"), std::string::npos) << log;
  EXPECT_NE(log.find("its secret is another than this rank's"), std::string::npos) << log;
  EXPECT_NE(log_of_meeting_despite({guess}).find("it proves a secret, and this rank has none"),
            std::string::npos);
}

struct Pair {
  TcpSelf visitor, host;
};

Pair random_pair(std::mt19937_64& random) {
  TcpSelf host = {0, 4, 2, random(), {{random(), random()}}, {}};
  for (int i = 0; i < 24; ++i) host.secret += static_cast<char>(random());
  host.rank = static_cast<int>(random() % 3);
  TcpSelf visitor = host;
  visitor.rank = host.rank + 1 + static_cast<int>(random() % static_cast<uint64_t>(3 - host.rank));
  visitor.nonce = {{random(), random()}};
  return {visitor, host};
}

// What the host makes of the visitor's hello, knowing the visitor's nonce from its card.
bool accepts(const TcpSelf& host, const TcpHello& hello, const TcpNonce& visitors) {
  return fault_of_visitor(host, hello).empty() && fault_of_proof(host, hello, visitors).empty();
}

TEST(Secret, AProofHoldsForItsFieldsNoncesRoleAndSecretOnly) {
  std::mt19937_64 random(1);
  const uint64_t turns = times(2000);
  uint64_t refused = 0;
  for (uint64_t i = 0; i < turns; ++i) {
    auto [visitor, host] = random_pair(random);
    const TcpHello right = *make_hello(visitor, host.rank, host.nonce, kTcpControl, kTcpConnectMagic);
    ASSERT_TRUE(accepts(host, right, visitor.nonce));
    const size_t bit = random() % (visitor.secret.size() * 8);
    TcpSelf other = visitor;
    other.secret[bit / 8] = static_cast<char>(other.secret[bit / 8] ^ 1 << bit % 8);
    const TcpHello guess = *make_hello(other, host.rank, host.nonce, kTcpControl, kTcpConnectMagic);
    // Any bit of a heard hello changed, the checksum made to fit.
    TcpHello changed = right;
    const size_t at = random() % (offsetof(TcpHello, zero) * 8);
    reinterpret_cast<uint8_t*>(&changed)[at / 8] ^= static_cast<uint8_t>(1 << at % 8);
    changed.crc = tcp_crc(changed);
    // Heard in an earlier run of the same job, in which the visitor's nonce was another.
    TcpNonce later = visitor.nonce;
    later.words[random() % 2] ^= uint64_t{1} << random() % 64;
    // The host's own words, sent back to it.
    TcpHello echo = *make_hello(host, visitor.rank, visitor.nonce, kTcpControl, kTcpAcceptMagic);
    echo.magic = kTcpConnectMagic;
    std::swap(echo.from, echo.to);
    std::memcpy(echo.nonce, &host.nonce, sizeof echo.nonce);
    echo.crc = tcp_crc(echo);
    ASSERT_FALSE(accepts(host, guess, visitor.nonce)) << "another secret, turn " << i;
    ASSERT_FALSE(accepts(host, changed, visitor.nonce)) << "bit " << at << ", turn " << i;
    ASSERT_FALSE(accepts(host, right, later)) << "an earlier run's, turn " << i;
    ASSERT_FALSE(accepts(host, echo, visitor.nonce)) << "an echo, turn " << i;
    refused += 4;
  }
  std::printf("R16: %llu proofs that are none, all refused; %llu right ones accepted\n",
              static_cast<unsigned long long>(refused), static_cast<unsigned long long>(turns));
}

// What a session with `of_server` makes of a client with `of_client`.
bool store_accepts(const std::string& of_server, const std::string& of_client, bool echo,
                   std::mt19937_64& random) {
  const uint64_t nonce[2] = {random(), random()};
  StoreSession session(of_server, nonce);
  store_tcp::ClientHello hello;
  hello.flags = store_tcp::kHasSecret;
  hello.nonce[0] = random();
  session.feed({reinterpret_cast<const char*>(&hello), sizeof hello});
  StoreRequest request;
  EXPECT_EQ(session.next(&request), StoreSession::Step::kTook);
  store_tcp::ServerHello answer;
  EXPECT_EQ(session.out.size(), sizeof answer);
  std::memcpy(&answer, session.out.data(), sizeof answer);
  Mac mac = *store_tcp::client_proof(of_client, hello, answer);
  if (echo) std::memcpy(mac.data(), answer.proof, mac.size());
  session.feed({reinterpret_cast<const char*>(mac.data()), mac.size()});
  return session.next(&request) == StoreSession::Step::kTook && session.greeted();
}

TEST(Secret, TheStoresSessionsOpenToTheSecretOnly) {
  std::mt19937_64 random(2);
  for (uint64_t i = 0; i < times(2000); ++i) {
    std::string secret;
    for (int k = 0; k < 20; ++k) secret += static_cast<char>(random());
    std::string other = secret;
    other[random() % 20] ^= static_cast<char>(1 << random() % 8);
    ASSERT_TRUE(store_accepts(secret, secret, false, random));
    ASSERT_FALSE(store_accepts(secret, other, false, random));
    ASSERT_FALSE(store_accepts(secret, secret, true, random)) << "the server's own proof, sent back";
  }
}

TEST(Secret, AValueInTheStoreHoldsForItsKeyAndSecretOnly) {
  const std::unique_ptr<Store> below = make_memory_store();
  const std::unique_ptr<Store> store = make_signed_store(below.get(), kSecret);
  ASSERT_TRUE(store->set("job/tcp/1", "10.0.0.2").ok());
  EXPECT_EQ(*store->get("job/tcp/1", 0), "10.0.0.2");
  const std::string stored = *below->get("job/tcp/1", 0);
  for (size_t bit = 0; bit < stored.size() * 8; ++bit) {
    std::string changed = stored;
    changed[bit / 8] = static_cast<char>(changed[bit / 8] ^ 1 << bit % 8);
    const std::string key = fmt::format("key {}", bit);
    const std::unique_ptr<Store> other_below = make_memory_store();
    ASSERT_TRUE(other_below->set("job/tcp/1", changed).ok());
    EXPECT_EQ(make_signed_store(other_below.get(), kSecret)->get("job/tcp/1", 0).status().code(),
              Code::kMismatch);
  }
  ASSERT_TRUE(below->set("job/tcp/2", stored).ok());
  EXPECT_EQ(store->get("job/tcp/2", 0).status().code(), Code::kMismatch) << "another rank's card";
  EXPECT_EQ(store->get("job/tcp/3", 0).status().code(), Code::kTimeout) << "nobody's";
}

// The number is Python's, of hmac.new(b"Jefe", b"\x05label" + length + b"what do ya want" + length, sha256):
// lengths are eight bytes, little-endian, and come before what they are of.
TEST(Hmac, IsHmacSha256OverLabelAndPartsWithTheirLengths) {
  const Mac one = *hmac_sha256("Jefe", "label", {bytes_of(std::string_view("what do ya want")), {}});
  std::string hex;
  for (const uint8_t byte : one) hex += fmt::format("{:02x}", byte);
  EXPECT_EQ(hex, "8116fa19173b93548aad608ddf1f7a6237d9b93e32c5aa38e795dbde5d8e2b19");
  const Mac split = *hmac_sha256(
      "Jefe", "label", {bytes_of(std::string_view("what do")), bytes_of(std::string_view(" ya want"))});
  const Mac label = *hmac_sha256("Jefe", "labe", {bytes_of(std::string_view("what do ya want")), {}});
  EXPECT_TRUE(
      equal_macs(one, *hmac_sha256("Jefe", "label", {bytes_of(std::string_view("what do ya want")), {}})));
  EXPECT_FALSE(equal_macs(one, split));
  EXPECT_FALSE(equal_macs(one, label));
}

}  // namespace
}  // namespace cgx::test
