// The control connection of a pair: silent until a rank fails or leaves. It is one of its own so that a
// failure overtakes all data, whatever is stuck half way; and its end tells that the peer is dead.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "base/status.h"
#include "transport/tcp_socket.h"
#include "transport/tcp_wire.h"

namespace cgx {

class TcpControl {
 public:
  enum class State : uint8_t {
    kOpen,
    kLeft,    // the peer closed its communicator
    kFailed,  // the peer told of a failure: told()
    kLost,    // the connection ended without a word: the peer died, or the link did
  };

  TcpControl(TcpSocket socket, int peer) : socket_(std::move(socket)), peer_(peer) {}

  int fd() const { return socket_.get(); }
  State state() const { return state_; }
  // Reads what has come. Does not wait.
  State look();
  // The same, but waits a little for what must come, as the peer's data connection has ended.
  State look_patiently();
  // The peer's end is closed, whatever it said before and has been read of it.
  bool ended() const;
  // REQUIRES: state() == kFailed. The rank that failed first, as far as the peer knows.
  Status told(int size, int* origin, std::string* words) const;

  // One frame, at most once in all. Do not wait: a connection that cannot take it is as good as lost.
  void tell_failure(Code code, int origin, const std::string& words) const;
  void say_goodbye() const;

 private:
  TcpSocket socket_;
  int peer_;
  State state_ = State::kOpen;
  size_t got_ = 0;
  struct {
    TcpHeader header;
    TcpFailureWords words;
  } frame_;
};

}  // namespace cgx
