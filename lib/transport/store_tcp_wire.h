// What crosses the socket of the tcp store, little-endian as all hosts we build for.
//   client:  Hello, then requests: RequestHeader, key, value     (one at a time)
//   server:  Hello, then replies:  ReplyHeader, value
// Every length is checked against its bound before anything is allocated or read.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

namespace cgx::store_tcp {

static_assert(std::endian::native == std::endian::little);

inline constexpr uint32_t kVersion = 1;
inline constexpr uint32_t kClientMagic = 0x43584743;  // "CGXC"
inline constexpr uint32_t kServerMagic = 0x53584743;  // "CGXS": differs, so that an echo is no server
inline constexpr size_t kMaxKey = 1024;
inline constexpr size_t kMaxValue = size_t{1} << 20;

struct Hello {
  uint32_t magic;
  uint32_t version;
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

static_assert(sizeof(Hello) == 8 && sizeof(RequestHeader) == 16 && sizeof(ReplyHeader) == 8);

}  // namespace cgx::store_tcp
