// Memory of messages, with what Gloo needs to know about it, reused by size class.
#pragma once

#include <gloo/transport/context.h>
#include <gloo/transport/unbound_buffer.h>

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

namespace cgx {

// Precedes every message on the wire. Gloo's receiver does not learn how much arrived, so we say it.
struct GlooHeader {
  uint64_t bytes;
  uint64_t number;  // of this message, from its sender to its receiver
  uint8_t padding[48];
};
static_assert(sizeof(GlooHeader) == 64);  // the payload behind it is aligned

// One message's memory. Both ranks derive the capacity from the message's size, and a receive is posted
// with the whole capacity: Gloo ends the process where a message is larger than what was posted for it.
class GlooBlock {
 public:
  // Null when memory is exhausted.
  static std::unique_ptr<GlooBlock> make(int size_class, gloo::transport::Context* context);

  // The least class that holds `bytes`.
  static int class_of(size_t bytes);
  static size_t capacity_of(int size_class) { return size_t{1} << size_class; }

  uint8_t* payload() { return memory_.get() + sizeof(GlooHeader); }
  GlooHeader& header() { return *reinterpret_cast<GlooHeader*>(memory_.get()); }
  size_t wire_capacity() const { return sizeof(GlooHeader) + capacity_of(size_class_); }
  int size_class() const { return size_class_; }
  // One a peer, so that each peer's completion is known by itself.
  gloo::transport::UnboundBuffer& buffer(int peer);

  bool held = false;  // acquired or received, and not yet released
  int unsent = 0;     // sends that are not known to have completed

 private:
  struct Free {
    void operator()(uint8_t* memory) const { std::free(memory); }
  };
  GlooBlock() = default;

  int size_class_ = 0;
  gloo::transport::Context* context_ = nullptr;
  std::unique_ptr<uint8_t, Free> memory_;
  // Behind the memory, so that Gloo has let go of it before it is freed.
  std::vector<std::unique_ptr<gloo::transport::UnboundBuffer>> buffers_;
};

class GlooPool {
 public:
  explicit GlooPool(gloo::transport::Context* context) : context_(context) {}
  // Null when memory is exhausted.
  GlooBlock* take(size_t bytes);
  // The taken block whose payload that is, or null.
  GlooBlock* find(const uint8_t* payload);
  // Gives a block back once nobody needs it; else does nothing.
  void give_if_idle(GlooBlock* block);

 private:
  gloo::transport::Context* context_;
  std::vector<std::unique_ptr<GlooBlock>> taken_;
  std::vector<std::unique_ptr<GlooBlock>> free_;  // the one given back last is still in cache: taken first
  size_t free_bytes_ = 0;
};

}  // namespace cgx
