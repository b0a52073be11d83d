// What one connection to the tcp store has said so far, as its server sees it: bytes in, requests out. Knows
// no sockets. Takes at most the bytes of the message that is due, so that nobody can make it hold more.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/status.h"
#include "transport/store_tcp_wire.h"

namespace cgx {

struct StoreRequest {
  store_tcp::Op op = store_tcp::Op::kGet;
  std::string key, value;
  int64_t timeout_ms = 0;
};

class StoreSession {
 public:
  // `nonce`: random, of this connection. `secret` must outlive the session; "": none.
  StoreSession(const std::string& secret, const uint64_t (&nonce)[2]);
  StoreSession(std::string&&, const uint64_t (&)[2]) = delete;

  // How many bytes complete what is due; never 0.
  size_t wants() const { return due_ - in_.size(); }
  // REQUIRES: bytes.size() <= wants()
  void feed(std::string_view bytes) { in_.append(bytes); }

  enum class Step : uint8_t { kMore, kTook, kRequest, kBroken };
  // Takes what is whole: part of a greeting, or a request. kBroken: this is no client.
  Step next(StoreRequest* request);
  void reply(store_tcp::Answer answer, std::string_view value);

  bool greeted() const { return stage_ == Stage::kRequests; }
  // Of one that broke the greeting in a way that the user should hear of, or "".
  const std::string& refusal() const { return refusal_; }
  size_t held_bytes() const { return in_.size() + out.size(); }
  bool is_amid() const { return !in_.empty() || !out.empty(); }

  std::string out;  // for the client, not yet written

 private:
  enum class Stage : uint8_t { kHello, kProof, kRequests };
  Step take_hello();
  Step take_proof();
  Step take_request(StoreRequest* request);
  Step refuse(const char* why);
  void expect(Stage stage, size_t bytes);

  const std::string& secret_;
  Stage stage_ = Stage::kHello;
  size_t due_ = sizeof(store_tcp::ClientHello);
  std::string in_;
  store_tcp::ClientHello client_;
  store_tcp::ServerHello server_;
  std::string refusal_;
};

}  // namespace cgx
