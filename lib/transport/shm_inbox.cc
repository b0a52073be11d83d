// See shm_inbox.h.
#include "transport/shm_inbox.h"

#include <cstring>

namespace cgx {

ShmInbox::ShmInbox(const OwnSegment& segment)
    : segment_(segment), private_(4), from_(static_cast<size_t>(segment.geometry().size)) {}

size_t ShmInbox::next_bytes(int peer) const { return from(peer).posted.empty() ? 0 : from(peer).posted[0]; }

void ShmInbox::acknowledge(int peer, uint32_t slot) {
  From& sender = from(peer);
  ShmChannel& channel = segment_.channel(peer);
  channel.acks[sender.acked % kShmRing] = slot;
  ++sender.acked;
  channel.acked.store(sender.acked, std::memory_order_seq_cst);
}

Status ShmInbox::accept_fragment(int peer, const PeerSegment& segment, const ShmDescriptor& descriptor) {
  From& sender = from(peer);
  const size_t bytes = descriptor.fragment_bytes;
  if (descriptor.slot - kShmSlots >= kShmLaneSlots || bytes > segment.geometry().lane_slot_bytes() ||
      bytes > descriptor.bytes - sender.partial_bytes) {
    return error(Code::kCorrupt, "rank {} sent a fragment of {} bytes in lane slot {}, at {} of {}", peer,
                 bytes, descriptor.slot, sender.partial_bytes, descriptor.bytes);
  }
  if (sender.partial == nullptr) {
    sender.partial = private_.take(descriptor.bytes);
    if (sender.partial == nullptr) {
      return error(Code::kResource, "no memory for a message of {} bytes from rank {}", descriptor.bytes,
                   peer);
    }
  }
  const uint8_t* fragment = segment.lane(segment_.geometry().rank, descriptor.slot - kShmSlots);
  std::memcpy(sender.partial + sender.partial_bytes, fragment, bytes);
  acknowledge(peer, descriptor.slot);
  sender.partial_bytes += bytes;
  if (sender.partial_bytes == descriptor.bytes) {
    sender.arrived.push({sender.partial, kShmSlots});
    sender.partial = nullptr;
    sender.partial_bytes = 0;
  }
  return {};
}

Status ShmInbox::accept(int peer, const PeerSegment& segment, const ShmDescriptor& descriptor) {
  From& sender = from(peer);
  const size_t expected = sender.posted[sender.arrived.size()];
  if (descriptor.bytes != expected) {
    return error(Code::kMismatch, "rank {} sent {} bytes where rank {} expected {}", peer, descriptor.bytes,
                 segment_.geometry().rank, expected);
  }
  if (descriptor.fragment_bytes > 0) return accept_fragment(peer, segment, descriptor);
  const uint64_t pool_bytes = segment.geometry().pool_bytes;
  if (descriptor.slot >= kShmSlots || sender.partial != nullptr || descriptor.offset % 64 != 0 ||
      descriptor.offset > pool_bytes || descriptor.bytes > pool_bytes - descriptor.offset) {
    return error(Code::kCorrupt, "rank {} sent {} bytes at offset {} of its pool of {} bytes, slot {}", peer,
                 descriptor.bytes, descriptor.offset, pool_bytes, descriptor.slot);
  }
  sender.arrived.push({segment.pool() + descriptor.offset, descriptor.slot});
  return {};
}

Status ShmInbox::pull(int peer, const PeerSegment& segment, bool* acked) {
  From& sender = from(peer);
  const ShmChannel& channel = segment.channel(segment_.geometry().rank);
  const uint64_t sent = channel.sent.load(std::memory_order_seq_cst);
  if (sent - sender.taken > kShmRing) {
    return error(Code::kCorrupt, "rank {} says that {} messages are on their way, more than {}", peer,
                 sent - sender.taken, kShmRing);
  }
  const uint64_t acks = sender.acked;
  while (sender.taken < sent && sender.arrived.size() < sender.posted.size()) {
    const ShmDescriptor descriptor = channel.descriptors[sender.taken % kShmRing];
    CGX_RETURN_IF_ERROR(accept(peer, segment, descriptor));
    ++sender.taken;
  }
  *acked = sender.acked != acks;
  return {};
}

const uint8_t* ShmInbox::take(int peer) {
  From& sender = from(peer);
  const Arrival arrival = sender.arrived.front();
  held_.push_back({arrival.memory, sender.posted.front(), peer, arrival.slot});
  sender.arrived.pop();
  sender.posted.pop();
  return arrival.memory;
}

int ShmInbox::release(const uint8_t* memory) {
  for (size_t i = held_.size(); i-- > 0;) {
    if (held_[i].memory != memory) continue;
    const Held held = held_[i];
    held_.erase(held_.begin() + static_cast<std::ptrdiff_t>(i));
    if (held.slot == kShmSlots) {
      private_.give(memory);
      return -1;
    }
    acknowledge(held.peer, held.slot);
    return held.peer;
  }
  return -2;
}

}  // namespace cgx
