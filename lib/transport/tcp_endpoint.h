// Numeric addresses and ports as the kernel wants them, and back in words.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <string>

#include "base/status.h"

namespace cgx {

struct TcpEndpoint {
  sockaddr_storage storage = {};
  socklen_t bytes = 0;
  const sockaddr* address() const { return reinterpret_cast<const sockaddr*>(&storage); }
  int family() const { return storage.ss_family; }
};

// An address of the link alone gets `scope`, of the interface that this rank uses: the peer's name for it
// means nothing here. kMismatch where `text` is no numeric address.
Result<TcpEndpoint> make_endpoint(const std::string& text, uint16_t port, uint32_t scope);
// Of "fe80::1%eth0"; 0 where there is none.
uint32_t scope_of(const std::string& address);
// "127.0.0.1:4711" of the other end, "?:?" where there is none.
std::string name_of_peer(int fd);

}  // namespace cgx
