// The contract in shared memory: a message is encoded into the sender's mapped pool and decoded from it by
// the receiver. How a rank waits: shm_wait.cc.
#include "transport/shm.h"

#include "base/hash.h"
#include "transport/rendezvous.h"
#include "transport/shm_transport.h"

namespace cgx {

ShmTransport::ShmTransport(OwnSegment own, ShmDoor door)
    : own_(std::move(own)),
      door_(std::move(door)),
      rank_(own_.geometry().rank),
      size_(own_.geometry().size),
      outbox_(own_),
      inbox_(own_),
      index_(static_cast<size_t>(size_), -1) {}

ShmTransport::~ShmTransport() {
  own_.header().closed.store(1, std::memory_order_seq_cst);
  for (const Peer& peer : peers_) wake(peer.segment.bell(), peer.door);
}

void ShmTransport::wake_all() const {
  for (const Peer& peer : peers_) wake(peer.segment.bell(), peer.door);
  wake(own_.bell(), door_);
}

Status ShmTransport::fail(const Status& status) {
  const Code told = status.code() == Code::kMismatch ? Code::kMismatch : Code::kPeerFailed;
  return fail(status, told, rank_, status.message());
}

Status ShmTransport::fail(const Status& status, Code told, int origin, const std::string& words) {
  if (failure_.set(own_.header(), status, told, origin, words)) {
    wake_all();
    fail_other(status, told, origin, words);
  }
  return failure_.status();
}

Result<uint8_t*> ShmTransport::acquire(size_t bytes, const Wait& wait) {
  if (bytes == 0) return error(Code::kInvalidArgument, "a message must have at least one byte");
  uint8_t* memory = nullptr;
  CGX_RETURN_IF_ERROR(wait_for_room(wait, bytes, &memory));
  return memory;
}

Status ShmTransport::send(uint8_t* message, size_t bytes, std::span<const int> peers) {
  if (failure_) return failure_.status();
  for (const int to : peers) {
    CGX_CHECK(is_peer(to));
    outbox_.send(message, bytes, to);
    stats_.sent_bytes += bytes;
    ++stats_.sent_messages;
  }
  for (const int to : peers) {
    if (outbox_.push(to)) ring(peer_of(to));
  }
  return {};
}

Status ShmTransport::post(int peer, size_t bytes) {
  CGX_CHECK(is_peer(peer) && bytes > 0);
  if (failure_) return failure_.status();
  inbox_.post(peer, bytes);
  return {};
}

Result<const uint8_t*> ShmTransport::receive(int peer, size_t bytes, const Wait& wait) {
  CGX_CHECK(is_peer(peer));
  if (failure_) return failure_.status();
  CGX_CHECK(inbox_.next_bytes(peer) == bytes);
  CGX_RETURN_IF_ERROR(wait_for_message(wait, peer, bytes));
  stats_.received_bytes += bytes;
  ++stats_.received_messages;
  return inbox_.take(peer);
}

void ShmTransport::release(const uint8_t* message) {
  const int peer = inbox_.release(message);
  if (peer >= 0) {
    ring(peer_of(peer));
  } else if (peer == -2) {
    const bool known = outbox_.release(message);
    CGX_CHECK(known);
  }
}

Status ShmTransport::flush(const Wait& wait) { return wait_for_queues(wait); }

void ShmTransport::abort(const Status& reason) {
  const Code told = reason.code() == Code::kMismatch ? Code::kMismatch : Code::kPeerFailed;
  const std::string words = fmt::format("aborted: {}", reason.message());
  static_cast<void>(fail(Status(Code::kAborted, words), told, rank_, words));
}

Status ShmTransport::join(const TransportConfig& config, uint64_t job_hash,
                          const std::vector<std::string>& names) {
  for (int peer = 0; peer < size_; ++peer) {
    if (!config.has_peer(peer)) continue;
    const std::string& name = names[static_cast<size_t>(peer)];
    auto segment = PeerSegment::open(config.shm_directory, name, {peer, size_, job_hash});
    if (!segment.ok()) return fail(segment.status());
    ShmDoor door;
    if (door_.fd() >= 0) {
      auto opened = ShmDoor::open(config.shm_directory, name, peer);
      if (!opened.ok()) return fail(opened.status());
      door = std::move(*opened);
    }
    index_[static_cast<size_t>(peer)] = static_cast<int>(peers_.size());
    peers_.push_back({peer, std::move(*segment), std::move(door)});
  }
  own_.header().ready.store(1, std::memory_order_seq_cst);
  for (const Peer& peer : peers_) wake(peer.segment.bell(), peer.door);
  CGX_RETURN_IF_ERROR(wait_for_peers(config));
  door_.unlink();  // everybody has both: a crash leaves nothing behind
  own_.unlink();
  std::vector<Cores> cores = {own_.header().cores};
  for (const Peer& peer : peers_) cores.push_back(peer.segment.header().cores);
  may_spin_ = can_have_one_each(cores);
  return {};
}

namespace {

constexpr char kFailedCard = '!';

struct Segment {
  OwnSegment memory;
  ShmDoor door;
};

Result<Segment> make_segment(const TransportConfig& config, uint64_t job_hash, bool with_door) {
  const int sharers = config.peers.empty() ? config.size : static_cast<int>(config.peers.size()) + 1;
  const uint64_t pool_bytes =
      config.shm_pool_bytes != 0 ? config.shm_pool_bytes : default_shm_pool_bytes(sharers);
  CGX_ASSIGN_OR_RETURN(
      OwnSegment memory,
      OwnSegment::create(config.shm_directory, {config.rank, config.size, job_hash}, pool_bytes));
  ShmDoor door;
  if (with_door) {
    CGX_ASSIGN_OR_RETURN(door, ShmDoor::create(config.shm_directory, memory.name()));
  }
  return Segment{std::move(memory), std::move(door)};
}

Result<std::unique_ptr<ShmTransport>> open_segment(const TransportConfig& config, bool with_door) {
  if (config.size > kShmMaxRanks) {
    return error(Code::kUnsupported, "the shm transport joins up to {} ranks, not {}", kShmMaxRanks,
                 config.size);
  }
  remove_stale_segments(config.shm_directory);
  // Ranks of two jobs that were given each other's names do not take each other for peers.
  const uint64_t job_hash = hash_of(config.job);
  auto own = make_segment(config, job_hash, with_door);
  const std::string card = own.ok() ? own->memory.name() : kFailedCard + own.status().message();
  // A rank without a segment comes all the same: the others shall hear why, and not wait for it.
  auto names = meet(config.store, {config.rank, config.size, config.job, "shm", config.timeout_ms}, card);
  if (!own.ok()) return own.status();
  if (!names.ok()) return names.status();
  for (int peer = 0; peer < config.size; ++peer) {
    const std::string& name = (*names)[static_cast<size_t>(peer)];
    if (name.empty() || name[0] != kFailedCard) continue;
    return error(Code::kPeerFailed, "rank {} reported: {}", peer, name.substr(1));
  }
  auto transport = std::make_unique<ShmTransport>(std::move(own->memory), std::move(own->door));
  CGX_RETURN_IF_ERROR(transport->join(config, job_hash, *names));
  return transport;
}

}  // namespace

Result<std::unique_ptr<Transport>> open_shm(const TransportConfig& config) {
  CGX_ASSIGN_OR_RETURN(std::unique_ptr<ShmTransport> transport, open_segment(config, false));
  return std::unique_ptr<Transport>(std::move(transport));
}

Result<std::unique_ptr<Half>> open_shm_half(const TransportConfig& config) {
  CGX_ASSIGN_OR_RETURN(std::unique_ptr<ShmTransport> transport, open_segment(config, true));
  return std::unique_ptr<Half>(std::move(transport));
}

Status skip_shm(const TransportConfig& config) {
  const auto names = meet(config.store, {config.rank, config.size, config.job, "shm", config.timeout_ms}, "");
  return names.status();
}

}  // namespace cgx
