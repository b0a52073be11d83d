// The contract over sockets. Everything is done by the thread that calls: send() gives the sockets what
// they take, and a call that waits moves whatever can be moved to and from every peer until its own
// condition holds. While the caller computes, the kernel's buffers keep the link busy. A failure is
// told over the control connections, which nothing can block.
#include "transport/tcp.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <mutex>
#include <system_error>
#include <vector>

#include "base/deadline.h"
#include "transport/rendezvous.h"
#include "transport/tcp_connect.h"
#include "transport/tcp_control.h"
#include "transport/tcp_pool.h"
#include "transport/tcp_stream.h"

namespace cgx {
namespace {

using Clock = Deadline::Clock;

// What may wait for sockets to take it: acquire() waits beyond that.
constexpr size_t kMaxUnsentBytes = size_t{32} << 20;
constexpr size_t kMaxUnsentMessages = 4096;
// send() calls the socket when this much has come together, or when it has not been called for so long;
// else the message goes with the next, or once the caller waits for something.
constexpr size_t kPushBytes = 16 << 10;
constexpr auto kPushAfter = std::chrono::microseconds(200);
// Send buffers of all connections together, and the least of one (the kernel takes twice that). 384 KiB is
// what 12 Gb/s carry in the longest round trip that counts as short.
constexpr size_t kSendBuffers = 192 << 10;
constexpr size_t kLeastSendBuffer = 32 << 10;
constexpr uint32_t kShortTripUs = 250;
// How often a waiting rank asks the kernel whether peers have acknowledged anything.
constexpr int64_t kSampleMs = 50;
// How long the data of a dead peer may trail behind the end of its control connection.
constexpr auto kTrailing = std::chrono::milliseconds(100);

struct Peer {
  Peer(int number, TcpLink link, int own_rank, TcpPool* pool)
      : rank(number), control(std::move(link.control), number) {
    for (TcpSocket& socket : link.data) streams.emplace_back(std::move(socket), own_rank, number, pool);
    ended.resize(streams.size(), false);
  }
  TcpStream& stream_of(uint64_t number) { return streams[number % streams.size()]; }

  int rank;
  TcpControl control;
  std::vector<TcpStream> streams;
  std::vector<bool> ended;  // streams on which no more will come
  uint64_t sent = 0, posted = 0, received = 0;
  Clock::time_point pushed_at{};
  Clock::time_point lost_at{};  // since when its control connection is gone
};

// What a call waits for.
struct Doing {
  enum class Kind : uint8_t { kAcquire, kReceive, kFlush };
  Kind kind;
  const Wait& wait;
  size_t bytes = 0;
  int peer = -1;  // kReceive
};

class TcpTransport final : public Transport {
 public:
  TcpTransport(const TransportConfig& config, TcpMesh mesh);
  ~TcpTransport() override;

  Status init();

  const char* name() const override { return "tcp"; }
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  std::vector<int> hosts() const override { return hosts_; }

  Result<uint8_t*> acquire(size_t bytes, const Wait& wait) override;
  Status send(uint8_t* message, size_t bytes, std::span<const int> peers) override;
  Status post(int peer, size_t bytes) override;
  Result<const uint8_t*> receive(int peer, size_t bytes, const Wait& wait) override;
  void release(const uint8_t* message) override;
  Status flush(const Wait& wait) override;
  void abort(const Status& reason) override;
  TransportStats stats() const override { return stats_; }
  bool gone(int peer) const override {
    return is_peer(peer) && peers_[static_cast<size_t>(peer < rank_ ? peer : peer - 1)]->control.ended();
  }

 private:
  struct Slot {
    Peer* peer;
    size_t stream;
  };

  bool is_peer(int peer) const { return peer >= 0 && peer < size_ && peer != rank_; }
  Peer& peer_of(int rank) { return *peers_[static_cast<size_t>(rank < rank_ ? rank : rank - 1)]; }
  bool failed() const { return failed_.load(std::memory_order_acquire); }
  Status failure() const;
  Status fail(const Status& status);
  Status fail(const Status& status, Code told, int origin, const std::string& words);

  bool done(const Doing& doing);
  std::string words(const Doing& doing) const;
  Status wait_for(const Doing& doing);
  Status move_what_moves(const Doing& doing, int64_t timeout_ms, bool* moved);
  Status push(Peer& peer, size_t stream, const Doing& doing, bool* moved);
  Status pull(Peer& peer, size_t stream, const Doing& doing, bool* moved);
  Status push_all(const Doing& doing);
  Status look_at_controls(const Doing& doing);
  Status look_at_lost(const Doing& doing);
  Status ended(Peer& peer, size_t stream, const Doing& doing, int fault);
  Status lost(const Peer& peer, const Doing& doing, int fault);
  void bound_send_buffers();
  uint64_t acknowledged() const;

  const int rank_;
  const int size_;
  const std::vector<int> hosts_;
  TcpPool pool_;
  std::vector<std::unique_ptr<Peer>> peers_;  // in rank order, without the own
  std::vector<Slot> slots_;                   // every stream
  std::vector<pollfd> fds_;                   // signals_, then as slots_
  TcpSocket wake_;                            // an eventfd: abort() was called
  TcpSocket signals_;                         // an epoll of wake_ and the control connections
  const char* phase_ = "";                    // of the last acquire(), for errors of the send() that follows
  TransportStats stats_;

  mutable std::mutex mutex_;  // guards failure_, and that it is told once
  Status failure_;
  std::atomic<bool> failed_ = false;
};

TcpTransport::TcpTransport(const TransportConfig& config, TcpMesh mesh)
    : rank_(config.rank),
      size_(config.size),
      hosts_(config.hosts.empty() ? Transport::hosts() : config.hosts),
      wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      signals_(::epoll_create1(EPOLL_CLOEXEC)) {
  fds_.push_back({signals_.get(), POLLIN, 0});
  for (size_t r = 0; r < mesh.links.size(); ++r) {
    if (static_cast<int>(r) == rank_) continue;
    peers_.push_back(std::make_unique<Peer>(static_cast<int>(r), std::move(mesh.links[r]), rank_, &pool_));
    for (size_t s = 0; s < peers_.back()->streams.size(); ++s) {
      slots_.push_back({peers_.back().get(), s});
      fds_.push_back({-1, 0, 0});
    }
  }
}

// What lies in a send buffer is gone from the caches when it leaves: where a round trip is short, less of
// it fills the link as well, and a receiver's queue is not flooded by all at once. Where it is long, the
// kernel's own tuning knows better.
void TcpTransport::bound_send_buffers() {
  const size_t peers = std::max<size_t>(1, peers_.size());
  const int bytes = static_cast<int>(std::max(kLeastSendBuffer, kSendBuffers / peers));
  for (const Slot& slot : slots_) {
    const int fd = slot.peer->streams[slot.stream].fd();
    tcp_info info = {};
    socklen_t length = sizeof info;
    if (::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) != 0 || info.tcpi_min_rtt > kShortTripUs)
      continue;
    ::setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
  }
}

Status TcpTransport::init() {
  bound_send_buffers();
  epoll_event event = {};
  event.events = EPOLLIN;
  bool sound = wake_ && signals_ && ::epoll_ctl(signals_.get(), EPOLL_CTL_ADD, wake_.get(), &event) == 0;
  for (const auto& peer : peers_) {
    sound = sound && ::epoll_ctl(signals_.get(), EPOLL_CTL_ADD, peer->control.fd(), &event) == 0;
  }
  if (sound) return {};
  return fail(error(Code::kResource, "tcp: rank {} is out of descriptors: {}", rank_,
                    std::system_category().message(errno)));
}

TcpTransport::~TcpTransport() {
  for (const auto& peer : peers_) {
    for (TcpStream& stream : peer->streams) static_cast<void>(stream.push());
    if (!failed()) peer->control.say_goodbye();
  }
}

Status TcpTransport::failure() const {
  const std::lock_guard lock(mutex_);
  return failure_;
}

Status TcpTransport::fail(const Status& status) {
  const Code told = status.code() == Code::kMismatch ? Code::kMismatch : Code::kPeerFailed;
  return fail(status, told, rank_, status.message());
}

// The first failure stays, and is told to everybody in `words` as one of rank `origin`.
Status TcpTransport::fail(const Status& status, Code told, int origin, const std::string& words) {
  const std::lock_guard lock(mutex_);
  if (!failure_.ok()) return failure_;
  failure_ = status;
  failed_.store(true, std::memory_order_release);
  for (const auto& peer : peers_) peer->control.tell_failure(told, origin, words);
  const uint64_t one = 1;
  static_cast<void>(::write(wake_.get(), &one, sizeof one));
  return failure_;
}

void TcpTransport::abort(const Status& reason) {
  const Code told = reason.code() == Code::kMismatch ? Code::kMismatch : Code::kPeerFailed;
  const std::string words = fmt::format("aborted: {}", reason.message());
  static_cast<void>(fail(Status(Code::kAborted, words), told, rank_, words));
}

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
  }
  return true;
}

std::string TcpTransport::words(const Doing& doing) const {
  if (doing.kind == Doing::Kind::kReceive) {
    return fmt::format("receiving {} bytes from rank {} (phase {})", doing.bytes, doing.peer,
                       doing.wait.phase);
  }
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
    const bool queued = std::any_of(peer->streams.begin(), peer->streams.end(),
                                    [](const TcpStream& s) { return s.has_queued(); });
    if ((awaited && peer->ended[stream]) || queued) return ended(*peer, stream, doing, 0);
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

Status TcpTransport::move_what_moves(const Doing& doing, int64_t timeout_ms, bool* moved) {
  for (size_t i = 0; i < slots_.size(); ++i) {
    const TcpStream& stream = slots_[i].peer->streams[slots_[i].stream];
    pollfd& p = fds_[i + 1];
    const bool in = stream.expects() && !slots_[i].peer->ended[slots_[i].stream];
    p.events = static_cast<short>((in ? POLLIN : 0) | (stream.has_queued() ? POLLOUT : 0));
    p.fd = p.events != 0 ? stream.fd() : -1;
    p.revents = 0;
  }
  const int ready = ::poll(fds_.data(), fds_.size(), static_cast<int>(timeout_ms));
  if (ready <= 0) return {};
  if (fds_[0].revents != 0) CGX_RETURN_IF_ERROR(look_at_controls(doing));
  for (size_t i = 0; i < slots_.size(); ++i) {
    const short events = fds_[i + 1].revents;
    if (events == 0) continue;
    Peer& peer = *slots_[i].peer;
    const size_t s = slots_[i].stream;
    if ((events & ~POLLOUT) != 0 && peer.streams[s].expects()) {
      CGX_RETURN_IF_ERROR(pull(peer, s, doing, moved));
    }
    if ((events & ~POLLIN) != 0 && peer.streams[s].has_queued()) {
      CGX_RETURN_IF_ERROR(push(peer, s, doing, moved));
    }
  }
  return {};
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
  const auto timeout = std::chrono::milliseconds(doing.wait.timeout_ms);
  auto now = Clock::now();
  auto deadline = now + timeout;
  auto next_sample = now + std::chrono::milliseconds(kSampleMs);
  uint64_t acked = 0;
  for (bool sampled = false;;) {
    moved = false;
    CGX_RETURN_IF_ERROR(move_what_moves(doing, std::min(kSampleMs, doing.wait.timeout_ms), &moved));
    if (failed()) return failure();
    if (done(doing)) return {};
    CGX_RETURN_IF_ERROR(look_at_lost(doing));
    now = Clock::now();
    if (!moved && now >= next_sample) {
      const uint64_t before = std::exchange(acked, acknowledged());
      moved = sampled && acked != before;
      sampled = true;
      next_sample = now + std::chrono::milliseconds(kSampleMs);
    }
    if (moved) {
      deadline = now + timeout;
    } else if (now >= deadline) {
      return fail(error(Code::kTimeout, "rank {}: no progress for {} ms while {}", rank_,
                        doing.wait.timeout_ms, words(doing)));
    }
  }
}

Result<uint8_t*> TcpTransport::acquire(size_t bytes, const Wait& wait) {
  if (bytes == 0) return error(Code::kInvalidArgument, "a message must have at least one byte");
  const Doing doing{Doing::Kind::kAcquire, wait, bytes};
  if (failed()) return failure();
  if (!done(doing)) CGX_RETURN_IF_ERROR(wait_for(doing));
  TcpMessage* message = pool_.take(bytes);
  if (message == nullptr) {
    return fail(error(Code::kResource, "no memory for a message of {} bytes (phase {})", bytes, wait.phase));
  }
  phase_ = wait.phase;
  return message->payload();
}

Status TcpTransport::send(uint8_t* message, size_t bytes, std::span<const int> peers) {
  if (failed()) return failure();
  TcpMessage* record = TcpMessage::of(message);
  CGX_CHECK(record->held && bytes > 0 && bytes <= record->capacity);
  record->bytes = bytes;
  record->crc = crc32c(0, message, bytes);
  for (const int to : peers) {
    CGX_CHECK(is_peer(to));
    Peer& peer = peer_of(to);
    peer.stream_of(peer.sent).queue(record, peer.sent);
    ++peer.sent;
    stats_.sent_bytes += bytes;
    ++stats_.sent_messages;
  }
  const Wait wait{0, phase_};
  const Doing doing{Doing::Kind::kFlush, wait};
  bool moved = false;
  for (const int to : peers) {
    Peer& peer = peer_of(to);
    const size_t s = (peer.sent - 1) % peer.streams.size();
    if (peer.streams[s].queued_bytes() < kPushBytes && Clock::now() < peer.pushed_at + kPushAfter) continue;
    CGX_RETURN_IF_ERROR(push(peer, s, doing, &moved));
  }
  return {};
}

Status TcpTransport::post(int peer, size_t bytes) {
  CGX_CHECK(is_peer(peer) && bytes > 0);
  if (failed()) return failure();
  TcpMessage* message = pool_.take(bytes);
  if (message == nullptr) {
    return fail(error(Code::kResource, "no memory for a message of {} bytes from rank {}", bytes, peer));
  }
  Peer& from = peer_of(peer);
  from.stream_of(from.posted).expect(message, from.posted);
  ++from.posted;
  return {};
}

Result<const uint8_t*> TcpTransport::receive(int peer, size_t bytes, const Wait& wait) {
  CGX_CHECK(is_peer(peer));
  if (failed()) return failure();
  Peer& from = peer_of(peer);
  TcpStream& stream = from.stream_of(from.received);
  CGX_CHECK(stream.next() != nullptr && stream.next()->bytes == bytes);
  CGX_RETURN_IF_ERROR(wait_for({Doing::Kind::kReceive, wait, bytes, peer}));
  ++from.received;
  stats_.received_bytes += bytes;
  ++stats_.received_messages;
  return stream.take()->payload();
}

void TcpTransport::release(const uint8_t* message) { pool_.release(TcpMessage::of(message)); }

Status TcpTransport::flush(const Wait& wait) { return wait_for({Doing::Kind::kFlush, wait}); }

}  // namespace

Result<std::unique_ptr<Transport>> open_tcp(const TransportConfig& config) {
  TcpMesh mesh;
  if (config.size > 1) {
    CGX_ASSIGN_OR_RETURN(mesh, connect_tcp(config));
  }
  auto transport = std::make_unique<TcpTransport>(config, std::move(mesh));
  CGX_RETURN_IF_ERROR(transport->init());
  return std::unique_ptr<Transport>(std::move(transport));
}

}  // namespace cgx
