// See tcp_handshake.h.
#include "transport/tcp_handshake.h"

#include <algorithm>
#include <cstring>

#include "base/hmac.h"

namespace cgx {
namespace {

// Over everything before the proof, and the nonce of who makes it; the receiver's is in the hello.
Result<Mac> proof_of(const TcpSelf& self, const TcpHello& hello, const TcpNonce& sender_nonce) {
  const std::span<const uint8_t> fields = bytes_of(hello).first(offsetof(TcpHello, proof));
  return hmac_sha256(self.secret, "cgx tcp hello", {fields, bytes_of(sender_nonce)});
}

bool knows_nonce(const TcpSelf& self, const TcpHello& hello) {
  return std::memcmp(hello.nonce, self.nonce.words, sizeof hello.nonce) == 0;
}

}  // namespace

Result<TcpHello> make_hello(const TcpSelf& self, int peer, const TcpNonce& peer_nonce, uint16_t stream,
                            uint32_t magic) {
  TcpHello hello;
  hello.magic = magic;
  hello.from = self.rank;
  hello.to = peer;
  hello.size = self.size;
  hello.stream = stream;
  hello.streams = self.streams;
  hello.job_hash = self.job_hash;
  std::memcpy(hello.nonce, peer_nonce.words, sizeof hello.nonce);
  if (!self.secret.empty()) {
    CGX_ASSIGN_OR_RETURN(const Mac mac, proof_of(self, hello, self.nonce));
    std::memcpy(hello.proof, mac.data(), mac.size());
  }
  hello.crc = tcp_crc(hello);
  return hello;
}

std::string fault_of_visitor(const TcpSelf& self, const TcpHello& hello) {
  if (hello.magic != kTcpConnectMagic) return "its bytes are no hello of cgx";
  if (hello.byte_order != kTcpByteOrder) return "its byte order is another";
  if (hello.version != kTcpVersion) {
    return fmt::format("it speaks version {} of the protocol, not {}", hello.version, kTcpVersion);
  }
  if (hello.crc != tcp_crc(hello) || hello.zero != 0) return "its hello is damaged";
  if (hello.job_hash != self.job_hash) return "it belongs to another job";
  if (hello.size != self.size || hello.to != self.rank || hello.from <= self.rank ||
      hello.from >= self.size) {
    return fmt::format("it says that it is rank {} of {} and wants rank {}", hello.from, hello.size,
                       hello.to);
  }
  if (hello.streams != self.streams || (hello.stream != kTcpControl && hello.stream >= self.streams)) {
    return fmt::format("it says that it is socket {} of {}", hello.stream, hello.streams);
  }
  return knows_nonce(self, hello)
             ? ""
             : "it does not know this rank's nonce: it is of an earlier run, or did not read the store";
}

std::string fault_of_host(const TcpSelf& self, const TcpHello& answer, int peer, uint16_t stream) {
  if (answer.magic != kTcpAcceptMagic || answer.crc != tcp_crc(answer)) {
    return "what listens there is no rank of cgx";
  }
  const bool same = answer.version == kTcpVersion && answer.byte_order == kTcpByteOrder && answer.zero == 0 &&
                    answer.from == peer && answer.to == self.rank && answer.size == self.size &&
                    answer.stream == stream && answer.streams == self.streams &&
                    answer.job_hash == self.job_hash && knows_nonce(self, answer);
  return same ? "" : "what listens there is a rank of another job";
}

std::string fault_of_proof(const TcpSelf& self, const TcpHello& hello, const TcpNonce& sender_nonce) {
  const bool proves =
      std::any_of(std::begin(hello.proof), std::end(hello.proof), [](uint8_t b) { return b != 0; });
  if (self.secret.empty()) return proves ? "it proves a secret, and this rank has none" : "";
  if (!proves) return "it proves no secret, and this rank has one";
  const Result<Mac> expected = proof_of(self, hello, sender_nonce);
  if (!expected.ok()) return expected.status().message();
  return equal_macs(*expected, hello.proof) ? "" : "its secret is another than this rank's";
}

}  // namespace cgx
