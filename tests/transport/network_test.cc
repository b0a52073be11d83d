// Which address a rank listens on: the words of CGX_SOCKET_IFNAME and CGX_SOCKET_FAMILY, IPv6, names that
// mean several addresses.
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

#include "base/config.h"
#include "ranks.h"
#include "transport/interfaces.h"
#include "transport/network.h"

namespace cgx::test {
namespace {

const std::vector<InterfaceAddress> kHost = {
    {"lo", "127.0.0.1", AF_INET, true, false},
    {"docker0", "172.17.0.1", AF_INET, false, false},
    {"eth1", "fe80::2%eth1", AF_INET6, false, true},
    {"eth1", "10.0.1.1", AF_INET, false, false},
    {"eth0", "fe80::1%eth0", AF_INET6, false, true},
    {"eth0", "fd00::1", AF_INET6, false, false},
    {"ib0", "10.1.0.1", AF_INET, false, false},
    {"ib", "10.2.0.1", AF_INET, false, false},
    {"lo", "::1", AF_INET6, true, false},
};

std::string chosen(std::string_view pattern, int family = 0) {
  const InterfaceAddress* one = choose_interface(kHost, pattern, family);
  return one == nullptr ? "none" : one->address;
}

TEST(Interfaces, AreChosenByPrefixByNameAndByExclusion) {
  EXPECT_EQ(chosen("eth"), "10.0.1.1") << "IPv4 before IPv6 among those that begin so";
  EXPECT_EQ(chosen("eth0"), "fd00::1") << "global addresses before those of the link";
  EXPECT_EQ(chosen("ib,eth"), "10.2.0.1") << "an exact name before one that only begins so";
  EXPECT_EQ(chosen("nosuch,ib0,eth"), "10.1.0.1") << "the first that is there";
  EXPECT_EQ(chosen("=ib0"), "10.1.0.1");
  EXPECT_EQ(chosen("=et,=ib"), "none");
  EXPECT_EQ(chosen("=eth1,ib0"), "10.0.1.1");
  EXPECT_EQ(chosen("^docker"), "10.0.1.1") << "never loopback, unless it is named";
  EXPECT_EQ(chosen("^docker,eth,ib0"), "10.2.0.1");
  EXPECT_EQ(chosen("^=ib,docker0,eth1,eth0"), "10.1.0.1");
  EXPECT_EQ(chosen("lo"), "127.0.0.1");
  EXPECT_EQ(chosen(""), "172.17.0.1");
  EXPECT_EQ(chosen("^docker,eth,ib"), "none");
}

TEST(Interfaces, OfOneFamilyOnlyWhereItIsAskedFor) {
  EXPECT_EQ(chosen("eth", AF_INET6), "fd00::1");
  EXPECT_EQ(chosen("eth1", AF_INET6), "fe80::2%eth1") << "of the link, as there is no other";
  EXPECT_EQ(chosen("eth0", AF_INET), "none");
  EXPECT_EQ(chosen("lo", AF_INET6), "::1");
}

TEST(Interfaces, AreListedWithTheirAddresses) {
  EXPECT_EQ(describe({kHost[0], kHost[1], kHost[8]}), "lo (127.0.0.1, ::1), docker0 (172.17.0.1)");
  EXPECT_EQ(describe({}), "none");
  EXPECT_NE(describe(*interface_addresses()).find("lo (127.0.0.1"), std::string::npos);
}

TEST(Interfaces, ThatCannotBeListedAreNotTakenForNone) {
  const std::unique_ptr<Store> store = make_memory_store();
  TransportConfig config = config_of(store.get(), 3, 4);
  config.interface_name = "lo";
  rlimit before = {};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  rlimit none = before;
  none.rlim_cur = 0;  // getifaddrs() asks the kernel through a socket
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  const Status status = choose_address("tcp", config, true).status();
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_EQ(status.code(), Code::kResource);
  for (const char* word : {"tcp: rank 3", "cannot list the network interfaces", "open files"}) {
    EXPECT_NE(status.message().find(word), std::string::npos) << status.message();
  }
  EXPECT_TRUE(choose_address("tcp", config, true).ok());
}

TEST(Interfaces, OneThatIsNotThereIsAnErrorThatListsThem) {
  const std::unique_ptr<Store> store = make_memory_store();
  TransportConfig config = config_of(store.get(), 3, 4);
  config.interface_name = "nosuch0";
  config.socket_family = AF_INET6;
  const Status status = choose_address("tcp", config, true).status();
  EXPECT_EQ(status.code(), Code::kInvalidArgument);
  for (const char* word : {"rank 3", "\"nosuch0\"", "CGX_SOCKET_IFNAME", "AF_INET6", "lo (127.0.0.1"}) {
    EXPECT_NE(status.message().find(word), std::string::npos) << status.message();
  }
}

bool has_ipv6() {
  const int fd = ::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in6 own = {};
  own.sin6_family = AF_INET6;
  own.sin6_addr = in6addr_loopback;
  const bool there = fd >= 0 && ::bind(fd, reinterpret_cast<sockaddr*>(&own), sizeof own) == 0;
  if (fd >= 0) ::close(fd);
  return there;
}

class OverSockets : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Transports, OverSockets, testing::Values("tcp", "mixed", "gloo"),
                         [](const auto& row) { return std::string(row.param); });

TEST_P(OverSockets, MessagesCrossIpv6) {
  if (!has_ipv6()) GTEST_SKIP() << "no IPv6 here";
  const std::unique_ptr<Store> alone = make_memory_store();
  const Status opened = open_transport(GetParam(), config_of(alone.get(), 0, 1)).status();
  if (opened.code() == Code::kUnsupported) GTEST_SKIP() << opened.message();
  for (const char* name : {"lo", ""}) {
    run_ranks(
        GetParam(), 3,
        [](Transport& t) {
          const Wait wait{20000, "scatter"};
          const int next[] = {(t.rank() + 1) % 3};
          const int before = (t.rank() + 2) % 3;
          ASSERT_TRUE(t.post(before, 100000).ok());
          auto out = t.acquire(100000, wait);
          ASSERT_TRUE(out.ok());
          std::memset(*out, t.rank(), 100000);
          ASSERT_TRUE(t.send(*out, 100000, next).ok());
          t.release(*out);
          auto in = t.receive(before, 100000, wait);
          ASSERT_TRUE(in.ok()) << in.status().message();
          EXPECT_EQ((*in)[99999], before);
          t.release(*in);
          EXPECT_TRUE(t.flush(wait).ok());
        },
        [&](TransportConfig& config) {
          config.interface_name = name;
          config.socket_family = AF_INET6;
          config.host_id = std::to_string(config.rank % 2);
        });
  }
}

TEST_P(OverSockets, AnUnknownInterfaceIsNamedOnAllRanks) {
  const std::unique_ptr<Store> store = make_memory_store();
  std::vector<std::thread> threads;
  for (const int rank : {0, 1}) {
    threads.emplace_back([&, rank] {
      TransportConfig config = config_of(store.get(), rank, 2, 20000);
      config.interface_name = rank == 0 ? "nosuch0" : "lo";
      config.host_id = std::to_string(rank);
      const Status status = open_transport(GetParam(), config).status();
      if (status.code() == Code::kUnsupported) return;
      EXPECT_EQ(status.code(), rank == 0 ? Code::kInvalidArgument : Code::kPeerFailed) << status.message();
      EXPECT_NE(status.message().find("nosuch0"), std::string::npos) << status.message();
      EXPECT_NE(status.message().find("CGX_SOCKET_IFNAME"), std::string::npos) << status.message();
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(SocketFamily, IsReadFromTheEnvironment) {
  for (const auto& [text, family] :
       {std::pair("AF_INET", AF_INET), std::pair("AF_INET6", AF_INET6), std::pair("", 0)}) {
    ::setenv("CGX_SOCKET_FAMILY", text, 1);
    const Result<int> read = config::socket_family();
    ASSERT_TRUE(read.ok());
    EXPECT_EQ(*read, family);
  }
  ::setenv("CGX_SOCKET_FAMILY", "ipv6", 1);
  EXPECT_NE(config::socket_family().status().message().find("CGX_SOCKET_FAMILY=\"ipv6\""), std::string::npos);
  const std::unique_ptr<Store> store = make_memory_store();
  EXPECT_EQ(open_transport("tcp", config_of(store.get(), 0, 1)).status().code(), Code::kInvalidArgument);
  ::unsetenv("CGX_SOCKET_FAMILY");
}

TEST(SocketStreams, AreReadFromTheEnvironment) {
  const std::unique_ptr<Store> store = make_memory_store();
  ::setenv("CGX_SOCKET_STREAMS", "65", 1);
  const Status refused = open_transport("tcp", config_of(store.get(), 0, 1)).status();
  EXPECT_EQ(refused.code(), Code::kInvalidArgument);
  EXPECT_NE(refused.message().find("CGX_SOCKET_STREAMS"), std::string::npos) << refused.message();
  // One rank reads 3, the other is told 2: both say what they have.
  ::setenv("CGX_SOCKET_STREAMS", "3", 1);
  std::vector<std::thread> threads;
  for (const int rank : {0, 1}) {
    threads.emplace_back([&, rank] {
      TransportConfig config = config_of(store.get(), rank, 2);
      if (rank == 1) config.tcp_streams = 2;
      const Status status = open_transport("tcp", config).status();
      EXPECT_EQ(status.code(), Code::kMismatch);
      EXPECT_NE(status.message().find(rank == 0 ? "rank 0 3" : "rank 0 opens 3"), std::string::npos)
          << status.message();
    });
  }
  for (std::thread& thread : threads) thread.join();
  ::unsetenv("CGX_SOCKET_STREAMS");
}

}  // namespace
}  // namespace cgx::test
