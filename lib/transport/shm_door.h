// How a rank is woken that sleeps in poll(), as one does that waits for sockets too: a FIFO beside its
// segment, which its peers open and write a byte to. Named only while the ranks meet.
#pragma once

#include <string>
#include <utility>

#include "base/status.h"
#include "transport/tcp_socket.h"

namespace cgx {

class ShmDoor {
 public:
  // Beside the segment of that name, which exists.
  static Result<ShmDoor> create(const std::string& directory, const std::string& segment);
  static Result<ShmDoor> open(const std::string& directory, const std::string& segment, int rank);
  // Removes the FIFO's name. Before the segment's: a FIFO without a segment is one that a crash left.
  void unlink();

  int fd() const { return fifo_.get(); }  // -1: no door
  void knock() const;
  // Takes what knocked.
  void clear() const;

  ShmDoor() = default;
  ~ShmDoor() { unlink(); }
  ShmDoor(ShmDoor&& other) noexcept
      : fifo_(std::move(other.fifo_)), path_(std::exchange(other.path_, std::string())) {}
  ShmDoor& operator=(ShmDoor&& other) noexcept {
    std::swap(fifo_, other.fifo_);
    std::swap(path_, other.path_);
    return *this;
  }

 private:
  TcpSocket fifo_;
  std::string path_;  // empty: has no name
};

// Where the entry is a FIFO of this user whose segment is gone, removes it.
void remove_stale_door(int directory, const std::string& entry);

}  // namespace cgx
