// See store_tcp_session.h.
#include "transport/store_tcp_session.h"

#include <algorithm>
#include <cstring>

namespace cgx {

using store_tcp::Answer;
using store_tcp::Op;

namespace store_tcp {

Result<Mac> server_proof(std::string_view secret, const ClientHello& client, const ServerHello& server) {
  return hmac_sha256(secret, "cgx store server",
                     {cgx::bytes_of(client), cgx::bytes_of(server).first(offsetof(ServerHello, proof))});
}

Result<Mac> client_proof(std::string_view secret, const ClientHello& client, const ServerHello& server) {
  return hmac_sha256(secret, "cgx store client",
                     {cgx::bytes_of(client), cgx::bytes_of(server).first(offsetof(ServerHello, proof))});
}

}  // namespace store_tcp

StoreSession::StoreSession(const std::string& secret, const uint64_t (&nonce)[2]) : secret_(secret) {
  std::copy(std::begin(nonce), std::end(nonce), server_.nonce);
  server_.flags = secret.empty() ? 0 : store_tcp::kHasSecret;
}

void StoreSession::expect(Stage stage, size_t bytes) {
  stage_ = stage;
  in_.clear();
  due_ = bytes;
}

StoreSession::Step StoreSession::next(StoreRequest* request) {
  // Noise is known by its first bytes.
  if (stage_ == Stage::kHello && in_.size() >= sizeof client_.magic &&
      std::memcmp(in_.data(), &store_tcp::kClientMagic, sizeof client_.magic) != 0) {
    return Step::kBroken;
  }
  if (in_.size() < due_) return Step::kMore;
  switch (stage_) {
    case Stage::kHello:
      return take_hello();
    case Stage::kProof:
      return take_proof();
    case Stage::kRequests:
      return take_request(request);
  }
  return Step::kBroken;
}

StoreSession::Step StoreSession::refuse(const char* why) {
  refusal_ = client_.rank < 0
                 ? fmt::format("a client of the store was refused: {}", why)
                 : fmt::format("who says it is rank {} was refused by the store: {}", client_.rank, why);
  return Step::kBroken;
}

// Another version and another idea of a secret are answered too: the client can say what it met.
StoreSession::Step StoreSession::take_hello() {
  std::memcpy(&client_, in_.data(), sizeof client_);
  const bool client_has = (client_.flags & store_tcp::kHasSecret) != 0;
  if (client_.version == store_tcp::kVersion && client_has && !secret_.empty()) {
    const Result<Mac> mac = server_proof(secret_, client_, server_);
    if (!mac.ok()) return refuse(mac.status().message().c_str());
    std::copy(mac->begin(), mac->end(), server_.proof);
  }
  out.append(reinterpret_cast<const char*>(&server_), sizeof server_);
  if (client_.version != store_tcp::kVersion) return refuse("it speaks another version of the protocol");
  if (client_has == secret_.empty()) {
    return refuse(client_has
                      ? "it has a secret, and rank 0 has none: CGX_SECRET must be the same on all ranks"
                      : "it has no secret, and rank 0 has one: CGX_SECRET must be the same on all ranks");
  }
  if (client_has) {
    expect(Stage::kProof, sizeof(store_tcp::Proof));
  } else {
    expect(Stage::kRequests, sizeof(store_tcp::RequestHeader));
  }
  return Step::kTook;
}

StoreSession::Step StoreSession::take_proof() {
  Mac theirs = {};
  std::memcpy(theirs.data(), in_.data(), theirs.size());
  const Result<Mac> mac = client_proof(secret_, client_, server_);
  if (!mac.ok()) return refuse(mac.status().message().c_str());
  if (!equal_macs(*mac, theirs)) {
    return refuse("its secret is another than rank 0's: CGX_SECRET must be the same on all ranks");
  }
  expect(Stage::kRequests, sizeof(store_tcp::RequestHeader));
  return Step::kTook;
}

// First the header alone; once its lengths were found within their bounds, all of the request.
StoreSession::Step StoreSession::take_request(StoreRequest* request) {
  store_tcp::RequestHeader header = {};
  std::memcpy(&header, in_.data(), sizeof header);
  const bool is_set = header.op == static_cast<uint8_t>(Op::kSet) && header.timeout_ms == 0;
  const bool is_get = header.op == static_cast<uint8_t>(Op::kGet) && header.value_bytes == 0;
  if ((!is_set && !is_get) || header.zero != 0 || header.key_bytes > store_tcp::kMaxKey ||
      header.value_bytes > store_tcp::kMaxValue) {
    return Step::kBroken;
  }
  const size_t total = sizeof header + header.key_bytes + header.value_bytes;
  if (in_.size() < total) {
    due_ = total;
    return Step::kMore;
  }
  request->op = static_cast<Op>(header.op);
  request->key = in_.substr(sizeof header, header.key_bytes);
  request->value = in_.substr(sizeof header + header.key_bytes, header.value_bytes);
  request->timeout_ms = header.timeout_ms;
  expect(Stage::kRequests, sizeof header);
  if (in_.capacity() > 4096) in_.shrink_to_fit();
  return Step::kRequest;
}

void StoreSession::reply(Answer answer, std::string_view value) {
  const store_tcp::ReplyHeader header = {static_cast<uint32_t>(answer), static_cast<uint32_t>(value.size())};
  out.append(reinterpret_cast<const char*>(&header), sizeof header);
  out.append(value);
}

}  // namespace cgx
