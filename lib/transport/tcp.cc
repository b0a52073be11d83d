// The contract over sockets: see tcp_transport.h. How a rank waits: tcp_wait.cc.
#include "transport/tcp.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <map>
#include <string>
#include <system_error>

#include "base/deadline.h"
#include "transport/rendezvous.h"
#include "transport/tcp_transport.h"

namespace cgx {
namespace {

// send() calls the socket when this much has come together, or when it has not been called for so long;
// else the message goes with the next, or once the caller waits for something.
constexpr size_t kPushBytes = 16 << 10;
constexpr auto kPushAfter = std::chrono::microseconds(200);
// Send buffers of all connections together, and the least of one (the kernel takes twice that). 384 KiB is
// what 12 Gb/s carry in the longest round trip that counts as short.
constexpr size_t kSendBuffers = 192 << 10;
constexpr size_t kLeastSendBuffer = 32 << 10;
constexpr uint32_t kShortTripUs = 250;

}  // namespace

TcpTransport::Peer::Peer(int number, TcpLink link, int own_rank, TcpPool* pool)
    : rank(number), control(std::move(link.control), number) {
  for (TcpSocket& socket : link.data) streams.emplace_back(std::move(socket), own_rank, number, pool);
  ended.resize(streams.size(), false);
}

bool TcpTransport::Peer::has_queued() const {
  return std::any_of(streams.begin(), streams.end(), [](const TcpStream& s) { return s.has_queued(); });
}

TcpTransport::TcpTransport(const TransportConfig& config, TcpMesh mesh)
    : rank_(config.rank),
      size_(config.size),
      hosts_(config.hosts.empty() ? Transport::hosts() : config.hosts),
      may_spin_(mesh.may_spin),
      by_rank_(static_cast<size_t>(config.size), nullptr),
      wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      signals_(::epoll_create1(EPOLL_CLOEXEC)) {
  for (size_t r = 0; r < mesh.links.size(); ++r) {
    if (!config.has_peer(static_cast<int>(r))) continue;
    peers_.push_back(std::make_unique<Peer>(static_cast<int>(r), std::move(mesh.links[r]), rank_, &pool_));
    by_rank_[r] = peers_.back().get();
    for (size_t s = 0; s < peers_.back()->streams.size(); ++s) slots_.push_back({by_rank_[r], s, 0});
  }
}

// What lies in a send buffer is gone from the caches when it leaves: where a round trip is short, less of
// it fills the link as well, and a receiver's queue is not flooded by all at once. Where it is long, the
// kernel's own tuning knows better.
void TcpTransport::learn_round_trips() {
  const size_t connections = std::max<size_t>(1, slots_.size());
  const int bytes = static_cast<int>(std::max(kLeastSendBuffer, kSendBuffers / connections));
  std::map<const Peer*, int64_t> trips;  // the shortest of a pair's connections
  for (const Slot& slot : slots_) {
    const int fd = slot.peer->streams[slot.stream].fd();
    tcp_info info = {};
    socklen_t length = sizeof info;
    if (::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) != 0) continue;
    if (info.tcpi_min_rtt == UINT32_MAX) continue;  // never measured
    int64_t& trip = trips[slot.peer];
    trip = trip == 0 ? info.tcpi_min_rtt : std::min<int64_t>(trip, info.tcpi_min_rtt);
    if (info.tcpi_min_rtt > kShortTripUs) continue;
    ::setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
  }
  for (const auto& [peer, trip] : trips) round_trip_us_ = std::max(round_trip_us_, trip);
}

Status TcpTransport::init() {
  learn_round_trips();
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

// Through the store: the first bytes between ranks are those of a collective.
Status TcpTransport::agree_on_round_trips(const TransportConfig& config, int64_t timeout_ms) {
  if (size_ == 1) return {};
  const Meeting meeting = {rank_, size_, config.job, "tcp.trip", timeout_ms};
  CGX_ASSIGN_OR_RETURN(const std::vector<std::string> cards,
                       meet(config.store, meeting, std::to_string(round_trip_us_)));
  for (int peer = 0; peer < size_; ++peer) {
    const std::string& card = cards[static_cast<size_t>(peer)];
    uint32_t theirs = 0;
    const auto [end, problem] = std::from_chars(card.data(), card.data() + card.size(), theirs);
    if (problem != std::errc() || end != card.data() + card.size()) {
      return error(Code::kMismatch, "tcp: rank {} left \"{}\" where a round trip in microseconds belongs",
                   peer, card.substr(0, 40));
    }
    round_trip_us_ = std::max<int64_t>(round_trip_us_, theirs);
  }
  return {};
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
  {
    const std::lock_guard lock(mutex_);
    if (!failure_.ok()) return failure_;
    failure_ = status;
    failed_.store(true, std::memory_order_release);
    for (const auto& peer : peers_) peer->control.tell_failure(told, origin, words);
    const uint64_t one = 1;
    static_cast<void>(::write(wake_.get(), &one, sizeof one));
  }
  fail_other(status, told, origin, words);
  return status;
}

void TcpTransport::abort(const Status& reason) {
  const Code told = reason.code() == Code::kMismatch ? Code::kMismatch : Code::kPeerFailed;
  const std::string words = fmt::format("aborted: {}", reason.message());
  static_cast<void>(fail(Status(Code::kAborted, words), told, rank_, words));
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

namespace {

Result<std::unique_ptr<TcpTransport>> open_sockets(const TransportConfig& config) {
  const Deadline deadline(config.timeout_ms);
  TcpMesh mesh;
  if (config.size > 1) {
    CGX_ASSIGN_OR_RETURN(mesh, connect_tcp(config));
  }
  auto transport = std::make_unique<TcpTransport>(config, std::move(mesh));
  Status problem = transport->init();
  if (problem.ok()) problem = transport->agree_on_round_trips(config, deadline.left_ms());
  if (problem.ok()) return transport;
  publish_failure(config.store, config.job, config.rank, problem);  // the others wait for this rank there
  return problem;
}

}  // namespace

Result<std::unique_ptr<Transport>> open_tcp(const TransportConfig& config) {
  CGX_ASSIGN_OR_RETURN(std::unique_ptr<TcpTransport> transport, open_sockets(config));
  return std::unique_ptr<Transport>(std::move(transport));
}

Result<std::unique_ptr<Half>> open_tcp_half(const TransportConfig& config) {
  CGX_ASSIGN_OR_RETURN(std::unique_ptr<TcpTransport> transport, open_sockets(config));
  return std::unique_ptr<Half>(std::move(transport));
}

}  // namespace cgx
