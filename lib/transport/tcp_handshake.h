// What two ranks say to each other on a new connection, and what they make of it: pure functions of bytes,
// so that tests and fuzzers need no sockets. Where there is a secret, each side proves it over the fields of
// its hello and the nonces of both; as "CGXT" and "CGXA" are fields, neither can be answered with its own
// proof.
#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"
#include "transport/tcp_wire.h"

namespace cgx {

struct TcpNonce {
  uint64_t words[2] = {};
};

// This rank, as its hellos say it.
struct TcpSelf {
  int rank = 0;
  int size = 1;
  uint16_t streams = 1;
  uint64_t job_hash = 0;
  TcpNonce nonce;
  std::string secret;  // "": none
};

// A hello for connection `stream` to rank `peer`, whose nonce that is. `magic`: who connects, or who listens.
Result<TcpHello> make_hello(const TcpSelf& self, int peer, const TcpNonce& peer_nonce, uint16_t stream,
                            uint32_t magic);
// Why the hello of one who knocks is refused, or "". Its proof is left to fault_of_proof(): whose nonce it is
// over is known only once `from` was found to be a rank.
std::string fault_of_visitor(const TcpSelf& self, const TcpHello& hello);
// Why the answer of who listens there as `peer` is refused, or "".
std::string fault_of_host(const TcpSelf& self, const TcpHello& answer, int peer, uint16_t stream);
// Why its proof is none, or "". REQUIRES: one of the above found no fault
std::string fault_of_proof(const TcpSelf& self, const TcpHello& hello, const TcpNonce& sender_nonce);

}  // namespace cgx
