// See gloo_transport.h.
#include "transport/gloo/gloo_transport.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "transport/rendezvous.h"

namespace cgx {
namespace {

// What may be sent and not yet taken by the peers: acquire() waits beyond that. Sixteen messages a peer
// keep a pipeline full; the bytes bound the memory.
constexpr size_t kMaxUnsentPerPeer = 16;
constexpr size_t kMaxUnsentBytes = size_t{64} << 20;

// Gloo's own deadline, never reached: when it is, Gloo closes all connections. The watch keeps ours.
constexpr std::chrono::hours kNever(24 * 365);

// The size class is part of the slot: a message only meets a receive that it fits.
uint64_t slot_of(uint64_t number, const GlooBlock& block) {
  return (number << 8) | static_cast<uint64_t>(block.size_class());
}

const char* doing(bool sending) { return sending ? "sending" : "receiving"; }
const char* preposition(bool sending) { return sending ? "to" : "from"; }

}  // namespace

GlooTransport::GlooTransport(const TransportConfig& config, GlooMesh mesh)
    : rank_(config.rank),
      size_(config.size),
      hosts_(config.hosts.empty() ? Transport::hosts() : config.hosts),
      store_(config.store),
      job_(config.job),
      context_(std::move(mesh.context)),
      pool_(context_.get()),
      links_(static_cast<size_t>(config.size)),
      watch_(config.rank, mesh.sockets, config.store, config.job) {}

GlooTransport::~GlooTransport() = default;

Result<uint8_t*> GlooTransport::acquire(size_t bytes, const Wait& wait) {
  CGX_RETURN_IF_ERROR(watch_.failure());
  if (bytes == 0) return error(Code::kInvalidArgument, "a message must have at least one byte");
  const size_t limit = kMaxUnsentPerPeer * static_cast<size_t>(std::max(1, size_ - 1));
  while (unsent_.size() >= limit || (!unsent_.empty() && unsent_bytes_ + bytes > kMaxUnsentBytes)) {
    CGX_RETURN_IF_ERROR(finish_oldest_send(wait));
  }
  GlooBlock* block = pool_.take(bytes);
  if (block == nullptr) {
    return watch_.fail(
        error(Code::kResource, "gloo: no memory for a message of {} bytes (phase {})", bytes, wait.phase));
  }
  block->held = true;
  phase_ = wait.phase;
  return block->payload();
}

Status GlooTransport::send(uint8_t* message, size_t bytes, std::span<const int> peers) {
  CGX_RETURN_IF_ERROR(watch_.failure());
  GlooBlock* block = pool_.find(message);
  CGX_CHECK(block != nullptr && block->held && bytes > 0 &&
            bytes <= GlooBlock::capacity_of(block->size_class()));
  // A smaller message than was acquired must still look like its size to the receiver.
  const uint64_t size_class = static_cast<uint64_t>(GlooBlock::class_of(bytes));
  const SigpipeGuard guard;
  for (const int peer : peers) {
    CGX_CHECK(is_peer(peer));
    // One header serves all peers: it holds nothing that differs between them.
    block->header() = {bytes, 0, {}};
    const uint64_t slot = (link(peer).sent++ << 8) | size_class;
    try {
      block->buffer(peer).send(peer, slot, 0, sizeof(GlooHeader) + bytes);
    } catch (const std::exception& fault) {
      return lost(gloo_reason(fault.what()), true, peer, bytes, phase_);
    }
    ++block->unsent;
    unsent_.push_back({block, peer, bytes});
    unsent_bytes_ += bytes;
    stats_.sent_bytes += bytes;
    ++stats_.sent_messages;
  }
  return {};
}

Status GlooTransport::post(int peer, size_t bytes) {
  CGX_CHECK(is_peer(peer) && bytes > 0);
  CGX_RETURN_IF_ERROR(watch_.failure());
  GlooBlock* block = pool_.take(bytes);
  if (block == nullptr) {
    return watch_.fail(
        error(Code::kResource, "gloo: no memory for a message of {} bytes from rank {}", bytes, peer));
  }
  block->held = true;
  Posted posted = {block, bytes, link(peer).posted++, ""};
  const SigpipeGuard guard;
  try {
    block->buffer(peer).recv(peer, slot_of(posted.number, *block), 0, block->wire_capacity());
  } catch (const std::exception& fault) {
    posted.fault = gloo_reason(fault.what());
  }
  link(peer).receives.push_back(std::move(posted));
  return {};
}

Result<const uint8_t*> GlooTransport::receive(int peer, size_t bytes, const Wait& wait) {
  CGX_CHECK(is_peer(peer));
  CGX_RETURN_IF_ERROR(watch_.failure());
  auto& receives = link(peer).receives;
  CGX_CHECK(!receives.empty() && receives.front().bytes == bytes);
  const Posted& posted = receives.front();
  if (!posted.fault.empty()) return lost(posted.fault, false, peer, bytes, wait.phase);
  CGX_RETURN_IF_ERROR(wait_for(posted.block, false, peer, bytes, wait));
  CGX_RETURN_IF_ERROR(check_header(posted, peer, wait));
  const uint8_t* payload = posted.block->payload();
  receives.pop_front();
  stats_.received_bytes += bytes;
  ++stats_.received_messages;
  return payload;
}

Status GlooTransport::check_header(const Posted& posted, int peer, const Wait& wait) {
  const uint64_t bytes = posted.block->header().bytes;
  if (bytes == posted.bytes) return {};
  return watch_.fail(error(Code::kMismatch,
                           "gloo: rank {} sent {} bytes where rank {} expected {} (phase {})", peer, bytes,
                           rank_, posted.bytes, wait.phase));
}

void GlooTransport::release(const uint8_t* message) {
  GlooBlock* block = pool_.find(message);
  if (block == nullptr) return;
  block->held = false;
  // After a failure Gloo may still hold on to any block: none is used again.
  if (watch_.failure().ok()) pool_.give_if_idle(block);
}

Status GlooTransport::flush(const Wait& wait) {
  CGX_RETURN_IF_ERROR(watch_.failure());
  while (!unsent_.empty()) CGX_RETURN_IF_ERROR(finish_oldest_send(wait));
  return {};
}

void GlooTransport::abort(const Status& reason) {
  static_cast<void>(watch_.fail(error(Code::kAborted, "aborted: {}", reason.message())));
}

Status GlooTransport::finish_oldest_send(const Wait& wait) {
  const Unsent oldest = unsent_.front();
  CGX_RETURN_IF_ERROR(wait_for(oldest.block, true, oldest.peer, oldest.bytes, wait));
  unsent_.pop_front();
  unsent_bytes_ -= oldest.bytes;
  --oldest.block->unsent;
  pool_.give_if_idle(oldest.block);
  return {};
}

Status GlooTransport::wait_for(GlooBlock* block, bool sending, int peer, size_t bytes, const Wait& wait) {
  gloo::transport::UnboundBuffer& buffer = block->buffer(peer);
  const auto completes = [&](std::chrono::milliseconds timeout) {
    return sending ? buffer.waitSend(nullptr, timeout) : buffer.waitRecv(nullptr, timeout);
  };
  for (;;) {
    bool done = false;
    std::string fault;
    watch_.begin({&buffer, sending, peer, wait.timeout_ms, wait.phase});
    try {
      done = completes(kNever);
    } catch (const std::exception& thrown) {
      fault = gloo_reason(thrown.what());
    }
    const GlooVerdict verdict = watch_.end();
    if (done) return {};
    CGX_RETURN_IF_ERROR(watch_.failure());
    if (!fault.empty()) return lost(fault, sending, peer, bytes, wait.phase);
    if (verdict == GlooVerdict::kNone) continue;  // an abort that came too late for the wait before
    // It may have completed at that very moment. Gloo closes all connections if it has not: so do we.
    try {
      if (completes(std::chrono::milliseconds(0))) return {};
    } catch (const std::exception& thrown) {
      fault = gloo_reason(thrown.what());
    }
    if (verdict == GlooVerdict::kPeerClosed)
      return lost("it closed the connection", sending, peer, bytes, wait.phase);
    const std::string cause = find_failure(store_, job_, rank_, size_);
    return watch_.fail(error(Code::kTimeout,
                             "gloo: rank {} made no progress for {} ms {} {} bytes {} rank {} (phase {}){}{}",
                             rank_, wait.timeout_ms, doing(sending), bytes, preposition(sending), peer,
                             wait.phase, cause.empty() ? "" : "; ", cause));
  }
}

// The connection to `peer` is gone. Says why, if that rank or another one left word.
Status GlooTransport::lost(const std::string& fault, bool sending, int peer, size_t bytes,
                           std::string_view phase) {
  CGX_RETURN_IF_ERROR(watch_.failure());
  std::string cause = find_failure(store_, job_, peer);
  if (cause.empty()) cause = find_failure(store_, job_, rank_, size_);
  return watch_.fail(error(Code::kPeerFailed,
                           "gloo: rank {} lost rank {} while {} {} bytes {} it (phase {}): {}", rank_, peer,
                           doing(sending), bytes, preposition(sending), phase,
                           cause.empty() ? fault + "; it died or closed its communicator" : cause));
}

}  // namespace cgx
