// The transport over an outbox and an inbox. All waiting is one loop (wait_until): move what can be
// moved, look, spin a little if every rank can have a core, then sleep on this rank's bell; every 10 ms
// look whether the peers live.
#include "transport/shm.h"

#include <algorithm>
#include <bit>
#include <chrono>
#include <vector>

#include "transport/rendezvous.h"
#include "transport/shm_bell.h"
#include "transport/shm_failure.h"
#include "transport/shm_inbox.h"
#include "transport/shm_outbox.h"
#include "transport/shm_segment.h"

namespace cgx {
namespace {

using Clock = std::chrono::steady_clock;
constexpr auto kSpin = std::chrono::microseconds(40);
constexpr int kSliceMs = 10;
// A full pool for this long means that peers hold messages while they wait for ours: rather than wait
// for each other for ever, this rank goes on in private memory.
constexpr auto kPatience = std::chrono::milliseconds(20);

class ShmTransport final : public Transport {
 public:
  explicit ShmTransport(OwnSegment own)
      : own_(std::move(own)),
        rank_(own_.geometry().rank),
        size_(own_.geometry().size),
        outbox_(own_),
        inbox_(own_) {}
  ~ShmTransport() override;

  const char* name() const override { return "shm"; }
  int rank() const override { return rank_; }
  int size() const override { return size_; }

  // Maps the peers' segments and waits until they have mapped ours.
  Status join(const TransportConfig& config, uint64_t job_hash, const std::vector<std::string>& names);

  Result<uint8_t*> acquire(size_t bytes, const Wait& wait) override;
  bool is_shared() const override { return true; }
  Status send(uint8_t* message, size_t bytes, std::span<const int> peers) override;
  Status post(int peer, size_t bytes) override;
  Result<const uint8_t*> receive(int peer, size_t bytes, const Wait& wait) override;
  void release(const uint8_t* message) override;
  Status flush(const Wait& wait) override;
  void abort(const Status& reason) override;
  TransportStats stats() const override { return stats_; }
  bool gone(int peer) const override;

 private:
  struct Peer {
    int rank;
    PeerSegment segment;
  };

  bool is_peer(int peer) const { return peer >= 0 && peer < size_ && peer != rank_; }
  Peer& peer_of(int rank) { return peers_[static_cast<size_t>(rank < rank_ ? rank : rank - 1)]; }
  Status fail(const Status& status);
  Status fail(const Status& status, Code told, int origin, const std::string& words);
  Status progress();
  uint64_t activity() const;
  template <typename Describe>
  Status look_at_peers(int awaited, bool check_lives, Describe describe);
  template <typename Ready, typename Describe>
  Status wait_until(const Wait& wait, int awaited, Ready ready, Describe describe);
  std::string slow_peers() const;
  bool every_rank_can_have_a_core() const;

  OwnSegment own_;
  int rank_;
  int size_;
  ShmFailure failure_;
  ShmOutbox outbox_;
  ShmInbox inbox_;
  std::vector<Peer> peers_;
  bool may_spin_ = false;
  TransportStats stats_;
};

ShmTransport::~ShmTransport() {
  own_.header().closed.store(1, std::memory_order_seq_cst);
  for (const Peer& peer : peers_) wake(peer.segment.bell());
}

Status ShmTransport::fail(const Status& status) {
  const Code told = status.code() == Code::kMismatch ? Code::kMismatch : Code::kPeerFailed;
  return fail(status, told, rank_, status.message());
}

Status ShmTransport::fail(const Status& status, Code told, int origin, const std::string& words) {
  if (failure_.set(own_.header(), status, told, origin, words)) {
    for (const Peer& peer : peers_) wake(peer.segment.bell());
    wake(own_.bell());
  }
  return failure_.status();
}

// Moves everything that can be moved without waiting, to and from every peer.
Status ShmTransport::progress() {
  for (Peer& peer : peers_) {
    bool acked = false;
    CGX_RETURN_IF_ERROR(outbox_.drain(peer.rank, peer.segment.channel(rank_)));
    CGX_RETURN_IF_ERROR(inbox_.pull(peer.rank, peer.segment, &acked));
    const bool pushed = outbox_.has_queued(peer.rank) && outbox_.push(peer.rank);
    if (acked || pushed) ring(peer.segment.bell());
  }
  return {};
}

// Changes whenever any peer does anything for us.
uint64_t ShmTransport::activity() const {
  uint64_t sum = 0;
  for (const Peer& peer : peers_) {
    const ShmChannel& channel = peer.segment.channel(rank_);
    sum += channel.sent.load(std::memory_order_relaxed) + channel.acked.load(std::memory_order_relaxed);
  }
  return sum;
}

bool ShmTransport::gone(int peer) const {
  if (!is_peer(peer)) return false;
  const PeerSegment& segment = peers_[static_cast<size_t>(peer < rank_ ? peer : peer - 1)].segment;
  return segment.header().closed.load(std::memory_order_seq_cst) != 0 || !segment.alive();
}

// What makes waiting hopeless: a failure that a peer reports, a peer that died, and the closing of
// `awaited` (or of one to which something is still queued).
template <typename Describe>
Status ShmTransport::look_at_peers(int awaited, bool check_lives, Describe describe) {
  for (Peer& peer : peers_) {
    int origin = 0;
    std::string words;
    const Status told = told_failure(peer.segment.header(), peer.rank, size_, &origin, &words);
    if (!told.ok()) return fail(told, told.code(), origin, words);
  }
  for (Peer& peer : peers_) {
    const bool closed = peer.segment.header().closed.load(std::memory_order_seq_cst) != 0;
    const bool dead = !closed && check_lives && !peer.segment.alive() &&
                      peer.segment.header().closed.load(std::memory_order_seq_cst) == 0;
    if (!closed && !dead) continue;
    // What it did before it left still counts.
    if (Status moved = progress(); !moved.ok()) {
      return fail(error(moved.code(), "{} (while {})", moved.message(), describe()));
    }
    if (dead) {
      return fail(error(Code::kPeerFailed, "rank {} (pid {}) died while rank {} was {}", peer.rank,
                        peer.segment.pid(), rank_, describe()));
    }
    outbox_.forget(peer.rank);
    if (outbox_.has_queued(peer.rank) || (peer.rank == awaited && !inbox_.has_arrived(awaited))) {
      return fail(error(Code::kPeerFailed, "rank {} closed its communicator while rank {} was {}", peer.rank,
                        rank_, describe()));
    }
  }
  return {};
}

template <typename Ready, typename Describe>
Status ShmTransport::wait_until(const Wait& wait, int awaited, Ready ready, Describe describe) {
  const auto done = [&]() -> bool { return failure_ || ready(); };
  if (failure_) return failure_.status();
  Status moved = progress();
  if (!moved.ok()) return fail(error(moved.code(), "{} (while {})", moved.message(), describe()));
  if (done()) return failure_ ? failure_.status() : Status();

  const auto timeout = std::chrono::milliseconds(wait.timeout_ms);
  auto now = Clock::now();
  auto deadline = now + timeout;
  auto next_look = now + std::chrono::milliseconds(kSliceMs);
  auto spin_until = now + (may_spin_ ? Clock::duration(kSpin) : Clock::duration::zero());
  uint64_t seen = activity();
  for (;;) {
    const auto look = [&] {
      moved = progress();
      return !moved.ok() || done() || activity() != seen;
    };
    if (now < spin_until) {
      for (int i = 0; i < 16 && !look(); ++i) pause_briefly();
    } else {
      sleep_unless(own_.bell(), static_cast<int>(std::min<int64_t>(kSliceMs, wait.timeout_ms)), look);
      if (moved.ok()) moved = progress();
    }
    if (!moved.ok()) return fail(error(moved.code(), "{} (while {})", moved.message(), describe()));
    if (done()) return failure_ ? failure_.status() : Status();
    now = Clock::now();
    const bool check_lives = now >= next_look;
    if (check_lives) next_look = now + std::chrono::milliseconds(kSliceMs);
    if (check_lives || now >= spin_until) {
      CGX_RETURN_IF_ERROR(look_at_peers(awaited, check_lives, describe));
      if (done()) return failure_ ? failure_.status() : Status();
    }
    if (const uint64_t current = activity(); current != seen) {
      seen = current;
      deadline = now + timeout;
      if (may_spin_) spin_until = now + kSpin;
    } else if (now >= deadline) {
      return fail(error(Code::kTimeout, "rank {}: no progress for {} ms while {}", rank_, wait.timeout_ms,
                        describe()));
    }
  }
}

std::string ShmTransport::slow_peers() const {
  std::vector<int> ranks;
  for (const Peer& peer : peers_) {
    if (outbox_.holds_messages(peer.rank)) ranks.push_back(peer.rank);
  }
  return ranks.empty() ? "nobody" : name_ranks(ranks);
}

Result<uint8_t*> ShmTransport::acquire(size_t bytes, const Wait& wait) {
  if (bytes == 0) return error(Code::kInvalidArgument, "a message must have at least one byte");
  const bool fits = outbox_.fits_pool(bytes);
  Clock::time_point patient_until{};  // read only once something has to be waited for
  bool out_of_memory = false;
  uint8_t* memory = nullptr;
  const auto take = [&] {
    if (memory != nullptr || out_of_memory) return true;
    if (fits) memory = outbox_.acquire_from_pool(bytes);
    if (memory != nullptr) return true;
    if (fits && patient_until == Clock::time_point{}) patient_until = Clock::now() + kPatience;
    if (fits && Clock::now() < patient_until) return false;
    auto own = outbox_.acquire_private(bytes);
    out_of_memory = !own.ok();
    if (own.ok()) memory = *own;
    return memory != nullptr || out_of_memory;
  };
  const Status status = wait_until(wait, -1, take, [&] {
    return fmt::format("waiting for {} to release messages (phase {}): {} of {} bytes are in use",
                       slow_peers(), wait.phase, outbox_.pool_used_bytes(), own_.geometry().pool_bytes);
  });
  if (!status.ok()) return status;
  if (out_of_memory) {
    return fail(error(Code::kResource, "no memory for a message of {} bytes (phase {})", bytes, wait.phase));
  }
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
    if (outbox_.push(to)) ring(peer_of(to).segment.bell());
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
  const auto describe = [&] {
    return fmt::format("receiving {} bytes from rank {} (phase {})", bytes, peer, wait.phase);
  };
  CGX_RETURN_IF_ERROR(wait_until(
      wait, peer, [&] { return inbox_.has_arrived(peer); }, describe));
  stats_.received_bytes += bytes;
  ++stats_.received_messages;
  return inbox_.take(peer);
}

void ShmTransport::release(const uint8_t* message) {
  const int peer = inbox_.release(message);
  if (peer >= 0) {
    ring(peer_of(peer).segment.bell());
  } else if (peer == -2) {
    const bool known = outbox_.release(message);
    CGX_CHECK(known);
  }
}

Status ShmTransport::flush(const Wait& wait) {
  const auto all_pushed = [&] {
    return std::none_of(peers_.begin(), peers_.end(),
                        [&](const Peer& p) { return outbox_.has_queued(p.rank); });
  };
  return wait_until(wait, -1, all_pushed, [&] {
    uint64_t bytes = 0;
    for (const Peer& peer : peers_) bytes += outbox_.queued_bytes(peer.rank);
    return fmt::format("pushing the last {} bytes to {} (phase {})", bytes, slow_peers(), wait.phase);
  });
}

void ShmTransport::abort(const Status& reason) {
  const Code told = reason.code() == Code::kMismatch ? Code::kMismatch : Code::kPeerFailed;
  const std::string words = fmt::format("aborted: {}", reason.message());
  const Status ignored = fail(Status(Code::kAborted, words), told, rank_, words);
  static_cast<void>(ignored);
}

// Spinning while another rank needs this core only delays what is waited for.
bool ShmTransport::every_rank_can_have_a_core() const {
  int cpus = 0;
  for (size_t word = 0; word < std::size(own_.header().cpus); ++word) {
    uint64_t mask = own_.header().cpus[word];
    for (const Peer& peer : peers_) mask |= peer.segment.header().cpus[word];
    cpus += std::popcount(mask);
  }
  return cpus >= size_;
}

Status ShmTransport::join(const TransportConfig& config, uint64_t job_hash,
                          const std::vector<std::string>& names) {
  for (int peer = 0; peer < size_; ++peer) {
    if (peer == rank_) continue;
    auto segment =
        PeerSegment::open(config.shm_directory, names[static_cast<size_t>(peer)], {peer, size_, job_hash});
    if (!segment.ok()) return fail(segment.status());
    peers_.push_back({peer, std::move(*segment)});
  }
  own_.header().ready.store(1, std::memory_order_seq_cst);
  for (const Peer& peer : peers_) wake(peer.segment.bell());
  std::vector<int> missing;
  const auto all_ready = [&] {
    missing.clear();
    for (const Peer& peer : peers_) {
      if (peer.segment.header().ready.load(std::memory_order_seq_cst) == 0) missing.push_back(peer.rank);
    }
    return missing.empty();
  };
  CGX_RETURN_IF_ERROR(wait_until({config.timeout_ms, "start"}, -1, all_ready, [&] {
    return fmt::format("waiting for {} to map shared memory (phase start)", name_ranks(missing));
  }));
  own_.unlink();  // everybody has it: a crash leaves nothing behind
  may_spin_ = every_rank_can_have_a_core();
  return {};
}

constexpr char kFailedCard = '!';

}  // namespace

Result<std::unique_ptr<Transport>> open_shm(const TransportConfig& config) {
  if (config.size > kShmMaxRanks) {
    return error(Code::kUnsupported, "the shm transport joins up to {} ranks, not {}", kShmMaxRanks,
                 config.size);
  }
  remove_stale_segments(config.shm_directory);
  // Ranks of two jobs that were given each other's names do not take each other for peers.
  const uint64_t job_hash = hash_of_job(config.job);
  const uint64_t pool_bytes =
      config.shm_pool_bytes != 0 ? config.shm_pool_bytes : default_shm_pool_bytes(config.size);
  auto own = OwnSegment::create(config.shm_directory, {config.rank, config.size, job_hash}, pool_bytes);
  const std::string card = own.ok() ? own->name() : kFailedCard + own.status().message();
  // A rank without a segment comes all the same: the others shall hear why, and not wait for it.
  auto names = meet(config.store, {config.rank, config.size, config.job, "shm", config.timeout_ms}, card);
  if (!own.ok()) return own.status();
  if (!names.ok()) return names.status();
  for (int peer = 0; peer < config.size; ++peer) {
    const std::string& name = (*names)[static_cast<size_t>(peer)];
    if (name.empty() || name[0] != kFailedCard) continue;
    return error(Code::kPeerFailed, "rank {} reported: {}", peer, name.substr(1));
  }
  auto transport = std::make_unique<ShmTransport>(std::move(*own));
  CGX_RETURN_IF_ERROR(transport->join(config, job_hash, *names));
  return std::unique_ptr<Transport>(std::move(transport));
}

}  // namespace cgx
