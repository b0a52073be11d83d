// One suite over every store (threads as ranks), then what is special to files and to the tcp server,
// whose clients may send anything.
#include "transport/store.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <random>
#include <thread>
#include <vector>

#include "ports.h"
#include "transport/rendezvous.h"
#include "transport/store_tcp_wire.h"

namespace cgx {
namespace {

using test::free_port;
using test::loopback;
using Clock = std::chrono::steady_clock;

int64_t ms_since(Clock::time_point begin) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - begin).count();
}

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string pattern = std::filesystem::temp_directory_path() / "cgx-store-XXXXXX";
    path_ = ::mkdtemp(pattern.data());
  }
  ~TemporaryDirectory() { std::filesystem::remove_all(path_); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

std::unique_ptr<Store> must(Result<std::unique_ptr<Store>> store) {
  EXPECT_TRUE(store.ok()) << store.status().message();
  return store.ok() ? std::move(store).value() : nullptr;
}

// ---- Every store --------------------------------------------------------------------------------

class Stores : public testing::TestWithParam<const char*> {
 protected:
  // The store of one rank; rank 0's must be made first.
  Store* of_rank(size_t rank) {
    const std::string kind = GetParam();
    if (kind == "memory") rank = 0;  // one for all
    while (stores_.size() <= rank) {
      if (kind == "file") {
        stores_.push_back(must(make_file_store(directory_.path())));
      } else if (kind == "tcp") {
        stores_.push_back(must(make_tcp_store({"127.0.0.1", port_, static_cast<int>(stores_.size()), 5000})));
      } else {
        stores_.push_back(make_memory_store());
      }
    }
    return stores_[rank].get();
  }

  // A serving store waits for its clients to leave, so they leave first.
  void TearDown() override {
    while (!stores_.empty()) stores_.pop_back();
  }

 private:
  TemporaryDirectory directory_;
  uint16_t port_ = free_port();
  std::vector<std::unique_ptr<Store>> stores_;
};

INSTANTIATE_TEST_SUITE_P(All, Stores, testing::Values("memory", "file", "tcp"),
                         [](const auto& suite) { return std::string(suite.param); });

TEST_P(Stores, WhatOneRankSetsAnotherGets) {
  Store* zero = of_rank(0);
  Store* one = of_rank(1);
  std::string bytes = "any \0 bytes \xff / ";
  bytes.resize(60000, '\x7f');
  ASSERT_TRUE(one->set("job/a key/with \x01 signs%", bytes).ok());
  const auto got = zero->get("job/a key/with \x01 signs%", 1000);
  ASSERT_TRUE(got.ok()) << got.status().message();
  EXPECT_EQ(*got, bytes);
  ASSERT_TRUE(zero->set("empty", "").ok());
  EXPECT_EQ(*one->get("empty", 1000), "");
}

TEST_P(Stores, AnUnsetKeyTimesOutAndIsNamed) {
  Store* store = of_rank(0);
  const auto begin = Clock::now();
  const auto got = store->get("nobody/sets/this", 60);
  ASSERT_FALSE(got.ok());
  EXPECT_EQ(got.status().code(), Code::kTimeout);
  EXPECT_NE(got.status().message().find("nobody/sets/this"), std::string::npos) << got.status().message();
  EXPECT_GE(ms_since(begin), 60);
  EXPECT_EQ(store->try_get("nobody/sets/this").status().code(), Code::kTimeout);
}

TEST_P(Stores, ASecondSetOfAKeyIsRefused) {
  ASSERT_TRUE(of_rank(0)->set("key", "first").ok());
  const Status second = of_rank(1)->set("key", "second");
  EXPECT_EQ(second.code(), Code::kInvalidArgument);
  EXPECT_NE(second.message().find("\"key\""), std::string::npos) << second.message();
  EXPECT_EQ(*of_rank(1)->get("key", 0), "first");
}

TEST_P(Stores, AWaitingGetReturnsWhenTheKeyComes) {
  Store* zero = of_rank(0);
  Store* one = of_rank(1);
  std::thread waiter([&] {
    const auto got = one->get("late", 10000);
    ASSERT_TRUE(got.ok()) << got.status().message();
    EXPECT_EQ(*got, "value");
    EXPECT_TRUE(one->set("seen", "").ok());
  });
  EXPECT_TRUE(zero->set("late", "value").ok());
  EXPECT_TRUE(zero->get("seen", 10000).ok());
  waiter.join();
}

TEST_P(Stores, AnotherThreadIsNotHeldUpByOneThatWaits) {
  Store* store = of_rank(0);
  std::thread waiter([&] { EXPECT_TRUE(store->get("late", 30000).ok()); });
  EXPECT_TRUE(store->set("other", "value").ok());
  EXPECT_TRUE(store->get("other", 1000).ok());
  EXPECT_TRUE(store->set("late", "").ok());  // never, if the waiter kept the store to itself
  waiter.join();
}

TEST_P(Stores, AllRanksMeetAndReadEachOthersCards) {
  constexpr int kSize = 5;
  for (size_t rank = 0; rank < kSize; ++rank) of_rank(rank);
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < kSize; ++rank) {
    ranks.emplace_back([&, rank] {
      const auto cards = meet(of_rank(static_cast<size_t>(rank)), {rank, kSize, "job", "start", 10000},
                              fmt::format("card of {}", rank));
      ASSERT_TRUE(cards.ok()) << cards.status().message();
      for (int r = 0; r < kSize; ++r)
        EXPECT_EQ((*cards)[static_cast<size_t>(r)], fmt::format("card of {}", r));
    });
  }
  for (std::thread& thread : ranks) thread.join();
}

TEST_P(Stores, MissingRanksAreNamed) {
  ASSERT_TRUE(of_rank(1)->set("job/start/1", "").ok());
  const Status status = meet(of_rank(0), 0, 4, "job", 50);
  EXPECT_EQ(status.code(), Code::kTimeout);
  EXPECT_NE(status.message().find("ranks 2 and 3 of 4 did not come within 50 ms"), std::string::npos)
      << status.message();
}

TEST_P(Stores, AFailureIsFoundByTheOthers) {
  publish_failure(of_rank(0), "job", 2, error(Code::kTimeout, "rank 3 sent nothing"));
  EXPECT_EQ(find_failure(of_rank(1), "job", 0, 4), "rank 2 failed: rank 3 sent nothing");
  EXPECT_EQ(find_failure(of_rank(1), "job", 2, 4), "");
  EXPECT_EQ(find_failure(of_rank(1), "other", 0, 4), "");
}

TEST(Rendezvous, RanksAreNamedAsASentenceWould) {
  EXPECT_EQ(name_ranks({2}), "rank 2");
  EXPECT_EQ(name_ranks({2, 3}), "ranks 2 and 3");
  EXPECT_EQ(name_ranks({1, 2, 3}), "ranks 1, 2 and 3");
}

// ---- Processes ----------------------------------------------------------------------------------

// Runs body(rank) in a process each; true from all means success.
void run_processes(int size, const std::function<bool(int)>& body) {
  std::vector<pid_t> children;
  for (int rank = 0; rank < size; ++rank) {
    const pid_t child = ::fork();
    if (child == 0) ::_exit(body(rank) ? 0 : 1);
    children.push_back(child);
  }
  for (const pid_t child : children) {
    int status = 0;
    ::waitpid(child, &status, 0);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << "process " << child;
  }
}

TEST(FileStore, ProcessesMeetInADirectoryThatTheyMake) {
  const TemporaryDirectory parent;
  const std::string directory = parent.path() + "/new/one";
  run_processes(4, [&](int rank) {
    auto store = make_file_store(directory);
    return store.ok() && meet(store->get(), rank, 4, "job", 10000).ok();
  });
}

TEST(TcpStore, ProcessesMeetThoughTheServerComesLastAndLeavesFirst) {
  const uint16_t port = free_port();
  run_processes(4, [&](int rank) {
    // Ranks above 0 find nobody at first, and rank 0 destroys its store while they still ask.
    if (rank == 0) ::usleep(50000);
    auto store = make_tcp_store({"localhost", port, rank, 10000});
    if (!store.ok() || !meet(store->get(), rank, 4, "job", 10000).ok()) return false;
    if (rank == 0) return true;
    ::usleep(100000);
    return store.value()->get("job/start/0", 1000).ok();
  });
}

// ---- Files --------------------------------------------------------------------------------------

TEST(FileStore, LeftoversOfAnEarlierRunAreNamedWithWhatToDo) {
  const TemporaryDirectory directory;
  ASSERT_TRUE(meet(must(make_file_store(directory.path())).get(), 0, 1, "job", 1000).ok());
  const Status again = meet(must(make_file_store(directory.path())).get(), 0, 1, "job", 1000);
  EXPECT_EQ(again.code(), Code::kInvalidArgument);
  EXPECT_NE(again.message().find("Remove " + directory.path()), std::string::npos) << again.message();
}

TEST(FileStore, AnUnusableDirectoryIsAnErrorThatNamesIt) {
  const TemporaryDirectory directory;
  const std::string file = directory.path() + "/file";
  std::ofstream(file) << "x";
  for (const std::string& path : {file, file + "/below", std::string("/proc/cgx"), std::string()}) {
    const auto store = make_file_store(path);
    ASSERT_FALSE(store.ok()) << path;
    EXPECT_EQ(store.status().code(), Code::kInvalidArgument);
    EXPECT_NE(store.status().message().find(path), std::string::npos) << store.status().message();
  }
}

TEST(FileStore, ALongKeyIsRefusedBeforeTheFileSystemDoes) {
  const TemporaryDirectory directory;
  const auto store = must(make_file_store(directory.path()));
  EXPECT_EQ(store->set(std::string(300, 'k'), "").code(), Code::kInvalidArgument);
  EXPECT_TRUE(store->set(std::string(200, 'k'), "").ok());
}

TEST(FileStore, NothingButKeysStaysInTheDirectory) {
  const TemporaryDirectory directory;
  const auto store = must(make_file_store(directory.path()));
  ASSERT_TRUE(store->set("../a", "1").ok());
  ASSERT_FALSE(store->set("../a", "2").ok());
  size_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(directory.path()))
    files += entry.is_regular_file();
  EXPECT_EQ(files, 1u);
}

// ---- The tcp server -----------------------------------------------------------------------------

TEST(TcpStore, NobodyThereIsAnErrorThatNamesTheAddress) {
  const uint16_t port = free_port();
  const auto begin = Clock::now();
  const auto store = make_tcp_store({"127.0.0.1", port, 1, 100});
  ASSERT_FALSE(store.ok());
  EXPECT_EQ(store.status().code(), Code::kTimeout);
  EXPECT_NE(store.status().message().find(fmt::format("127.0.0.1:{}", port)), std::string::npos);
  EXPECT_NE(store.status().message().find("refused"), std::string::npos) << store.status().message();
  EXPECT_LT(ms_since(begin), 5000);
}

TEST(TcpStore, APortInUseIsAnErrorThatNamesIt) {
  const uint16_t port = free_port();
  const auto first = must(make_tcp_store({"127.0.0.1", port, 0, 1000}));
  const auto second = make_tcp_store({"127.0.0.1", port, 0, 1000});
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.status().code(), Code::kResource);
  EXPECT_NE(second.status().message().find(std::to_string(port)), std::string::npos)
      << second.status().message();
}

TEST(TcpStore, IPv6ServesToo) {
  const uint16_t port = free_port();
  const auto server = make_tcp_store({"::1", port, 0, 1000});
  if (!server.ok()) GTEST_SKIP() << "no IPv6 loopback here: " << server.status().message();
  auto client = must(make_tcp_store({"::1", port, 1, 1000}));
  EXPECT_TRUE(client->set("a", "b").ok());
  EXPECT_EQ(*server.value()->get("a", 1000), "b");
  client.reset();
}

int raw_connection(uint16_t port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  const sockaddr_in address = loopback(port);
  EXPECT_EQ(::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  return fd;
}

void send_raw(int fd, const std::string& bytes) {
  static_cast<void>(::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL));
}

template <typename T>
std::string bytes_of(const T& value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof value);
}

// Reads until the server closes; false if it has not within 5 s.
bool server_closes(int fd) {
  char part[4096];
  for (;;) {
    pollfd p = {fd, POLLIN, 0};
    if (::poll(&p, 1, 5000) <= 0) return false;
    if (::recv(fd, part, sizeof part, 0) <= 0) return true;
  }
}

void expect_serves(uint16_t port) {
  static int count = 0;
  const std::string key = fmt::format("probe {}", count++);
  const auto client = must(make_tcp_store({"127.0.0.1", port, 1, 5000}));
  ASSERT_NE(client, nullptr);
  EXPECT_TRUE(client->set(key, "value").ok());
  EXPECT_EQ(*client->get(key, 1000), "value");
}

class HostileClients : public testing::Test {
 protected:
  const uint16_t port_ = free_port();
  const std::unique_ptr<Store> server_ = must(make_tcp_store({"127.0.0.1", port_, 0, 1000}));
  const std::string hello_ = bytes_of(store_tcp::ClientHello{});
};

TEST_F(HostileClients, ThatSendRandomBytesAreClosed) {
  std::mt19937 random(1);
  for (int i = 0; i < 200; ++i) {
    const int fd = raw_connection(port_);
    std::string bytes = i % 2 == 0 ? hello_ : "";
    for (int k = 0; k < 500; ++k) bytes += static_cast<char>(random());
    send_raw(fd, bytes);
    ::shutdown(fd, SHUT_WR);
    EXPECT_TRUE(server_closes(fd));
    ::close(fd);
  }
  expect_serves(port_);
}

TEST_F(HostileClients, ThatAnnounceHugeLengthsAreClosedAtTheHeader) {
  const store_tcp::RequestHeader headers[] = {{1, 0, 0xffff, 10, 0},          // key above its bound
                                              {1, 0, 10, 0xffffffff, 0},      // value above its bound
                                              {1, 0, 10, (1u << 16) + 1, 0},  // one above
                                              {2, 0, 10, 1, 0},               // a get with a value
                                              {0, 0, 1, 1, 0},
                                              {3, 0, 1, 1, 0}};  // no such operation
  for (const auto& header : headers) {
    const int fd = raw_connection(port_);
    send_raw(fd, hello_ + bytes_of(header));
    EXPECT_TRUE(server_closes(fd));
    ::close(fd);
  }
  expect_serves(port_);
}

TEST_F(HostileClients, ThatTalkWhileTheyWaitAreClosed) {
  const int fd = raw_connection(port_);
  const store_tcp::RequestHeader get = {2, 0, 3, 0, INT64_MAX};
  send_raw(fd, hello_ + bytes_of(get) + "key" + bytes_of(get) + "key");
  EXPECT_TRUE(server_closes(fd));
  ::close(fd);
  expect_serves(port_);
}

TEST_F(HostileClients, ThatNeverReadTheirRepliesAreServedNoFurther) {
  ASSERT_TRUE(server_->set("large", std::string(size_t{1} << 16, 'x')).ok());
  const int fd = raw_connection(port_);
  const store_tcp::RequestHeader get = {2, 0, 5, 0, 0};
  std::string requests = hello_;
  for (int i = 0; i < 20; ++i) requests += bytes_of(get) + "large";
  send_raw(fd, requests);
  expect_serves(port_);
  ::close(fd);
}

TEST_F(HostileClients, ThatKeepSilentByTheHundredsMakeRoomForRealOnes) {
  std::vector<int> idle;
  for (int i = 0; i < 700; ++i) idle.push_back(raw_connection(port_));
  expect_serves(port_);
  for (const int fd : idle) ::close(fd);
}

TEST_F(HostileClients, ThatDieWhileWaitingAreForgotten) {
  const int fd = raw_connection(port_);
  const store_tcp::RequestHeader get = {2, 0, 3, 0, 1000000};
  send_raw(fd, hello_ + bytes_of(get) + "key");
  ::close(fd);
  expect_serves(port_);
  EXPECT_TRUE(server_->set("key", "value").ok());
}

TEST(TcpStore, ATooLargeValueIsRefusedBeforeItIsSent) {
  const uint16_t port = free_port();
  const auto store = must(make_tcp_store({"127.0.0.1", port, 0, 1000}));
  EXPECT_EQ(store->set("key", std::string((size_t{1} << 16) + 1, 'x')).code(), Code::kInvalidArgument);
  EXPECT_EQ(store->set(std::string(2000, 'k'), "x").code(), Code::kInvalidArgument);
  EXPECT_TRUE(store->set("key", "x").ok());
}

TEST(TcpStore, AServerThatIsNoStoreIsRecognised) {
  const uint16_t port = free_port();
  const int listener = ::socket(AF_INET, SOCK_STREAM, 0);
  const sockaddr_in address = loopback(port);
  ASSERT_EQ(::bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(::listen(listener, 1), 0);
  std::thread other([&] {
    const int fd = ::accept(listener, nullptr, nullptr);
    char part[64];
    static_cast<void>(::recv(fd, part, sizeof part, 0));
    send_raw(fd, "HTTP/1.1 400 Bad Request\r\n");
    ::close(fd);
  });
  const auto store = make_tcp_store({"127.0.0.1", port, 1, 2000});
  other.join();
  ::close(listener);
  ASSERT_FALSE(store.ok());
  EXPECT_EQ(store.status().code(), Code::kMismatch);
  EXPECT_NE(store.status().message().find("no cgx store"), std::string::npos) << store.status().message();
}

TEST(TcpStore, AServerThatDiesIsAnErrorAndNoHang) {
  const uint16_t port = free_port();
  const pid_t server = ::fork();
  if (server == 0) {
    const auto store = make_tcp_store({"127.0.0.1", port, 0, 5000});
    ::pause();
    ::_exit(0);
  }
  const auto client = must(make_tcp_store({"127.0.0.1", port, 1, 5000}));
  std::thread killer([&] { ::kill(server, SIGKILL); });
  const auto got = client->get("never", 30000);
  killer.join();
  ::waitpid(server, nullptr, 0);
  ASSERT_FALSE(got.ok());
  EXPECT_EQ(got.status().code(), Code::kPeerFailed);
  EXPECT_EQ(client->set("key", "").code(), Code::kPeerFailed);
}

}  // namespace
}  // namespace cgx
