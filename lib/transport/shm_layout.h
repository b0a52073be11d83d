// What a rank's shared segment holds, and where: the only file that computes an offset into one.
//
// A rank writes nothing but its own segment, and its peers map that read-only, save for the first page:
// the bell, which they ring. Both directions of a pair are a ring of the one who writes it: messages in
// the sender's segment, acknowledgements in the receiver's. Neither ring can overflow, because a sender
// leaves at most kRing messages of a peer unacknowledged.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "transport/cores.h"

namespace cgx {

inline constexpr uint64_t kShmMagic = 0x6d6873'786763ULL;  // "cgxshm"
inline constexpr uint32_t kShmVersion = 1;
inline constexpr uint64_t kShmPage = 4096;
inline constexpr int kShmMaxRanks = 64;      // receivers of a message are a mask of 64 bits
inline constexpr uint32_t kShmRing = 512;    // unacknowledged messages of a pair
inline constexpr uint32_t kShmSlots = 1024;  // messages of a rank that are alive
inline constexpr uint32_t kShmLaneSlots = 4;
inline constexpr size_t kShmTextBytes = 512;

static_assert(std::atomic<uint32_t>::is_always_lock_free && std::atomic<uint64_t>::is_always_lock_free,
              "atomics with locks do not work between processes");

// The page that peers may write. A hostile one can only cause a wake-up too many or too few, and a
// sleeper looks around every 10 ms anyway.
struct ShmBell {
  std::atomic<uint32_t> rung;
  std::atomic<uint32_t> sleeping;
};

struct ShmHeader {
  uint64_t magic;
  uint32_t version;
  uint32_t rank;
  uint32_t size;
  int32_t pid;
  uint64_t pid_namespace;  // inode; a pid of another namespace means nothing here
  uint64_t job_hash;
  uint64_t pool_bytes;
  uint64_t lane_slot_bytes;
  uint64_t segment_bytes;
  Cores cores;                   // where this rank may run
  std::atomic<uint32_t> ready;   // has mapped every peer
  std::atomic<uint32_t> closed;  // has left, with nothing to tell
  std::atomic<uint32_t> failed;  // what follows is written
  int32_t failure_code;
  int32_t failure_rank;  // who failed first
  char failure_text[kShmTextBytes];
};
static_assert(sizeof(ShmHeader) <= kShmPage);

struct ShmDescriptor {
  uint64_t offset;  // in the pool; unused for fragments
  uint64_t bytes;   // of the whole message
  uint32_t slot;    // to be acknowledged: a message of the pool, or kShmSlots + slot of the lane
  uint32_t fragment_bytes;
};
static_assert(sizeof(ShmDescriptor) == 24);

// Of one rank for one peer.
struct ShmChannel {
  alignas(64) std::atomic<uint64_t> sent;   // descriptors written for that peer
  alignas(64) std::atomic<uint64_t> acked;  // acknowledgements written for that peer
  alignas(64) ShmDescriptor descriptors[kShmRing];
  uint32_t acks[kShmRing];
};

// 8 MiB a rank, or less so that all ranks together take 32 MiB, but never under 2 MiB.
constexpr uint64_t default_shm_pool_bytes(int size) {
  return std::clamp<uint64_t>((uint64_t{32} << 20) / static_cast<uint64_t>(size), 2 << 20, 8 << 20) /
         kShmPage * kShmPage;
}

// Order: bell page, header page, a channel a rank, the lanes (kShmLaneSlots each) of all peers, the pool.
struct ShmGeometry {
  int rank = 0;
  int size = 1;
  uint64_t pool_bytes = 0;

  static constexpr uint64_t round_up(uint64_t bytes) { return (bytes + kShmPage - 1) / kShmPage * kShmPage; }
  // The lanes of a rank take about 1 MiB together.
  uint64_t lane_slot_bytes() const {
    const auto peers = static_cast<uint64_t>(std::max(1, size - 1));
    return std::clamp<uint64_t>((1 << 20) / (kShmLaneSlots * peers), 16 << 10, 256 << 10) / kShmPage *
           kShmPage;
  }
  uint64_t header_at() const { return kShmPage; }
  uint64_t channel_at(int peer) const {
    return 2 * kShmPage + static_cast<uint64_t>(peer) * sizeof(ShmChannel);
  }
  uint64_t lane_at(int peer, uint32_t slot) const {
    const auto lane = static_cast<uint64_t>(peer < rank ? peer : peer - 1);
    return round_up(channel_at(size)) + (lane * kShmLaneSlots + slot) * lane_slot_bytes();
  }
  uint64_t pool_at() const {
    return round_up(channel_at(size)) + static_cast<uint64_t>(size - 1) * kShmLaneSlots * lane_slot_bytes();
  }
  uint64_t segment_bytes() const { return pool_at() + pool_bytes; }
};

}  // namespace cgx
