// The sending half of shared memory: messages that are alive, and their way to each peer.
//
// A message of the pool is sent by a descriptor and is free again when its sender has released it and
// every receiver has acknowledged it. One that is too large for the pool, or found it full, lies in
// private memory and goes through the pair's lane in fragments, which the receiver copies out at once.
// The lane belongs to the pair alone and is never held, so whatever is queued moves on as soon as
// both sides wait for anything.
#pragma once

#include <cstdint>
#include <vector>

#include "base/status.h"
#include "transport/buffer_pool.h"
#include "transport/fifo.h"
#include "transport/shm_pool.h"
#include "transport/shm_segment.h"

namespace cgx {

class ShmOutbox {
 public:
  explicit ShmOutbox(const OwnSegment& segment);

  // Null when the pool is full, or when the message is too large for it.
  uint8_t* acquire_from_pool(size_t bytes);
  bool fits_pool(size_t bytes) const { return bytes <= segment_.geometry().pool_bytes / 4; }
  // Null when private messages take all that they may; kResource when there is no memory.
  Result<uint8_t*> acquire_private(size_t bytes);
  // REQUIRES: memory is acquired, and holds at least `bytes`
  void send(const uint8_t* memory, size_t bytes, int peer);
  // False if `memory` is not one of this rank's.
  bool release(const uint8_t* memory);

  // Moves what can be moved to `peer`. True if there is something new for it to see.
  bool push(int peer);
  // Takes the peer's acknowledgements. kCorrupt if it acknowledges what it cannot have.
  Status drain(int peer, const ShmChannel& theirs);
  // A peer that has left acknowledges nothing any more.
  void forget(int peer);

  bool has_queued(int peer) const { return !lane(peer).queue.empty(); }
  uint64_t queued_bytes(int peer) const;
  bool holds_messages(int peer) const { return lane(peer).unacked > 0 || has_queued(peer); }
  uint64_t pool_used_bytes() const { return pool_.used_bytes(); }

 private:
  struct Message {
    uint8_t* memory = nullptr;  // null: the slot is free
    size_t bytes = 0;
    bool in_pool = false;
    bool held = false;     // by this rank
    uint32_t queued = 0;   // peers to which it is not yet pushed
    uint64_t unacked = 0;  // mask of peers that read it
  };
  struct Queued {
    uint32_t slot;
    size_t bytes;
    size_t pushed;
  };
  struct Lane {
    Fifo<Queued> queue;
    uint64_t sent = 0;
    uint64_t acks_taken = 0;
    uint32_t unacked = 0;     // messages of the pool
    uint32_t busy_slots = 0;  // mask of fragments not yet copied out
  };

  Lane& lane(int peer) { return lanes_[static_cast<size_t>(peer)]; }
  const Lane& lane(int peer) const { return lanes_[static_cast<size_t>(peer)]; }
  uint8_t* add(uint8_t* memory, size_t bytes, bool in_pool);
  uint32_t find(const uint8_t* memory) const;  // kShmSlots: none
  void free_if_done(uint32_t slot);
  bool push_fragment(int peer);
  void write(int peer, const ShmDescriptor& descriptor);
  bool acknowledge(int peer, uint32_t slot);

  const OwnSegment& segment_;
  ShmPool pool_;
  BufferPool private_;
  uint64_t private_bytes_ = 0;
  std::vector<Message> messages_;
  std::vector<uint32_t> free_slots_;
  std::vector<uint32_t> private_slots_;
  std::vector<Lane> lanes_;
};

}  // namespace cgx
