// The receiving half of shared memory: what was announced, what has arrived, what is being read.
//
// A message of the pool is read where its sender wrote it. Everything that a peer writes is checked
// against what was announced and what its segment holds before it is used.
#pragma once

#include <cstdint>
#include <vector>

#include "base/status.h"
#include "transport/buffer_pool.h"
#include "transport/fifo.h"
#include "transport/shm_segment.h"

namespace cgx {

class ShmInbox {
 public:
  explicit ShmInbox(const OwnSegment& segment);

  void post(int peer, size_t bytes) { from(peer).posted.push(bytes); }
  // Takes in what has come of the announced messages. *acked: there is something for the peer to see.
  // kMismatch, kCorrupt.
  Status pull(int peer, const PeerSegment& segment, bool* acked);
  bool has_arrived(int peer) const { return !from(peer).arrived.empty(); }
  size_t next_bytes(int peer) const;  // of the oldest announced; 0: none
  // REQUIRES: has_arrived(peer)
  const uint8_t* take(int peer);
  // The peer that must be told, -1 if none, -2 if `memory` is no message of this half.
  int release(const uint8_t* memory);

 private:
  struct Arrival {
    const uint8_t* memory;
    uint32_t slot;  // kShmSlots: private memory
  };
  struct From {
    Fifo<size_t> posted;
    Fifo<Arrival> arrived;  // the oldest of `posted`
    uint64_t taken = 0;     // descriptors
    uint64_t acked = 0;
    uint8_t* partial = nullptr;
    size_t partial_bytes = 0;
  };
  struct Held {
    const uint8_t* memory;
    size_t bytes;
    int peer;
    uint32_t slot;
  };

  From& from(int peer) { return from_[static_cast<size_t>(peer)]; }
  const From& from(int peer) const { return from_[static_cast<size_t>(peer)]; }
  Status accept(int peer, const PeerSegment& segment, const ShmDescriptor& descriptor);
  Status accept_fragment(int peer, const PeerSegment& segment, const ShmDescriptor& descriptor);
  void acknowledge(int peer, uint32_t slot);

  const OwnSegment& segment_;
  BufferPool private_;
  std::vector<From> from_;
  std::vector<Held> held_;
};

}  // namespace cgx
