// See tcp_connect.h. One loop: a rank connects to all lower ones and answers all higher ones, each socket
// at its own pace. Whoever knocks without knowing this rank's nonce is turned away and costs a few bytes.
#include "transport/tcp_connect.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <list>
#include <system_error>

#include "base/boot_id.h"
#include "base/deadline.h"
#include "base/hash.h"
#include "base/log.h"
#include "transport/network.h"
#include "transport/rendezvous.h"
#include "transport/tcp_endpoint.h"
#include "transport/tcp_handshake.h"
#include "transport/tcp_wire.h"

namespace cgx {
namespace {

using Clock = Deadline::Clock;

constexpr uint32_t kMaxStreams = 64;
constexpr size_t kMaxGuests = 128;  // connections that have not said who they are
constexpr int64_t kGuestMs = 5000;  // that one may take for it
constexpr int64_t kRetryMs = 100;   // before another try to connect
constexpr int64_t kLookMs = 200;    // how often the store is asked whether a rank has failed
constexpr int kMaxWarnings = 5;

std::string cause(int number) { return std::system_category().message(number); }

void set_option(int fd, int level, int name, int value) {
  ::setsockopt(fd, level, name, &value, sizeof value);
}

// A connection that this rank makes.
struct Visit {
  Visit(int to, uint16_t number) : peer(to), stream(number) {}
  int peer;
  uint16_t stream;
  TcpSocket socket;
  bool connected = false;
  bool done = false;
  size_t got = 0;
  TcpHello answer;
  Clock::time_point next_try{};
  std::string reason;  // why the last try failed
};

// A connection that somebody made.
struct Guest {
  TcpSocket socket;
  size_t got = 0;
  TcpHello hello;
  Deadline until{kGuestMs};
};

class Connector {
 public:
  Connector(const TransportConfig& config, const Deadline& deadline)
      : config_(config),
        deadline_(deadline),
        self_{config.rank,
              config.size,
              static_cast<uint16_t>(std::clamp(config.tcp_streams, uint32_t{1}, kMaxStreams)),
              hash_of(config.job),
              {},
              config.secret} {}

  Status listen(const std::string& address);
  Status exchange_cards();
  Status connect();
  TcpMesh take() { return {std::move(links_), may_spin()}; }

 private:
  Status read_cards(const std::vector<std::string>& cards);
  void start(Visit& visit);
  void advance(Visit& visit);
  void fail(Visit& visit, const std::string& reason);
  void greet(Visit& visit);
  void welcome();
  bool advance(Guest& guest);
  std::string fault_of(const TcpHello& hello);
  TcpSocket* slot(int peer, uint16_t stream);
  bool complete() const;
  bool may_spin() const;
  Status missing() const;
  void wait_and_advance();
  TcpNonce nonce_of(int peer) const;

  const TransportConfig& config_;
  const Deadline& deadline_;
  TcpSelf self_;
  std::string own_address_;
  uint32_t scope_ = 0;
  TcpSocket listener_;
  int exhausted_ = 0;  // the errno with which a connection could not be accepted
  std::vector<TcpCard> cards_;
  TcpCard own_card_;
  std::vector<TcpLink> links_;
  std::list<Visit> visits_;
  std::list<Guest> guests_;
  int expected_ = 0;  // connections of higher ranks that have not come
  int warnings_ = 0;
  std::string last_refusal_;
};

Status Connector::listen(const std::string& address) {
  own_address_ = address;
  scope_ = scope_of(address);
  CGX_ASSIGN_OR_RETURN(const TcpEndpoint endpoint, make_endpoint(address, 0, scope_));
  listener_ = TcpSocket(::socket(endpoint.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  sockaddr_storage own = {};
  socklen_t bytes = sizeof own;
  char port[NI_MAXSERV] = "";
  if (!listener_ || ::bind(listener_.get(), endpoint.address(), endpoint.bytes) != 0 ||
      ::listen(listener_.get(), SOMAXCONN) != 0 ||
      ::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&own), &bytes) != 0 ||
      ::getnameinfo(reinterpret_cast<sockaddr*>(&own), bytes, nullptr, 0, port, sizeof port,
                    NI_NUMERICSERV) != 0) {
    return error(Code::kResource, "tcp: rank {} cannot listen on {}: {}", config_.rank, address,
                 cause(errno));
  }
  own_card_.magic = kTcpAcceptMagic;
  own_card_.version = kTcpVersion;
  own_card_.streams = self_.streams;
  own_card_.port = static_cast<uint16_t>(std::stoi(port));
  std::memcpy(own_card_.address, address.data(), std::min(address.size(), sizeof own_card_.address - 1));
  if (::getrandom(&self_.nonce, sizeof self_.nonce, 0) != sizeof self_.nonce) {
    return error(Code::kResource, "tcp: rank {} has no random numbers: {}", config_.rank, cause(errno));
  }
  std::memcpy(own_card_.nonce, self_.nonce.words, sizeof own_card_.nonce);
  own_card_.machine = hash_of(boot_id());
  own_card_.cores = Cores::own();
  return {};
}

Status Connector::exchange_cards() {
  const std::string card(reinterpret_cast<const char*>(&own_card_), sizeof own_card_);
  CGX_ASSIGN_OR_RETURN(
      const std::vector<std::string> cards,
      meet(config_.store, {config_.rank, config_.size, config_.job, "tcp.card", deadline_.left_ms()}, card));
  CGX_RETURN_IF_ERROR(read_cards(cards));
  links_.resize(cards_.size());
  for (int peer = 0; peer < config_.size; ++peer) {
    if (!config_.has_peer(peer)) continue;
    links_[static_cast<size_t>(peer)].data.resize(self_.streams);
    if (peer > config_.rank) {
      expected_ += self_.streams + 1;
      continue;
    }
    for (uint16_t s = 0; s < self_.streams; ++s) visits_.emplace_back(peer, s);
    visits_.emplace_back(peer, kTcpControl);
  }
  return {};
}

bool Connector::may_spin() const {
  std::vector<Cores> neighbours;
  for (const TcpCard& card : cards_) {
    if (card.machine == own_card_.machine) neighbours.push_back(card.cores);
  }
  return can_have_one_each(neighbours);
}

Status Connector::read_cards(const std::vector<std::string>& cards) {
  for (size_t peer = 0; peer < cards.size(); ++peer) {
    TcpCard card;  // another version's may be shorter or longer, but begins so
    std::memcpy(&card, cards[peer].data(), std::min(cards[peer].size(), sizeof card));
    card.address[sizeof card.address - 1] = '\0';
    const bool fits = cards[peer].size() == sizeof card;
    if (!fits || card.magic != kTcpAcceptMagic || card.version != kTcpVersion) {
      return error(
          Code::kMismatch,
          "tcp: rank {} speaks another version of the tcp transport's protocol ({}) than rank {} ({}): "
          "all ranks need the same cgx",
          peer, card.version, config_.rank, kTcpVersion);
    }
    if (card.streams != self_.streams) {
      return error(Code::kMismatch,
                   "tcp: rank {} opens {} sockets a pair, rank {} {}: they must be the same "
                   "(CGX_SOCKET_STREAMS)",
                   peer, card.streams, config_.rank, self_.streams);
    }
    cards_.push_back(card);
  }
  return {};
}

TcpNonce Connector::nonce_of(int peer) const {
  const TcpCard& card = cards_[static_cast<size_t>(peer)];
  return {{card.nonce[0], card.nonce[1]}};
}

TcpSocket* Connector::slot(int peer, uint16_t stream) {
  TcpLink& link = links_[static_cast<size_t>(peer)];
  return stream == kTcpControl ? &link.control : &link.data[stream];
}

void Connector::fail(Visit& visit, const std::string& reason) {
  visit.socket.reset();
  visit.connected = false;
  visit.got = 0;
  visit.reason = reason;
  visit.next_try = Clock::now() + std::chrono::milliseconds(kRetryMs);
}

void Connector::start(Visit& visit) {
  const TcpCard& card = cards_[static_cast<size_t>(visit.peer)];
  const Result<TcpEndpoint> there = make_endpoint(card.address, card.port, scope_);
  const Result<TcpEndpoint> here = make_endpoint(own_address_, 0, scope_);
  if (!there.ok() || !here.ok()) return fail(visit, (there.ok() ? here : there).status().message());
  visit.socket = TcpSocket(::socket(there->family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!visit.socket) return fail(visit, cause(errno));
  // From the chosen interface's address, as far as its family is the peer's.
  if (here->family() == there->family() && ::bind(visit.socket.get(), here->address(), here->bytes) != 0) {
    return fail(visit, cause(errno));
  }
  if (::connect(visit.socket.get(), there->address(), there->bytes) == 0) return greet(visit);
  if (errno != EINPROGRESS && errno != EINTR) fail(visit, cause(errno));
}

// 88 bytes fit in the buffer of any new connection.
void Connector::greet(Visit& visit) {
  visit.connected = true;
  set_option(visit.socket.get(), IPPROTO_TCP, TCP_NODELAY, 1);
  const Result<TcpHello> hello =
      make_hello(self_, visit.peer, nonce_of(visit.peer), visit.stream, kTcpConnectMagic);
  if (!hello.ok()) return fail(visit, hello.status().message());
  const ssize_t n = ::send(visit.socket.get(), &*hello, sizeof *hello, MSG_NOSIGNAL);
  if (n != sizeof *hello) fail(visit, n < 0 ? cause(errno) : "the connection takes no bytes");
}

void Connector::advance(Visit& visit) {
  if (!visit.connected) {
    int fault = 0;
    socklen_t bytes = sizeof fault;
    ::getsockopt(visit.socket.get(), SOL_SOCKET, SO_ERROR, &fault, &bytes);
    return fault == 0 ? greet(visit) : fail(visit, cause(fault));
  }
  auto* answer = reinterpret_cast<uint8_t*>(&visit.answer);
  const ssize_t n = ::recv(visit.socket.get(), answer + visit.got, sizeof visit.answer - visit.got, 0);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (n <= 0) return fail(visit, n < 0 ? cause(errno) : "it closed the connection during the handshake");
  visit.got += static_cast<size_t>(n);
  if (visit.got < sizeof visit.answer) return;
  std::string fault = fault_of_host(self_, visit.answer, visit.peer, visit.stream);
  if (fault.empty()) fault = fault_of_proof(self_, visit.answer, nonce_of(visit.peer));
  if (!fault.empty()) return fail(visit, fault);
  *slot(visit.peer, visit.stream) = std::move(visit.socket);
  visit.done = true;
}

void Connector::welcome() {
  // No more than are kept: else whoever comes often enough would keep this rank from all others.
  for (size_t i = 0; i < kMaxGuests; ++i) {
    TcpSocket socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!socket) {  // none is left, or one that is gone again, or no descriptors: it is asked again
      if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) exhausted_ = errno;
      return;
    }
    if (guests_.size() >= kMaxGuests) guests_.pop_front();
    guests_.emplace_back();
    guests_.back().socket = std::move(socket);
  }
}

// Why this visitor is refused, or "".
std::string Connector::fault_of(const TcpHello& hello) {
  std::string fault = fault_of_visitor(self_, hello);
  if (fault.empty() && !config_.has_peer(hello.from))
    fault = "it shares this rank's host: they meet elsewhere";
  if (fault.empty()) fault = fault_of_proof(self_, hello, nonce_of(hello.from));
  if (fault.empty() && *slot(hello.from, hello.stream)) fault = "that connection exists already";
  return fault;
}

// True once the guest is through: taken as a peer's connection, or turned away.
bool Connector::advance(Guest& guest) {
  auto* hello = reinterpret_cast<uint8_t*>(&guest.hello);
  const ssize_t n = ::recv(guest.socket.get(), hello + guest.got, sizeof guest.hello - guest.got, 0);
  if (n < 0 && (errno == EAGAIN || errno == EINTR)) return false;
  if (n <= 0) return true;
  guest.got += static_cast<size_t>(n);
  // Noise is known by its first bytes.
  if (guest.got < sizeof guest.hello && (guest.got < 4 || guest.hello.magic == kTcpConnectMagic))
    return false;
  const std::string fault = fault_of(guest.hello);
  if (!fault.empty()) {
    last_refusal_ =
        fmt::format("a connection from {} was refused: {}", name_of_peer(guest.socket.get()), fault);
    if (++warnings_ <= kMaxWarnings)
      log(LogLevel::kWarn, Subsystem::kNet, "tcp: rank {}: {}", config_.rank, last_refusal_);
    return true;
  }
  const int peer = guest.hello.from;
  const Result<TcpHello> answer =
      make_hello(self_, peer, nonce_of(peer), guest.hello.stream, kTcpAcceptMagic);
  if (!answer.ok()) return true;
  if (::send(guest.socket.get(), &*answer, sizeof *answer, MSG_NOSIGNAL) != sizeof *answer) return true;
  set_option(guest.socket.get(), IPPROTO_TCP, TCP_NODELAY, 1);
  *slot(peer, guest.hello.stream) = std::move(guest.socket);
  --expected_;
  return true;
}

bool Connector::complete() const {
  return expected_ == 0 &&
         std::all_of(visits_.begin(), visits_.end(), [](const Visit& visit) { return visit.done; });
}

Status Connector::missing() const {
  std::vector<int> ranks;
  std::string reason;
  for (int peer = 0; peer < config_.size; ++peer) {
    const TcpLink& link = links_[static_cast<size_t>(peer)];
    const bool whole = link.control && std::all_of(link.data.begin(), link.data.end(),
                                                   [](const TcpSocket& s) { return static_cast<bool>(s); });
    if (config_.has_peer(peer) && !whole) ranks.push_back(peer);
  }
  for (const Visit& visit : visits_) {
    if (visit.done || visit.reason.empty()) continue;
    const TcpCard& card = cards_[static_cast<size_t>(visit.peer)];
    reason = fmt::format("; rank {} at {}:{}: {}", visit.peer, card.address, card.port, visit.reason);
  }
  if (reason.empty() && !last_refusal_.empty()) reason = "; " + last_refusal_;
  if (exhausted_ != 0) reason += "; " + std::system_category().message(exhausted_);
  return error(exhausted_ != 0 ? Code::kResource : Code::kTimeout,
               "tcp: rank {} at {}:{} has no connection with {} after {} ms{}. CGX_SOCKET_IFNAME names the "
               "interface to use",
               config_.rank, own_address_, own_card_.port, name_ranks(ranks), config_.timeout_ms, reason);
}

void Connector::wait_and_advance() {
  std::vector<pollfd> fds = {{listener_.get(), POLLIN, 0}};
  for (const Visit& visit : visits_) {
    fds.push_back({visit.socket.get(), static_cast<short>(visit.connected ? POLLIN : POLLOUT), 0});
  }
  for (const Guest& guest : guests_) fds.push_back({guest.socket.get(), POLLIN, 0});
  ::poll(fds.data(), fds.size(), static_cast<int>(deadline_.nap_ms(kRetryMs)));
  size_t i = 1;
  for (Visit& visit : visits_) {
    if (fds[i++].revents != 0 && visit.socket) advance(visit);
  }
  for (auto guest = guests_.begin(); guest != guests_.end();) {
    const bool through = (fds[i++].revents != 0 && advance(*guest)) || guest->until.over();
    guest = through ? guests_.erase(guest) : std::next(guest);
  }
  if (fds[0].revents != 0) welcome();
}

Status Connector::connect() {
  Deadline next_look(kLookMs);
  while (!complete()) {
    for (Visit& visit : visits_) {
      if (!visit.done && !visit.socket && Clock::now() >= visit.next_try) start(visit);
    }
    wait_and_advance();
    if (complete()) break;
    if (next_look.over()) {
      next_look = Deadline(kLookMs);
      const std::string failure = find_failure(config_.store, config_.job, config_.rank, config_.size);
      if (!failure.empty()) return error(Code::kPeerFailed, "tcp: while all ranks connect: {}", failure);
    }
    if (is_set(config_.stop)) return error(Code::kAborted, "tcp: given up while all ranks connect");
    for (int peer = 0; config_.is_gone && peer < config_.size; ++peer) {
      if (peer == config_.rank || !config_.is_gone(peer)) continue;
      return error(Code::kPeerFailed, "tcp: rank {} died while all ranks connect", peer);
    }
    if (deadline_.over()) return missing();
  }
  return {};
}

}  // namespace

Result<TcpMesh> connect_tcp(const TransportConfig& config) {
  const Deadline deadline(config.timeout_ms, config.stop);
  const std::string own = network_card();
  CGX_ASSIGN_OR_RETURN(
      const std::vector<std::string> hosts,
      meet(config.store, {config.rank, config.size, config.job, "tcp", config.timeout_ms}, own));
  const bool one_host = std::count(hosts.begin(), hosts.end(), own) == config.size;
  Connector connector(config, deadline);
  const Result<std::string> address = choose_address("tcp", config, one_host);
  Status status = address.ok() ? connector.listen(*address) : address.status();
  if (status.ok()) status = connector.exchange_cards();
  if (status.ok()) status = connector.connect();
  if (!status.ok()) {
    publish_failure(config.store, config.job, config.rank, status);
    return status;
  }
  return connector.take();
}

}  // namespace cgx
