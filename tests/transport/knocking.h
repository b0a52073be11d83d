// Visitors at the door of a rank that waits for its peers: they read its card in the store, knock, and say
// what they like. The ranks must meet all the same.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/hash.h"
#include "base/log.h"
#include "ranks.h"
#include "transport/hosts.h"
#include "transport/network.h"
#include "transport/rendezvous.h"
#include "transport/store.h"
#include "transport/tcp_connect.h"
#include "transport/tcp_socket.h"
#include "transport/tcp_wire.h"

namespace cgx::test {

// A store in which a key may be set again: the test sets one of rank 1's before it comes.
class PatientStore final : public Store {
 public:
  explicit PatientStore(Store* store) : store_(store) {}
  Status set(const std::string& key, const std::string& value) override {
    return store_->try_get(key).ok() ? Status() : store_->set(key, value);
  }
  Result<std::string> get(const std::string& key, int64_t timeout_ms) override {
    return store_->get(key, timeout_ms);
  }

 private:
  Store* store_;
};

// A connection to the port on which a rank listens, before its peers come.
inline TcpSocket knock(const TcpCard& card) {
  TcpSocket socket(::socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(card.port);
  ::inet_pton(AF_INET, card.address, &address.sin_addr);
  EXPECT_EQ(::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  return socket;
}

// What rank 1 of 2 would say, had it read that card.
inline TcpHello hello_for(const TcpCard& card) {
  TcpHello hello;
  hello.magic = kTcpConnectMagic;
  hello.from = 1;
  hello.size = 2;
  hello.streams = 1;
  hello.job_hash = hash_of("cgx");
  std::memcpy(hello.nonce, card.nonce, sizeof hello.nonce);
  hello.crc = tcp_crc(hello);
  return hello;
}

inline Status exchange(Transport& t) {
  const int peers[] = {1 - t.rank()};
  CGX_RETURN_IF_ERROR(t.post(peers[0], 3));
  CGX_ASSIGN_OR_RETURN(uint8_t * out, t.acquire(3, {20000, "scatter"}));
  std::memcpy(out, "abc", 3);
  CGX_RETURN_IF_ERROR(t.send(out, 3, peers));
  t.release(out);
  CGX_ASSIGN_OR_RETURN(const uint8_t* in, t.receive(peers[0], 3, {20000, "scatter"}));
  EXPECT_EQ(std::memcmp(in, "abc", 3), 0);
  return t.flush({20000, "scatter"});
}

// Visitors knock at rank 0's door, and then rank 1 comes: the two meet all the same. Returns the log.
inline std::string log_of_meeting_despite(const std::vector<std::string>& visits,
                                          const std::string& secret = "") {
  std::mutex mutex;
  std::string lines;
  set_log(
      [&](LogLevel, const char* line) {
        const std::lock_guard lock(mutex);
        lines += std::string(line) + "\n";
      },
      LogLevel::kWarn);
  const std::unique_ptr<Store> memory = make_memory_store();
  PatientStore store(memory.get());
  const auto open = [&](int rank) {
    TransportConfig config = config_of(&store, rank, 2);
    config.secret = secret;
    auto transport = open_transport("tcp", config);
    ASSERT_TRUE(transport.ok()) << transport.status().message();
    const Status exchanged = exchange(**transport);
    EXPECT_TRUE(exchanged.ok()) << exchanged.message();
  };
  std::thread zero(open, 0);
  EXPECT_TRUE(store.set("cgx/host/1", host_identity(config_of(&store, 1, 2))).ok());
  EXPECT_TRUE(store.set("cgx/tcp/1", network_card()).ok());  // rank 0 goes on to listen
  const auto text = store.get("cgx/tcp.card/0", 20000);
  EXPECT_TRUE(text.ok() && text->size() == sizeof(TcpCard));
  TcpCard card;
  if (text.ok()) std::memcpy(&card, text->data(), sizeof card);
  std::vector<TcpSocket> visitors;
  for (std::string bytes : visits) {
    visitors.push_back(knock(card));
    if (bytes.size() == sizeof(TcpHello)) {  // changes to a hello, byte by byte
      TcpHello hello = hello_for(card);
      std::string said(reinterpret_cast<const char*>(&hello), sizeof hello);
      for (size_t i = 0; i < said.size(); ++i) said[i] = static_cast<char>(said[i] ^ bytes[i]);
      const bool damaged = bytes.back() != 0;
      std::memcpy(&hello, said.data(), sizeof hello);
      if (!damaged) hello.crc = tcp_crc(hello);
      bytes.assign(reinterpret_cast<const char*>(&hello), sizeof hello);
    }
    EXPECT_EQ(::send(visitors.back().get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
  }
  std::thread one(open, 1);
  zero.join();
  one.join();
  set_log(nullptr, LogLevel::kWarn);
  for (TcpSocket& visitor : visitors) {
    char answer = 0;
    EXPECT_LE(::recv(visitor.get(), &answer, 1, 0), 0) << "a visitor got an answer";
  }
  return lines;
}

}  // namespace cgx::test
