// Waiting in shared memory: move what can be moved, look, spin a little if every rank can have a core, then
// sleep; every 10 ms look whether the peers live. A half of a mixed transport sleeps in poll() and moves
// the other half too.
#include <algorithm>

#include "transport/rendezvous.h"
#include "transport/shm_transport.h"

namespace cgx {
namespace {

constexpr int kSliceMs = 10;
// A full pool for this long means that peers hold messages while they wait for ours: rather than wait
// for each other for ever, this rank goes on in private memory.
constexpr auto kPatience = std::chrono::milliseconds(20);

}  // namespace

// Moves everything that can be moved without waiting, to and from every peer.
Status ShmTransport::progress() {
  for (Peer& peer : peers_) {
    bool acked = false;
    CGX_RETURN_IF_ERROR(outbox_.drain(peer.rank, peer.segment.channel(rank_)));
    CGX_RETURN_IF_ERROR(inbox_.pull(peer.rank, peer.segment, &acked));
    const bool pushed = outbox_.has_queued(peer.rank) && outbox_.push(peer.rank);
    if (acked || pushed) ring(peer);
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
  const PeerSegment& segment = peers_[static_cast<size_t>(index_[static_cast<size_t>(peer)])].segment;
  return segment.header().closed.load(std::memory_order_seq_cst) != 0 || !segment.alive();
}

// What makes waiting hopeless: a failure that a peer reports, a peer that died, and the closing of
// `awaited` (or of one to which something is still queued).
Status ShmTransport::look_at_peers(int awaited, bool check_lives, const Words& words) {
  for (Peer& peer : peers_) {
    int origin = 0;
    std::string reported;
    const Status told = told_failure(peer.segment.header(), peer.rank, size_, &origin, &reported);
    if (!told.ok()) return fail(told, told.code(), origin, reported);
  }
  for (Peer& peer : peers_) {
    const bool closed = peer.segment.header().closed.load(std::memory_order_seq_cst) != 0;
    const bool dead = !closed && check_lives && !peer.segment.alive() &&
                      peer.segment.header().closed.load(std::memory_order_seq_cst) == 0;
    if (!closed && !dead) continue;
    // What it did before it left still counts.
    if (Status moved = progress(); !moved.ok()) {
      return fail(error(moved.code(), "{} (while {})", moved.message(), words()));
    }
    if (dead) {
      return fail(error(Code::kPeerFailed, "rank {} (pid {}) died while rank {} was {}", peer.rank,
                        peer.segment.pid(), rank_, words()));
    }
    outbox_.forget(peer.rank);
    if (outbox_.has_queued(peer.rank) || (peer.rank == awaited && !inbox_.has_arrived(awaited))) {
      return fail(error(Code::kPeerFailed, "rank {} closed its communicator while rank {} was {}", peer.rank,
                        rank_, words()));
    }
  }
  return {};
}

Status ShmTransport::advance(const Words& words, bool* moved) {
  if (failure_) return failure_.status();
  // Taken before the look, so that what comes meanwhile is looked at the next time.
  if (const uint64_t now = activity(); now != seen_) {
    seen_ = now;
    *moved = true;
  }
  if (Status status = progress(); !status.ok()) {
    return fail(error(status.code(), "{} (while {})", status.message(), words()));
  }
  const auto now = Clock::now();
  const bool check_lives = now >= next_look_;
  if (check_lives) next_look_ = now + std::chrono::milliseconds(kSliceMs);
  return look_at_peers(-1, check_lives, words);
}

// A fault of progress() shows again in the next one.
bool ShmTransport::prepare_sleep(std::vector<pollfd>* fds) {
  fds->push_back({door_.fd(), POLLIN, 0});
  own_.bell().sleeping.store(kAtDoor, std::memory_order_seq_cst);
  return !failure_ && progress().ok() && activity() == seen_;
}

void ShmTransport::end_sleep(std::span<const pollfd> fds) {
  own_.bell().sleeping.store(kAwake, std::memory_order_seq_cst);
  if (fds[0].revents != 0) door_.clear();
}

template <typename Look>
void ShmTransport::nap(int milliseconds, const Look& look) {
  if (is_paired()) {
    sleep(milliseconds, look);
  } else {
    sleep_unless(own_.bell(), milliseconds, look);
  }
}

template <typename Ready, typename Describe>
Status ShmTransport::wait_until(const Wait& wait, int awaited, Ready ready, Describe describe) {
  const Words words(describe);
  const auto done = [&]() -> bool { return failure_ || ready(); };
  if (failure_) return failure_.status();
  Status moved = progress();
  if (!moved.ok()) return fail(error(moved.code(), "{} (while {})", moved.message(), describe()));
  if (done()) return failure_ ? failure_.status() : Status();

  const auto timeout = std::chrono::milliseconds(wait.timeout_ms);
  const int slice_ms = static_cast<int>(std::min<int64_t>(kSliceMs, wait.timeout_ms));
  auto now = Clock::now();
  auto deadline = now + timeout;
  auto next_look = now + std::chrono::milliseconds(kSliceMs);
  auto spin_until = now + (may_spin_ ? Clock::duration(kSpin) : Clock::duration::zero());
  seen_ = activity();
  for (;;) {
    const auto look = [&] {
      moved = progress();
      return !moved.ok() || done() || activity() != seen_;
    };
    if (now < spin_until) {
      for (int i = 0; i < 16 && !look(); ++i) pause_briefly();
    } else {
      nap(slice_ms, look);
      if (moved.ok()) moved = progress();
    }
    if (!moved.ok()) return fail(error(moved.code(), "{} (while {})", moved.message(), describe()));
    if (done()) return failure_ ? failure_.status() : Status();
    now = Clock::now();
    const bool check_lives = now >= next_look;
    if (check_lives) next_look = now + std::chrono::milliseconds(kSliceMs);
    if (check_lives || now >= spin_until) {
      CGX_RETURN_IF_ERROR(look_at_peers(awaited, check_lives, words));
      if (done()) return failure_ ? failure_.status() : Status();
    }
    bool elsewhere = false;
    CGX_RETURN_IF_ERROR(advance_other(words, &elsewhere));
    if (const uint64_t current = activity(); current != seen_ || elsewhere) {
      if (current != seen_ && may_spin_) spin_until = now + kSpin;
      seen_ = current;
      deadline = now + timeout;
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

Status ShmTransport::wait_for_room(const Wait& wait, size_t bytes, uint8_t** memory) {
  const bool fits = outbox_.fits_pool(bytes);
  Clock::time_point patient_until{};  // read only once something has to be waited for
  bool out_of_memory = false;
  const auto take = [&] {
    if (*memory != nullptr || out_of_memory) return true;
    if (fits) *memory = outbox_.acquire_from_pool(bytes);
    if (*memory != nullptr) return true;
    if (fits && patient_until == Clock::time_point{}) patient_until = Clock::now() + kPatience;
    if (fits && Clock::now() < patient_until) return false;
    auto own = outbox_.acquire_private(bytes);
    out_of_memory = !own.ok();
    if (own.ok()) *memory = *own;
    return *memory != nullptr || out_of_memory;
  };
  CGX_RETURN_IF_ERROR(wait_until(wait, -1, take, [&] {
    return fmt::format("waiting for {} to release messages (phase {}): {} of {} bytes are in use",
                       slow_peers(), wait.phase, outbox_.pool_used_bytes(), own_.geometry().pool_bytes);
  }));
  if (!out_of_memory) return {};
  return fail(error(Code::kResource, "no memory for a message of {} bytes (phase {})", bytes, wait.phase));
}

Status ShmTransport::wait_for_message(const Wait& wait, int peer, size_t bytes) {
  return wait_until(
      wait, peer, [&] { return inbox_.has_arrived(peer); },
      [&] { return fmt::format("receiving {} bytes from rank {} (phase {})", bytes, peer, wait.phase); });
}

Status ShmTransport::wait_for_queues(const Wait& wait) {
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

Status ShmTransport::wait_for_peers(const TransportConfig& config) {
  std::vector<int> missing;
  const auto all_ready = [&] {
    missing.clear();
    for (const Peer& peer : peers_) {
      if (peer.segment.header().ready.load(std::memory_order_seq_cst) == 0) missing.push_back(peer.rank);
    }
    return missing.empty() || is_set(config.stop);
  };
  const auto words = [&] {
    return fmt::format("waiting for {} to map shared memory (phase start)", name_ranks(missing));
  };
  CGX_RETURN_IF_ERROR(wait_until({config.timeout_ms, "start"}, -1, all_ready, words));
  return missing.empty() ? Status() : fail(error(Code::kAborted, "given up while {}", words()));
}

}  // namespace cgx
