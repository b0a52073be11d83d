// See tcp_stream.h.
#include "transport/tcp_stream.h"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

namespace cgx {
namespace {

// Of one system call. More bytes only cost cache: what was copied first is gone when its CRC is made.
constexpr size_t kMaxVectors = 64;
constexpr size_t kMaxCallBytes = 256 << 10;

}  // namespace

void TcpStream::queue(TcpMessage* message, uint64_t number) {
  out_.push({message, make_tcp_header(TcpFrame::kData, number, message->bytes, message->crc)});
  pool_->add_unsent(message);
  queued_bytes_ += sizeof(TcpHeader) + message->bytes;
}

// vectors_ <- the memory of the oldest frames, without their first `done` bytes; returns its bytes.
template <typename Frame>
size_t TcpStream::list(Fifo<Frame>& frames, size_t done) {
  vectors_.clear();
  size_t total = 0;
  const auto add = [&](void* memory, size_t bytes) {
    const size_t skipped = std::min(done, bytes);
    done -= skipped;
    bytes = std::min(bytes - skipped, kMaxCallBytes - total);
    if (bytes == 0) return;
    vectors_.push_back({static_cast<uint8_t*>(memory) + skipped, bytes});
    total += bytes;
  };
  for (size_t i = 0; i < frames.size() && vectors_.size() + 2 <= kMaxVectors && total < kMaxCallBytes; ++i) {
    add(&frames[i].header, sizeof(TcpHeader));
    add(frames[i].message->payload(), frames[i].message->bytes);
  }
  return total;
}

TcpMoved TcpStream::push() {
  TcpMoved moved;
  while (!out_.empty()) {
    const size_t wanted = list(out_, out_done_);
    msghdr call = {};
    call.msg_iov = vectors_.data();
    call.msg_iovlen = vectors_.size();
    const ssize_t n = ::sendmsg(fd(), &call, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM) break;
      moved.closed = true;
      moved.fault = errno;
      break;
    }
    pushed(static_cast<size_t>(n));
    moved.bytes += static_cast<size_t>(n);
    if (static_cast<size_t>(n) < wanted) break;
  }
  return moved;
}

void TcpStream::pushed(size_t bytes) {
  queued_bytes_ -= bytes;
  out_done_ += bytes;
  while (!out_.empty()) {
    const size_t frame = sizeof(TcpHeader) + out_.front().message->bytes;
    if (out_done_ < frame) return;
    out_done_ -= frame;
    pool_->sent(out_.front().message);
    out_.pop();
  }
}

const TcpMessage* TcpStream::next() const {
  if (!arrived_.empty()) return arrived_[0];
  return in_.empty() ? nullptr : in_[0].message;
}

TcpMessage* TcpStream::take() {
  TcpMessage* message = arrived_.front();
  arrived_.pop();
  return message;
}

TcpMoved TcpStream::pull() {
  TcpMoved moved;
  while (!in_.empty()) {
    const size_t wanted = list(in_, filled_);
    msghdr call = {};
    call.msg_iov = vectors_.data();
    call.msg_iovlen = vectors_.size();
    const ssize_t n = ::recvmsg(fd(), &call, MSG_DONTWAIT);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && (errno == EAGAIN || errno == ENOMEM)) break;
    if (n <= 0) {
      moved.closed = true;
      moved.fault = n < 0 ? errno : 0;
      break;
    }
    moved.bytes += static_cast<size_t>(n);
    moved.wrong = filled(static_cast<size_t>(n));
    if (!moved.wrong.ok() || static_cast<size_t>(n) < wanted) break;
  }
  return moved;
}

// Accounts for `bytes` more, and checks them while they are in cache.
Status TcpStream::filled(size_t bytes) {
  while (bytes > 0) {
    Incoming& frame = in_.front();
    if (filled_ < sizeof(TcpHeader)) {
      const size_t part = std::min(bytes, sizeof(TcpHeader) - filled_);
      filled_ += part;
      bytes -= part;
      if (filled_ < sizeof(TcpHeader)) return {};
      CGX_RETURN_IF_ERROR(check_header(frame));
      crc_ = 0;
    }
    const size_t at = filled_ - sizeof(TcpHeader);
    const size_t part = std::min(bytes, frame.message->bytes - at);
    crc_ = crc32c(crc_, frame.message->payload() + at, part);
    filled_ += part;
    bytes -= part;
    if (at + part < frame.message->bytes) return {};
    if (crc_ != frame.header.payload_crc) {
      return error(
          Code::kCorrupt,
          "message {} of rank {} ({} bytes) was damaged on its way to rank {}: its CRC-32C is {:08x}, "
          "not {:08x}",
          frame.number, peer_, frame.message->bytes, rank_, crc_, frame.header.payload_crc);
    }
    arrived_.push(frame.message);
    in_.pop();
    filled_ = 0;
  }
  return {};
}

Status TcpStream::check_header(const Incoming& incoming) const {
  const TcpHeader& header = incoming.header;
  if (header.magic != kTcpFrameMagic || header.crc != tcp_crc(header) || header.zero != 0 ||
      header.type != static_cast<uint16_t>(TcpFrame::kData)) {
    return error(
        Code::kCorrupt,
        "what rank {} sent to rank {} as message {} is no frame of cgx (it begins with 0x{:08x}): the "
        "stream is damaged",
        peer_, rank_, incoming.number, header.magic);
  }
  if (header.number != incoming.number) {
    return error(Code::kCorrupt, "rank {} sent message {} where rank {} expected number {}", peer_,
                 header.number, rank_, incoming.number);
  }
  if (header.bytes != incoming.message->bytes) {
    return error(Code::kMismatch, "rank {} sent {} bytes where rank {} expected {}", peer_, header.bytes,
                 rank_, incoming.message->bytes);
  }
  return {};
}

}  // namespace cgx
