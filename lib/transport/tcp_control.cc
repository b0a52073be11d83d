// See tcp_control.h.
#include "transport/tcp_control.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "base/deadline.h"

namespace cgx {
namespace {

constexpr int64_t kPatienceMs = 200;

void send_frame(int fd, const void* frame, size_t bytes) {
  ssize_t n = 0;
  do {
    n = ::send(fd, frame, bytes, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (n < 0 && errno == EINTR);
}

}  // namespace

TcpControl::State TcpControl::look() {
  while (state_ == State::kOpen) {
    const bool in_header = got_ < sizeof frame_.header;
    const size_t end = in_header ? sizeof frame_.header : sizeof frame_;
    const ssize_t n = ::recv(fd(), reinterpret_cast<uint8_t*>(&frame_) + got_, end - got_, MSG_DONTWAIT);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return state_;
    if (n <= 0) return state_ = State::kLost;
    got_ += static_cast<size_t>(n);
    if (got_ < end) continue;
    const TcpHeader& header = frame_.header;
    const bool sound = header.magic == kTcpFrameMagic && header.crc == tcp_crc(header);
    if (in_header) {
      if (!sound) return state_ = State::kLost;
      if (header.type == static_cast<uint16_t>(TcpFrame::kGoodbye)) return state_ = State::kLeft;
      const bool failure = header.type == static_cast<uint16_t>(TcpFrame::kFailure);
      if (!failure || header.bytes != sizeof frame_.words) return state_ = State::kLost;
    } else {
      const bool intact = header.payload_crc == crc32c(0, &frame_.words, sizeof frame_.words);
      return state_ = intact ? State::kFailed : State::kLost;
    }
  }
  return state_;
}

TcpControl::State TcpControl::look_patiently() {
  const Deadline deadline(kPatienceMs);
  while (look() == State::kOpen && !deadline.over()) {
    pollfd p = {fd(), POLLIN, 0};
    ::poll(&p, 1, static_cast<int>(deadline.left_ms()));
  }
  return state_;
}

bool TcpControl::ended() const {
  pollfd p = {fd(), POLLRDHUP, 0};
  return ::poll(&p, 1, 0) == 1 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

Status TcpControl::told(int size, int* origin, std::string* words) const {
  // Peers are believed in their words only.
  *origin = frame_.words.origin >= 0 && frame_.words.origin < size ? frame_.words.origin : peer_;
  words->assign(frame_.words.text, strnlen(frame_.words.text, kTcpWords));
  const bool mismatch = frame_.words.code == static_cast<int32_t>(Code::kMismatch);
  return error(mismatch ? Code::kMismatch : Code::kPeerFailed, "rank {} reported: {}", *origin, *words);
}

void TcpControl::tell_failure(Code code, int origin, const std::string& words) const {
  struct {
    TcpHeader header;
    TcpFailureWords words;
  } frame;
  frame.words.code = static_cast<int32_t>(code);
  frame.words.origin = origin;
  std::memcpy(frame.words.text, words.data(), std::min(words.size(), kTcpWords - 1));
  frame.header =
      make_tcp_header(TcpFrame::kFailure, 0, sizeof frame.words, crc32c(0, &frame.words, sizeof frame.words));
  send_frame(fd(), &frame, sizeof frame);
}

void TcpControl::say_goodbye() const {
  const TcpHeader frame = make_tcp_header(TcpFrame::kGoodbye, 0, 0, 0);
  send_frame(fd(), &frame, sizeof frame);
}

}  // namespace cgx
