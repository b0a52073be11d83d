// Ports of this host for tests.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdint>
#include <random>
#include <stdexcept>

namespace cgx::test {

inline sockaddr_in loopback(uint16_t port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

// A port that was free a moment ago, below those that the kernel gives to clients: any connection of this
// machine could take one of those before the rank that serves does.
inline uint16_t free_port() {
  std::random_device random;
  std::uniform_int_distribution<uint16_t> ports(10000, 30000);
  for (int trial = 0; trial < 100; ++trial) {
    const uint16_t port = ports(random);
    const sockaddr_in address = loopback(port);
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const bool is_free = ::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
    ::close(fd);
    if (is_free) return port;
  }
  throw std::runtime_error("no port of 127.0.0.1 can be bound");
}

}  // namespace cgx::test
