// See shm_outbox.h. Before each message of the pool lie 64 bytes with its slot, so that a pointer finds
// its message at once; only this rank can write there.
#include "transport/shm_outbox.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/stream_copy.h"

namespace cgx {
namespace {

constexpr size_t kPrefix = 64;
// Private messages together: this much, or four of the size asked for.
constexpr uint64_t kPrivateBytes = 64 << 20;

}  // namespace

ShmOutbox::ShmOutbox(const OwnSegment& segment)
    : segment_(segment),
      pool_(segment.geometry().pool_bytes),
      private_(4),
      messages_(kShmSlots),
      lanes_(static_cast<size_t>(segment.geometry().size)) {
  for (uint32_t slot = kShmSlots; slot-- > 0;) free_slots_.push_back(slot);
}

uint8_t* ShmOutbox::add(uint8_t* memory, size_t bytes, bool in_pool) {
  const uint32_t slot = free_slots_.back();
  free_slots_.pop_back();
  messages_[slot] = {memory, bytes, in_pool, true, 0, 0};
  if (in_pool) {
    std::memcpy(memory - kPrefix, &slot, sizeof slot);
  } else {
    private_slots_.push_back(slot);
    private_bytes_ += bytes;
  }
  return memory;
}

uint8_t* ShmOutbox::acquire_from_pool(size_t bytes) {
  if (free_slots_.empty() || !fits_pool(bytes)) return nullptr;
  const std::optional<uint64_t> offset = pool_.allocate(bytes + kPrefix);
  return offset ? add(segment_.pool() + *offset + kPrefix, bytes, true) : nullptr;
}

Result<uint8_t*> ShmOutbox::acquire_private(size_t bytes) {
  const uint64_t limit = std::max<uint64_t>(kPrivateBytes, 4 * uint64_t{bytes});
  if (free_slots_.empty() || private_bytes_ + bytes > limit) return static_cast<uint8_t*>(nullptr);
  uint8_t* memory = private_.take(bytes);
  if (memory == nullptr) return error(Code::kResource, "no memory for a message of {} bytes", bytes);
  return add(memory, bytes, false);
}

uint32_t ShmOutbox::find(const uint8_t* memory) const {
  const uint8_t* pool = segment_.pool();
  uint32_t slot = kShmSlots;
  if (memory >= pool && memory < pool + segment_.geometry().pool_bytes) {
    std::memcpy(&slot, memory - kPrefix, sizeof slot);
    return slot < kShmSlots && messages_[slot].memory == memory ? slot : kShmSlots;
  }
  for (const uint32_t candidate : private_slots_) {
    if (messages_[candidate].memory == memory) slot = candidate;
  }
  return slot;
}

void ShmOutbox::free_if_done(uint32_t slot) {
  Message& message = messages_[slot];
  if (message.held || message.queued > 0 || message.unacked != 0) return;
  if (message.in_pool) {
    pool_.free(static_cast<uint64_t>(message.memory - kPrefix - segment_.pool()));
  } else {
    private_.give(message.memory);
    private_bytes_ -= message.bytes;
    private_slots_.erase(std::find(private_slots_.begin(), private_slots_.end(), slot));
  }
  message.memory = nullptr;
  free_slots_.push_back(slot);
}

void ShmOutbox::send(const uint8_t* memory, size_t bytes, int peer) {
  const uint32_t slot = find(memory);
  CGX_CHECK(slot < kShmSlots && messages_[slot].held && bytes > 0 && bytes <= messages_[slot].bytes);
  ++messages_[slot].queued;
  lane(peer).queue.push({slot, bytes, 0});
}

bool ShmOutbox::release(const uint8_t* memory) {
  const uint32_t slot = find(memory);
  if (slot == kShmSlots) return false;
  messages_[slot].held = false;
  free_if_done(slot);
  return true;
}

void ShmOutbox::write(int peer, const ShmDescriptor& descriptor) {
  Lane& to = lane(peer);
  ShmChannel& channel = segment_.channel(peer);
  channel.descriptors[to.sent % kShmRing] = descriptor;
  ++to.sent;
  // Sequentially consistent, as is the peer's "I am going to sleep": one of us sees the other.
  channel.sent.store(to.sent, std::memory_order_seq_cst);
}

bool ShmOutbox::push_fragment(int peer) {
  Lane& to = lane(peer);
  const auto lane_slot = static_cast<uint32_t>(std::countr_one(to.busy_slots));
  if (lane_slot >= kShmLaneSlots) return false;
  Queued& queued = to.queue.front();
  const size_t bytes = std::min<size_t>(queued.bytes - queued.pushed, segment_.geometry().lane_slot_bytes());
  stream_copy(segment_.lane(peer, lane_slot), messages_[queued.slot].memory + queued.pushed, bytes);
  stream_fence();
  queued.pushed += bytes;
  to.busy_slots |= 1u << lane_slot;
  write(peer, {0, queued.bytes, kShmSlots + lane_slot, static_cast<uint32_t>(bytes)});
  return true;
}

bool ShmOutbox::push(int peer) {
  Lane& to = lane(peer);
  bool moved = false;
  while (!to.queue.empty()) {
    const Queued& queued = to.queue.front();
    const uint32_t slot = queued.slot;
    Message& message = messages_[slot];
    const uint64_t bit = uint64_t{1} << peer;
    const bool by_reference = message.in_pool && queued.pushed == 0 && (message.unacked & bit) == 0 &&
                              to.unacked < kShmRing - kShmLaneSlots;
    if (by_reference) {
      message.unacked |= bit;
      ++to.unacked;
      write(peer, {static_cast<uint64_t>(message.memory - segment_.pool()), queued.bytes, slot, 0});
    } else {
      if (!push_fragment(peer)) return moved;
      moved = true;
      if (queued.pushed < queued.bytes) continue;
    }
    moved = true;
    to.queue.pop();
    --message.queued;
    free_if_done(slot);
  }
  return moved;
}

bool ShmOutbox::acknowledge(int peer, uint32_t slot) {
  Lane& from = lane(peer);
  if (slot < kShmSlots) {
    const uint64_t bit = uint64_t{1} << peer;
    if ((messages_[slot].unacked & bit) == 0) return false;
    messages_[slot].unacked &= ~bit;
    --from.unacked;
    free_if_done(slot);
    return true;
  }
  const uint32_t lane_slot = slot - kShmSlots;
  if (lane_slot >= kShmLaneSlots || (from.busy_slots >> lane_slot & 1) == 0) return false;
  from.busy_slots &= ~(1u << lane_slot);
  return true;
}

Status ShmOutbox::drain(int peer, const ShmChannel& theirs) {
  Lane& from = lane(peer);
  const uint64_t acked = theirs.acked.load(std::memory_order_seq_cst);
  if (acked - from.acks_taken > kShmRing) {
    return error(Code::kCorrupt, "rank {} acknowledges {} messages at once", peer, acked - from.acks_taken);
  }
  for (; from.acks_taken < acked; ++from.acks_taken) {
    const uint32_t slot = theirs.acks[from.acks_taken % kShmRing];
    if (acknowledge(peer, slot)) continue;
    return error(Code::kCorrupt, "rank {} acknowledges message {}, which it was not sent", peer, slot);
  }
  return {};
}

void ShmOutbox::forget(int peer) {
  if (lane(peer).unacked == 0) return;
  for (uint32_t slot = 0; slot < kShmSlots; ++slot) {
    if ((messages_[slot].unacked >> peer & 1) != 0) acknowledge(peer, slot);
  }
}

uint64_t ShmOutbox::queued_bytes(int peer) const {
  uint64_t bytes = 0;
  const Lane& to = lane(peer);
  for (size_t i = 0; i < to.queue.size(); ++i) bytes += to.queue[i].bytes - to.queue[i].pushed;
  return bytes;
}

}  // namespace cgx
