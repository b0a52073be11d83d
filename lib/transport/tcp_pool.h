// Memory of messages, reused by size, each with a record in front of its payload that knows who still
// needs it: a message goes back to the pool when its user has released it and every socket has taken it.
// Only take() allocates: giving back happens where an exception would leave a frame sent but still queued.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace cgx {

struct alignas(64) TcpMessage {
  size_t capacity = 0;  // of the payload
  size_t bytes = 0;     // of the payload, once sent or posted
  size_t index = 0;     // in the pool's list of all
  uint32_t unsent = 0;  // sockets that have not taken it
  uint32_t crc = 0;     // of the payload, once sent
  bool held = false;    // acquired, or posted and received, and not released
  int size_class = 0;
  TcpMessage* next_free = nullptr;

  uint8_t* payload() { return reinterpret_cast<uint8_t*>(this + 1); }
  // REQUIRES: the payload of a message of a TcpPool
  static TcpMessage* of(const uint8_t* payload) {
    return const_cast<TcpMessage*>(reinterpret_cast<const TcpMessage*>(payload) - 1);
  }
};
static_assert(sizeof(TcpMessage) == 64);

class TcpPool {
 public:
  TcpPool() = default;
  ~TcpPool();
  TcpPool(const TcpPool&) = delete;
  TcpPool& operator=(const TcpPool&) = delete;

  // Held, or null when memory is exhausted.
  TcpMessage* take(size_t bytes);
  void release(TcpMessage* message) noexcept;
  // One more socket is to take it; one has.
  void add_unsent(TcpMessage* message) noexcept;
  void sent(TcpMessage* message) noexcept;
  // In messages that a socket has not taken.
  size_t unsent_bytes() const { return unsent_bytes_; }
  size_t unsent_messages() const { return unsent_messages_; }

 private:
  static constexpr size_t kClasses = 256;  // four an octave

  void give_if_idle(TcpMessage* message) noexcept;

  std::vector<TcpMessage*> all_;
  std::array<TcpMessage*, kClasses> free_ = {};  // lists: the one given back last is still in cache
  size_t free_bytes_ = 0;
  size_t unsent_bytes_ = 0, unsent_messages_ = 0;
};

}  // namespace cgx
