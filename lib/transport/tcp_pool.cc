// See tcp_pool.h.
#include "transport/tcp_pool.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <new>

#include "base/status.h"

namespace cgx {
namespace {

constexpr size_t kLeast = 4096;
constexpr size_t kLargest = size_t{1} << 46;        // larger counts are no sizes of memory
constexpr size_t kMaxFreeBytes = size_t{64} << 20;  // kept for reuse

// Rounds up to a quarter of an octave; the class is the number of that size.
size_t round_up(size_t bytes, int* size_class) {
  bytes = std::max(bytes, kLeast);
  const int octave = static_cast<int>(std::bit_width(bytes - 1)) - 1;
  const size_t quarter = size_t{1} << (octave - 2);
  const size_t rounded = (bytes + quarter - 1) / quarter * quarter;
  *size_class = 4 * octave + static_cast<int>((rounded - 1) / quarter) - 4;
  return rounded;
}

}  // namespace

TcpPool::~TcpPool() {
  for (TcpMessage* message : all_) std::free(message);
}

TcpMessage* TcpPool::take(size_t bytes) {
  if (bytes > kLargest) return nullptr;
  int size_class = 0;
  const size_t capacity = round_up(bytes, &size_class);
  TcpMessage*& first = free_[static_cast<size_t>(size_class)];
  TcpMessage* message = first;
  if (message != nullptr) {
    first = message->next_free;
    free_bytes_ -= capacity;
  } else {
    all_.push_back(nullptr);
    void* memory = std::aligned_alloc(64, sizeof(TcpMessage) + capacity);
    if (memory == nullptr) {
      all_.pop_back();
      return nullptr;
    }
    message = new (memory) TcpMessage{};
    message->capacity = capacity;
    message->size_class = size_class;
    message->index = all_.size() - 1;
    all_.back() = message;
  }
  message->bytes = bytes;
  message->held = true;
  return message;
}

void TcpPool::release(TcpMessage* message) noexcept {
  CGX_CHECK(message->held);
  message->held = false;
  give_if_idle(message);
}

void TcpPool::add_unsent(TcpMessage* message) noexcept {
  if (message->unsent++ > 0) return;
  unsent_bytes_ += message->capacity;
  ++unsent_messages_;
}

void TcpPool::sent(TcpMessage* message) noexcept {
  if (--message->unsent > 0) return;
  unsent_bytes_ -= message->capacity;
  --unsent_messages_;
  give_if_idle(message);
}

void TcpPool::give_if_idle(TcpMessage* message) noexcept {
  if (message->held || message->unsent > 0) return;
  if (free_bytes_ + message->capacity > kMaxFreeBytes) {
    all_[message->index] = all_.back();
    all_[message->index]->index = message->index;
    all_.pop_back();
    std::free(message);
    return;
  }
  free_bytes_ += message->capacity;
  TcpMessage*& first = free_[static_cast<size_t>(message->size_class)];
  message->next_free = first;
  first = message;
}

}  // namespace cgx
