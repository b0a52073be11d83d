// Connects every pair of ranks: addresses and nonces through the store, then sockets and handshakes.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"
#include "transport/cores.h"
#include "transport/tcp_socket.h"
#include "transport/transport_config.h"

namespace cgx {

struct TcpLink {
  TcpSocket control;
  std::vector<TcpSocket> data;
};

struct TcpMesh {
  std::vector<TcpLink> links;  // by rank; empty for the own
  bool may_spin = false;       // every rank of this machine can have a core
};

// What a rank leaves in the store for the others: where it listens, what proves that a visitor has read it,
// and where it runs. Tests use it to knock at the door.
struct TcpCard {
  uint32_t magic = 0;
  uint16_t version = 0;
  uint16_t streams = 0;
  uint64_t nonce[2] = {};
  uint16_t port = 0;
  char address[62] = {};  // numeric
  uint64_t machine = 0;   // the same of ranks that share cores, in whatever namespace or container
  Cores cores = {};
};
static_assert(sizeof(TcpCard) == 224);

// REQUIRES: config.size > 1
Result<TcpMesh> connect_tcp(const TransportConfig& config);

}  // namespace cgx
