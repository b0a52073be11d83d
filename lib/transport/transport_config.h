// What every transport needs to open: who this rank is and where the ranks meet.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/deadline.h"
#include "transport/store.h"

namespace cgx {

struct TransportConfig {
  int rank = 0;
  int size = 1;
  Store* store = nullptr;                 // used while opening only; keys start with the job's name
  std::string job = "cgx";                // every communicator of a store has its own
  int64_t timeout_ms = 30000;             // for all ranks to come
  StopFlag stop;                          // ends opening with an error; a store's waits are its own affair
  std::function<bool(int)> is_gone = {};  // that a rank has ended, where that is known: ends opening, too
  std::string interface_name;  // tcp, gloo: as interfaces.h says; empty: CGX_SOCKET_IFNAME, else by address
  int socket_family = 0;       // tcp, gloo: AF_INET or AF_INET6; 0: CGX_SOCKET_FAMILY, else either
  std::string
      reach_host;  // tcp, gloo: all ranks reach it, its direction tells the address; empty: the store's
  std::string
      secret;  // tcp: what connections prove; "": nothing. The store is the caller's to sign (store.h)
  uint32_t tcp_streams = 0;  // tcp: sockets a pair, the same on all ranks; 0: CGX_SOCKET_STREAMS, else 1
  std::string shm_directory = "/dev/shm";
  uint64_t shm_pool_bytes = 0;  // message memory of a rank; 0: default_shm_pool_bytes(size)
  std::string host_id;          // ranks with the same one share a host; empty: CGX_HOST_ID, else as found
  std::vector<int> hosts;       // of each rank, by hosts.h; open_transport() fills it in
  std::vector<int> peers;       // shm, tcp: the ranks to talk to, where not all others (mixed.h)

  bool has_peer(int other) const {
    return other != rank && (peers.empty() || std::find(peers.begin(), peers.end(), other) != peers.end());
  }
};

}  // namespace cgx
