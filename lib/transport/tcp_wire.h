// What crosses the sockets of the tcp transport (docs/WIRE.md), little-endian as all hosts we build for.
// Every pair of ranks has one control connection and one or more data connections. On each:
//   first   TcpHello from the rank that connects, TcpHello back from the one that listens
//   data    frames of messages: TcpHeader, payload. Message number q goes over connection q % streams
//   control one frame at most: failure or goodbye
// No length is believed: each is compared with what this rank posted or with the size of a struct.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/crc32c.h"

namespace cgx {

static_assert(std::endian::native == std::endian::little);

inline constexpr uint32_t kTcpConnectMagic = 0x54584743;  // "CGXT"
inline constexpr uint32_t kTcpAcceptMagic = 0x41584743;   // "CGXA": differs, so that an echo is no peer
inline constexpr uint32_t kTcpFrameMagic = 0x4d584743;    // "CGXM"
inline constexpr uint16_t kTcpVersion = 2;
inline constexpr uint16_t kTcpByteOrder = 0x0102;
inline constexpr uint16_t kTcpControl = 0xffff;  // as number of a connection

struct TcpHello {
  uint32_t magic = 0;
  uint16_t version = kTcpVersion;
  uint16_t byte_order = kTcpByteOrder;
  int32_t from = 0, to = 0, size = 0;
  uint16_t stream = 0;   // 0 .. streams - 1, or kTcpControl
  uint16_t streams = 0;  // data connections of each pair
  uint64_t job_hash = 0;
  uint64_t nonce[2] = {};  // the receiver's, which it left in the store: only who reads that knows it
  uint8_t proof[32] = {};  // zero: where a secret is shared, its MAC over the rest goes here
  uint32_t zero = 0;
  uint32_t crc = 0;  // of all before
};
static_assert(sizeof(TcpHello) == 88);

enum class TcpFrame : uint16_t { kData = 1, kFailure = 2, kGoodbye = 3 };

struct TcpHeader {
  uint32_t magic = kTcpFrameMagic;
  uint16_t type = 0;
  uint16_t zero = 0;
  uint64_t number = 0;  // of the message, from its sender to its receiver; of control frames 0
  uint64_t bytes = 0;   // of the payload
  uint32_t payload_crc = 0;
  uint32_t crc = 0;  // of all before
};
static_assert(sizeof(TcpHeader) == 32);

inline constexpr size_t kTcpWords = 504;

// The payload of kFailure.
struct TcpFailureWords {
  int32_t code = 0;
  int32_t origin = 0;         // the rank that failed first
  char text[kTcpWords] = {};  // ends with a zero
};
static_assert(sizeof(TcpFailureWords) == 512);

// The CRC that ends a struct of the above, over all of it but itself.
template <typename T>
uint32_t tcp_crc(const T& of) {
  return crc32c(0, &of, sizeof of - sizeof of.crc);
}

inline TcpHeader make_tcp_header(TcpFrame type, uint64_t number, uint64_t bytes, uint32_t payload_crc) {
  TcpHeader header;
  header.type = static_cast<uint16_t>(type);
  header.number = number;
  header.bytes = bytes;
  header.payload_crc = payload_crc;
  header.crc = tcp_crc(header);
  return header;
}

}  // namespace cgx
