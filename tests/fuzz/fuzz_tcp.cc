// Any bytes on a connection of the tcp transport: as a hello, as its answer, as frames of data where messages
// of some sizes are expected, and on the control connection. Nothing is believed: what arrives has the
// expected sizes.
#include <sys/socket.h>

#include <array>
#include <string>

#include "fuzz.h"
#include "transport/tcp_control.h"
#include "transport/tcp_handshake.h"
#include "transport/tcp_stream.h"

namespace cgx {
namespace {

const TcpSelf& self() {
  static const TcpSelf kSelf = {0, 2, 1, 0x1234, {{1, 2}}, ""};
  return kSelf;
}

void hello(fuzz::Input input) {
  TcpSelf own = self();
  if (input.take<uint8_t>() % 2 == 1) own.secret = "0123456789abcdef";
  const bool sign = input.take<uint8_t>() % 2 == 1;
  TcpHello said = input.take<TcpHello>();
  if (sign) said.crc = tcp_crc(said);
  const bool visitor = fault_of_visitor(own, said).empty();
  const bool host = fault_of_host(own, said, 1, kTcpControl).empty();
  FUZZ_CHECK(!visitor ||
             (said.from == 1 && said.to == 0 && (said.stream == 0 || said.stream == kTcpControl)));
  FUZZ_CHECK(!(visitor && host));
  if (visitor || host) FUZZ_CHECK(own.secret.empty() || !fault_of_proof(own, said, {{3, 4}}).empty());
}

std::array<TcpSocket, 2> sockets_with(std::string_view bytes) {
  int fds[2] = {-1, -1};
  FUZZ_CHECK(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) == 0);
  if (!bytes.empty()) static_cast<void>(::send(fds[1], bytes.data(), bytes.size(), MSG_NOSIGNAL));
  return {TcpSocket(fds[0]), TcpSocket(fds[1])};
}

void stream(fuzz::Input input) {
  const size_t sizes[] = {1 + input.take<uint8_t>() % 40u, 1 + input.take<uint16_t>() % 3000u, 1};
  const bool sign = input.take<uint8_t>() % 2 == 1;
  std::string bytes(input.rest());
  if (sign && bytes.size() > sizeof(TcpHeader)) {  // so that more than the first check is reached
    TcpHeader header;
    std::memcpy(&header, bytes.data(), sizeof header);
    const size_t payload = std::min(sizes[0], bytes.size() - sizeof header);
    header.payload_crc = crc32c(0, bytes.data() + sizeof header, payload);
    header.crc = tcp_crc(header);
    std::memcpy(bytes.data(), &header, sizeof header);
  }
  auto [near, far] = sockets_with(bytes);
  far.reset();
  TcpPool pool;
  TcpStream stream(std::move(near), 0, 1, &pool);
  for (uint64_t i = 0; i < 3; ++i) stream.expect(pool.take(sizes[i]), i);
  TcpMoved moved;
  for (int turn = 0; turn < 64 && !moved.closed && moved.wrong.ok(); ++turn) moved = stream.pull();
  FUZZ_CHECK(moved.closed || !moved.wrong.ok() || !stream.expects());
  for (size_t i = 0; stream.has_arrived(); ++i) FUZZ_CHECK(stream.take()->bytes == sizes[i]);
}

void control(fuzz::Input input) {
  const bool sign = input.take<uint8_t>() % 2 == 1;
  std::string bytes(input.rest());
  if (sign && bytes.size() >= sizeof(TcpHeader)) {
    TcpHeader header;
    std::memcpy(&header, bytes.data(), sizeof header);
    const size_t payload = std::min(sizeof(TcpFailureWords), bytes.size() - sizeof header);
    header.payload_crc = crc32c(0, bytes.data() + sizeof header, payload);
    header.crc = tcp_crc(header);
    std::memcpy(bytes.data(), &header, sizeof header);
  }
  auto [near, far] = sockets_with(bytes);
  far.reset();
  TcpControl control(std::move(near), 1);
  if (control.look() != TcpControl::State::kFailed) return;
  int origin = -1;
  std::string words;
  static_cast<void>(control.told(2, &origin, &words));
  FUZZ_CHECK(origin >= 0 && origin < 2 && words.size() <= kTcpWords);
}

}  // namespace
}  // namespace cgx

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  cgx::fuzz::Input input(data, std::min<size_t>(size, 8192));
  switch (input.take<uint8_t>() % 3) {
    case 0:
      cgx::hello(input);
      break;
    case 1:
      cgx::stream(input);
      break;
    default:
      cgx::control(input);
  }
  return 0;
}
