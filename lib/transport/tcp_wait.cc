// Waiting for sockets: see tcp_transport.h. One poll() over all peers, and over the other half where there is
// one; then whatever can be moved is moved. A wait does not begin with sleep if every rank can have a core.
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <system_error>

#include "transport/rendezvous.h"
#include "transport/tcp_transport.h"

namespace cgx {
namespace {

// What may wait for sockets to take it: acquire() waits beyond that.
constexpr size_t kMaxUnsentBytes = size_t{32} << 20;
constexpr size_t kMaxUnsentMessages = 4096;
// How often a waiting rank asks the kernel whether peers have acknowledged anything.
constexpr int64_t kSampleMs = 50;
// The same of a half: what wakes it says nothing of the other half's deaths.
constexpr int64_t kPairedSliceMs = 10;
// How long the data of a dead peer may trail behind the end of its control connection.
constexpr auto kTrailing = std::chrono::milliseconds(100);

}  // namespace

bool TcpTransport::done(const Doing& doing) {
  switch (doing.kind) {
    case Doing::Kind::kAcquire:
      return pool_.unsent_messages() == 0 || (pool_.unsent_bytes() + doing.bytes <= kMaxUnsentBytes &&
                                              pool_.unsent_messages() < kMaxUnsentMessages);
    case Doing::Kind::kReceive: {
      Peer& peer = peer_of(doing.peer);
      return peer.stream_of(peer.received).has_arrived();
    }
    case Doing::Kind::kFlush:
      return pool_.unsent_messages() == 0;
    case Doing::Kind::kElsewhere:
      return false;
  }
  return true;
}

std::string TcpTransport::words(const Doing& doing) const {
  if (doing.kind == Doing::Kind::kReceive) {
    return fmt::format("receiving {} bytes from rank {} (phase {})", doing.bytes, doing.peer,
                       doing.wait.phase);
  }
  if (doing.kind == Doing::Kind::kElsewhere) return (*doing.elsewhere)();
  std::vector<int> slow;
  size_t bytes = 0;
  for (const auto& peer : peers_) {
    size_t queued = 0;
    for (const TcpStream& stream : peer->streams) queued += stream.queued_bytes();
    if (queued > 0) slow.push_back(peer->rank);
    bytes += queued;
  }
  return fmt::format("sending {} bytes to {} (phase {})", bytes, slow.empty() ? "nobody" : name_ranks(slow),
                     doing.wait.phase);
}

Status TcpTransport::push(Peer& peer, size_t stream, const Doing& doing, bool* moved) {
  peer.pushed_at = Clock::now();
  const TcpMoved result = peer.streams[stream].push();
  if (result.bytes > 0) *moved = true;
  return result.closed ? ended(peer, stream, doing, result.fault) : Status();
}

Status TcpTransport::pull(Peer& peer, size_t stream, const Doing& doing, bool* moved) {
  if (peer.ended[stream]) return {};
  const TcpMoved result = peer.streams[stream].pull();
  if (result.bytes > 0) *moved = true;
  if (!result.wrong.ok()) {
    return fail(error(result.wrong.code(), "{} (while {})", result.wrong.message(), words(doing)));
  }
  if (!result.closed) return {};
  peer.ended[stream] = true;
  return ended(peer, stream, doing, result.fault);
}

Status TcpTransport::push_all(const Doing& doing) {
  if (pool_.unsent_messages() == 0) return {};
  bool moved = false;
  // Every rank begins with the one after itself, so that not all send to the same one at once.
  const size_t first = static_cast<size_t>(rank_) % std::max<size_t>(1, peers_.size());
  for (size_t i = 0; i < peers_.size(); ++i) {
    Peer& peer = *peers_[(first + i) % peers_.size()];
    for (size_t s = 0; s < peer.streams.size(); ++s) {
      if (peer.streams[s].has_queued()) CGX_RETURN_IF_ERROR(push(peer, s, doing, &moved));
    }
  }
  return {};
}

// The connection of a stream has ended. Its peer's control connection says why, or will in a moment.
Status TcpTransport::ended(Peer& peer, size_t stream, const Doing& doing, int fault) {
  const TcpControl::State state = peer.control.look_patiently();
  if (state != TcpControl::State::kLeft) {
    CGX_RETURN_IF_ERROR(look_at_controls(doing));
    return lost(peer, doing, fault);
  }
  const bool awaited = doing.peer == peer.rank && !done(doing);
  if (!awaited && !peer.streams[stream].has_queued()) return {};
  return fail(error(Code::kPeerFailed, "rank {} closed its communicator while rank {} was {}", peer.rank,
                    rank_, words(doing)));
}

Status TcpTransport::lost(const Peer& peer, const Doing& doing, int fault) {
  return fail(error(Code::kPeerFailed,
                    "rank {} died, or its connection to rank {} broke, while rank {} was {}{}", peer.rank,
                    rank_, rank_, words(doing),
                    fault == 0 ? "" : fmt::format(": {}", std::system_category().message(fault))));
}

// Failures that peers tell, and the ends of control connections.
Status TcpTransport::look_at_controls(const Doing& doing) {
  if (failed()) return failure();
  for (const auto& peer : peers_) {
    if (peer->control.state() != TcpControl::State::kOpen) continue;
    const TcpControl::State state = peer->control.look();
    if (state == TcpControl::State::kOpen) continue;
    ::epoll_ctl(signals_.get(), EPOLL_CTL_DEL, peer->control.fd(), nullptr);
    if (state == TcpControl::State::kLost) peer->lost_at = Clock::now();
  }
  // What a peer tells explains more than that another one is gone.
  for (const auto& peer : peers_) {
    if (peer->control.state() != TcpControl::State::kFailed) continue;
    int origin = 0;
    std::string told;
    const Status status = peer->control.told(size_, &origin, &told);
    return fail(error(status.code(), "{} (this rank was {})", status.message(), words(doing)), status.code(),
                origin, told);
  }
  return {};
}

// A dead peer ends every wait, but the one for what it sent before it died.
Status TcpTransport::look_at_lost(const Doing& doing) {
  for (const auto& peer : peers_) {
    const TcpControl::State state = peer->control.state();
    const bool awaited = doing.peer == peer->rank;
    const size_t stream = awaited ? peer->received % peer->streams.size() : 0;
    if (state == TcpControl::State::kLost) {
      if (awaited && !peer->ended[stream] && Clock::now() < peer->lost_at + kTrailing) continue;
      return lost(*peer, doing, 0);
    }
    if (state != TcpControl::State::kLeft) continue;
    if ((awaited && peer->ended[stream]) || peer->has_queued()) return ended(*peer, stream, doing, 0);
  }
  return {};
}

// Moves with every byte that the kernel has received or that peers have acknowledged.
uint64_t TcpTransport::acknowledged() const {
  uint64_t bytes = 0;
  for (const Slot& slot : slots_) {
    tcp_info info = {};
    socklen_t length = sizeof info;
    const int fd = slot.peer->streams[slot.stream].fd();
    if (::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) != 0) continue;
    bytes += info.tcpi_bytes_received + info.tcpi_bytes_acked;
  }
  return bytes;
}

void TcpTransport::sample_later(Clock::time_point now) {
  sampled_ = false;
  next_sample_ = now + std::chrono::milliseconds(kSampleMs);
}

// Asked seldom, as it is a system call a connection.
bool TcpTransport::acknowledged_more(Clock::time_point now) {
  if (now < next_sample_) return false;
  next_sample_ = now + std::chrono::milliseconds(kSampleMs);
  const uint64_t before = std::exchange(acked_, acknowledged());
  return std::exchange(sampled_, true) && acked_ != before;
}

bool TcpTransport::prepare_sleep(std::vector<pollfd>* fds) {
  fds->push_back({signals_.get(), POLLIN, 0});
  for (const Slot& slot : slots_) {
    const TcpStream& stream = slot.peer->streams[slot.stream];
    const bool in = stream.expects() && !slot.peer->ended[slot.stream];
    const auto events = static_cast<short>((in ? POLLIN : 0) | (stream.has_queued() ? POLLOUT : 0));
    fds->push_back({events != 0 ? stream.fd() : -1, events, 0});
  }
  return !failed();
}

void TcpTransport::end_sleep(std::span<const pollfd> fds) {
  polled_ = true;
  signals_ready_ = fds[0].revents;
  for (size_t i = 0; i < slots_.size(); ++i) slots_[i].ready = fds[i + 1].revents;
}

// Moves what the last poll() found ready.
Status TcpTransport::move_ready(const Doing& doing, bool* moved) {
  polled_ = false;
  if (signals_ready_ != 0) CGX_RETURN_IF_ERROR(look_at_controls(doing));
  for (const Slot& slot : slots_) {
    if (slot.ready == 0) continue;
    Peer& peer = *slot.peer;
    const size_t s = slot.stream;
    if ((slot.ready & ~POLLOUT) != 0 && peer.streams[s].expects()) {
      CGX_RETURN_IF_ERROR(pull(peer, s, doing, moved));
    }
    if ((slot.ready & ~POLLIN) != 0 && peer.streams[s].has_queued()) {
      CGX_RETURN_IF_ERROR(push(peer, s, doing, moved));
    }
  }
  return {};
}

Status TcpTransport::advance(const Words& words, bool* moved) {
  if (failed()) return failure();
  const Wait none;
  const Doing doing{Doing::Kind::kElsewhere, none, 0, -1, &words};
  if (!polled_) {
    elsewhere_.clear();
    prepare_sleep(&elsewhere_);
    ::poll(elsewhere_.data(), elsewhere_.size(), 0);
    end_sleep(elsewhere_);
  }
  CGX_RETURN_IF_ERROR(move_ready(doing, moved));
  CGX_RETURN_IF_ERROR(look_at_lost(doing));
  if (acknowledged_more(Clock::now())) *moved = true;
  return failed() ? failure() : Status();
}

Status TcpTransport::wait_for(const Doing& doing) {
  if (failed()) return failure();
  if (done(doing)) return {};
  bool moved = false;
  if (doing.kind == Doing::Kind::kReceive) {
    Peer& peer = peer_of(doing.peer);
    CGX_RETURN_IF_ERROR(pull(peer, peer.received % peer.streams.size(), doing, &moved));
    if (done(doing)) return {};
  }
  CGX_RETURN_IF_ERROR(push_all(doing));
  if (done(doing)) return {};
  const auto describe = [&] { return words(doing); };
  const auto timeout = std::chrono::milliseconds(doing.wait.timeout_ms);
  const int64_t slice_ms = std::min(is_paired() ? kPairedSliceMs : kSampleMs, doing.wait.timeout_ms);
  auto now = Clock::now();
  auto deadline = now + timeout;
  // Not again whenever something moves: over slow links that would be for the whole wait.
  const auto spin_until = now + (may_spin_ ? Clock::duration(kSpin) : Clock::duration::zero());
  sample_later(now);
  for (;;) {
    moved = false;
    sleep(now < spin_until ? 0 : static_cast<int>(slice_ms), [] { return false; });
    CGX_RETURN_IF_ERROR(move_ready(doing, &moved));
    if (failed()) return failure();
    if (done(doing)) return {};
    CGX_RETURN_IF_ERROR(look_at_lost(doing));
    CGX_RETURN_IF_ERROR(advance_other(describe, &moved));
    now = Clock::now();
    if (!moved) moved = acknowledged_more(now);
    if (moved) {
      deadline = now + timeout;
    } else if (now >= deadline) {
      return fail(error(Code::kTimeout, "rank {}: no progress for {} ms while {}", rank_,
                        doing.wait.timeout_ms, words(doing)));
    }
  }
}

}  // namespace cgx
