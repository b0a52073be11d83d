// One data connection: frames that wait to be sent, and messages that are expected. Never blocks. Many
// frames go in one system call, and many come in one: as every message was announced with its length,
// the kernel can scatter headers and payloads straight to where they belong, and what was not there
// to be expected is seen afterwards, in the first header that differs.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "base/status.h"
#include "transport/fifo.h"
#include "transport/tcp_pool.h"
#include "transport/tcp_socket.h"
#include "transport/tcp_wire.h"

namespace cgx {

// What a try to move bytes came to.
struct TcpMoved {
  size_t bytes = 0;
  bool closed = false;  // the peer's end is closed or broken, and everything before that has been read
  int fault = 0;        // the errno, where it is broken
  Status wrong;         // what came is not what was expected
};

class TcpStream {
 public:
  // `rank` and `peer` are for errors.
  TcpStream(TcpSocket socket, int rank, int peer, TcpPool* pool)
      : socket_(std::move(socket)), rank_(rank), peer_(peer), pool_(pool) {}

  int fd() const { return socket_.get(); }

  void queue(TcpMessage* message, uint64_t number);
  bool has_queued() const { return !out_.empty(); }
  size_t queued_bytes() const { return queued_bytes_; }
  // Gives the socket as much as it takes.
  TcpMoved push();

  void expect(TcpMessage* message, uint64_t number) { in_.push({message, number, {}}); }
  bool expects() const { return !in_.empty(); }
  bool has_arrived() const { return !arrived_.empty(); }
  // The oldest that was expected and not taken, arrived or not; null if there is none.
  const TcpMessage* next() const;
  TcpMessage* take();  // REQUIRES: has_arrived()
  // Takes from the socket what is there of expected messages.
  TcpMoved pull();

 private:
  struct Outgoing {
    TcpMessage* message;
    TcpHeader header;
  };
  struct Incoming {
    TcpMessage* message;
    uint64_t number;
    TcpHeader header;
  };

  template <typename Frame>
  size_t list(Fifo<Frame>& frames, size_t done);
  void pushed(size_t bytes);
  Status filled(size_t bytes);
  Status check_header(const Incoming& incoming) const;

  TcpSocket socket_;
  int rank_, peer_;
  TcpPool* pool_;
  Fifo<Outgoing> out_;
  size_t out_done_ = 0;  // of the oldest frame
  size_t queued_bytes_ = 0;
  Fifo<Incoming> in_;
  size_t filled_ = 0;  // of the oldest frame
  uint32_t crc_ = 0;   // of what has come of its payload
  Fifo<TcpMessage*> arrived_;
  std::vector<iovec> vectors_;
};

}  // namespace cgx
