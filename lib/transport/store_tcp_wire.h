// What crosses the socket of the tcp store, little-endian as all hosts we build for.
//   client:  ClientHello; with a secret a Proof; then requests: RequestHeader, key, value   (one at a time)
//   server:  ServerHello, with a secret its proof in it;  then replies: ReplyHeader, value
// Every length is checked against its bound before anything is allocated or read.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/hmac.h"
#include "base/status.h"

namespace cgx::store_tcp {

static_assert(std::endian::native == std::endian::little);

inline constexpr uint32_t kVersion = 2;
inline constexpr uint32_t kClientMagic = 0x43584743;  // "CGXC"
inline constexpr uint32_t kServerMagic = 0x53584743;  // "CGXS": differs, so that an echo is no server
inline constexpr size_t kMaxKey = 1024;
inline constexpr size_t kMaxValue = size_t{64} << 10;

inline constexpr uint32_t kHasSecret = 1;  // of `flags`

struct ClientHello {
  uint32_t magic = kClientMagic;
  uint32_t version = kVersion;
  int32_t rank = -1;  // for words only
  uint32_t flags = 0;
  uint64_t nonce[2] = {};
};

struct ServerHello {
  uint32_t magic = kServerMagic;
  uint32_t version = kVersion;
  uint32_t flags = 0;
  uint32_t zero = 0;
  uint64_t nonce[2] = {};
  uint8_t proof[32] =
      {};  // zero without a secret; else the HMAC over the client's hello and this one's other fields
};

// The client's, over both hellos; zero where the server's was wrong, so that the server hears of it.
struct Proof {
  uint8_t mac[32] = {};
};

enum class Op : uint8_t { kSet = 1, kGet = 2 };

struct RequestHeader {
  uint8_t op;
  uint8_t zero;
  uint16_t key_bytes;
  uint32_t value_bytes;  // 0 for kGet
  int64_t timeout_ms;    // 0 for kSet
};

enum class Answer : uint32_t { kOk = 0, kExists = 1, kTimeout = 2, kFull = 3 };

struct ReplyHeader {
  uint32_t answer;
  uint32_t value_bytes;
};

static_assert(sizeof(ClientHello) == 32 && sizeof(ServerHello) == 64 && sizeof(Proof) == 32 &&
              sizeof(RequestHeader) == 16 && sizeof(ReplyHeader) == 8);

// What the two sides prove. REQUIRES: the same secret on both, else they differ
Result<Mac> server_proof(std::string_view secret, const ClientHello& client, const ServerHello& server);
Result<Mac> client_proof(std::string_view secret, const ClientHello& client, const ServerHello& server);

}  // namespace cgx::store_tcp
