// The client of the tcp store, and make_tcp_store(). Rank 0 serves and is a client of itself, so that
// there is one path.
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <system_error>
#include <thread>

#include "base/deadline.h"
#include "transport/store.h"
#include "transport/store_heir.h"
#include "transport/store_tcp_listen.h"
#include "transport/store_tcp_server.h"
#include "transport/store_tcp_wire.h"

namespace cgx {
namespace {

using namespace store_tcp;  // NOLINT(google-build-using-namespace)

constexpr int64_t kAnswerMs = 10000;  // a server answers at once what it can answer
constexpr int64_t kMaxPauseMs = 200;
constexpr int64_t kAddressMs = 3000;  // for one of several addresses of a name
// A long wait is asked for in turns of this length: another thread that has a failure to tell comes between.
constexpr int64_t kTurnMs = 100;

std::string cause(int number) { return std::system_category().message(number); }

// Waits until `fd` can be read or written. 0, or an errno (ETIMEDOUT at the deadline).
int wait_ready(int fd, short events, const Deadline& deadline) {
  for (;;) {
    pollfd p = {fd, events, 0};
    const int n = ::poll(&p, 1, static_cast<int>(deadline.nap_ms(60000)));
    if (n > 0) return 0;
    if (n < 0 && errno != EINTR) return errno;
    if (n == 0 && deadline.over()) return ETIMEDOUT;
  }
}

int send_all(int fd, const std::string& bytes, const Deadline& deadline) {
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t n = ::send(fd, bytes.data() + done, bytes.size() - done, MSG_NOSIGNAL);
    if (n >= 0) {
      done += static_cast<size_t>(n);
    } else if (errno == EAGAIN) {
      if (const int fault = wait_ready(fd, POLLOUT, deadline); fault != 0) return fault;
    } else if (errno != EINTR) {
      return errno;
    }
  }
  return 0;
}

int receive_all(int fd, void* out, size_t bytes, const Deadline& deadline) {
  size_t done = 0;
  while (done < bytes) {
    const ssize_t n = ::recv(fd, static_cast<char*>(out) + done, bytes - done, 0);
    if (n > 0) {
      done += static_cast<size_t>(n);
    } else if (n == 0) {
      return ECONNRESET;
    } else if (errno == EAGAIN) {
      if (const int fault = wait_ready(fd, POLLIN, deadline); fault != 0) return fault;
    } else if (errno != EINTR) {
      return errno;
    }
  }
  return 0;
}

// On loopback a socket can connect to itself while nobody listens, and would then hold the port.
bool is_connected_to_itself(int fd) {
  sockaddr_storage own = {}, peer = {};
  socklen_t own_bytes = sizeof own, peer_bytes = sizeof peer;
  return ::getsockname(fd, reinterpret_cast<sockaddr*>(&own), &own_bytes) == 0 &&
         ::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &peer_bytes) == 0 && own_bytes == peer_bytes &&
         std::memcmp(&own, &peer, own_bytes) == 0;
}

// A connected socket, or -1 and the errno in *fault.
int connect_to(const addrinfo& address, const Deadline& deadline, int* fault) {
  const int fd = ::socket(address.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) {
    *fault = errno;
    return -1;
  }
  *fault = ::connect(fd, address.ai_addr, address.ai_addrlen) == 0 ? 0 : errno;
  if (*fault == EINPROGRESS) {
    *fault = wait_ready(fd, POLLOUT, deadline);
    socklen_t bytes = sizeof *fault;
    if (*fault == 0) ::getsockopt(fd, SOL_SOCKET, SO_ERROR, fault, &bytes);
  }
  if (*fault == 0 && is_connected_to_itself(fd)) *fault = ECONNREFUSED;
  if (*fault == 0) {
    const int on = 1;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    return fd;
  }
  ::close(fd);
  return -1;
}

std::string numeric(const addrinfo& address) {
  char host[NI_MAXHOST] = "?";
  ::getnameinfo(address.ai_addr, address.ai_addrlen, host, sizeof host, nullptr, 0, NI_NUMERICHOST);
  return host;
}

// One try at every address of `host`. The reason is for people.
int connect_once(const std::string& host, uint16_t port, const Deadline& deadline, std::string* reason,
                 int* fault) {
  addrinfo hints = {};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV;
  addrinfo* list = nullptr;
  const int unknown = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &list);
  if (unknown != 0) {
    *reason = ::gai_strerror(unknown);
    return -1;
  }
  int64_t left = 0;
  for (const addrinfo* a = list; a != nullptr; a = a->ai_next) ++left;
  int fd = -1;
  for (const addrinfo* a = list; a != nullptr && fd < 0; a = a->ai_next) {
    // One that does not answer leaves time for the others.
    const Deadline share = left-- == 1 ? deadline : deadline.within(kAddressMs);
    fd = connect_to(*a, share, fault);
    if (fd < 0) *reason = fmt::format("{}: {}", numeric(*a), cause(*fault));
  }
  ::freeaddrinfo(list);
  return fd;
}

class TcpStore final : public Store {
 public:
  TcpStore(TcpStoreConfig config, std::unique_ptr<StoreServer> server, int fd, StopFlag stop = nullptr)
      : config_(std::move(config)),
        name_(fmt::format("tcp store at {}:{}", config_.host, config_.port)),
        server_(std::move(server)),
        stop_(std::move(stop)),
        fd_(fd) {}

  ~TcpStore() override {
    disconnect();
    server_.reset();  // waits for the other clients
  }

  Status set(const std::string& key, const std::string& value) override {
    if (value.size() > kMaxValue) {
      return error(Code::kInvalidArgument, "{}: the value of \"{}\" has {} bytes, {} at most", name_, key,
                   value.size(), kMaxValue);
    }
    CGX_ASSIGN_OR_RETURN(const Reply reply, ask(Op::kSet, key, value, 0));
    if (reply.answer == Answer::kExists) {
      return error(Code::kInvalidArgument,
                   "{}: the key \"{}\" is set already: give every communicator of a store its own job name",
                   name_, key);
    }
    if (reply.answer != Answer::kOk) return error(Code::kResource, "{}: the store is full", name_);
    return {};
  }

  Result<std::string> get(const std::string& key, int64_t timeout_ms) override {
    const Deadline deadline(timeout_ms);
    for (;;) {
      const int64_t left_ms = deadline.left_ms();
      CGX_ASSIGN_OR_RETURN(Reply reply, ask(Op::kGet, key, "", std::min(left_ms, kTurnMs)));
      if (reply.answer == Answer::kOk) return std::move(reply.value);
      if (left_ms == 0) {
        return error(Code::kTimeout, "{}: nobody has set the key \"{}\" within {} ms", name_, key,
                     timeout_ms);
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(1));  // lets another thread have its turn
    }
  }

  Result<std::unique_ptr<StoreHeir>> make_heir() override {
    CGX_ASSIGN_OR_RETURN(const std::string host, own_address());
    return make_tcp_heir(host, config_.secret);
  }

  bool serves() const override { return server_ != nullptr; }

  Result<std::unique_ptr<Store>> reconnect(int64_t timeout_ms, const StopFlag& stop) override {
    TcpStoreConfig again = config_;
    if (server_ != nullptr) again.host = server_->own_host();
    again.timeout_ms = timeout_ms;
    return connect_tcp_store(again, stop);
  }

  std::string last_refusal() const override { return server_ != nullptr ? server_->last_refusal() : ""; }

  // REQUIRES: nothing was sent yet
  Status greet(const Deadline& deadline) {
    ClientHello ours;
    ours.rank = config_.rank;
    ours.flags = config_.secret.empty() ? 0 : kHasSecret;
    if (::getrandom(ours.nonce, sizeof ours.nonce, 0) != sizeof ours.nonce) {
      return error(Code::kResource, "{}: no random numbers: {}", name_, cause(errno));
    }
    ServerHello theirs;
    int fault = send_all(fd_, std::string(reinterpret_cast<const char*>(&ours), sizeof ours), deadline);
    if (fault == 0) fault = receive_all(fd_, &theirs, kWhoIsThere, deadline);
    if (fault != 0) {
      return error(fault == ETIMEDOUT ? Code::kTimeout : Code::kPeerFailed,
                   "{}: something listens there, but does not answer as a cgx store ({})", name_,
                   cause(fault));
    }
    if (theirs.magic != kServerMagic) {
      return error(Code::kMismatch, "{}: what listens there is no cgx store: give the port of rank 0's",
                   name_);
    }
    if (theirs.version != kVersion) {
      return error(Code::kMismatch, "{}: rank 0 speaks version {} of the store's protocol, this rank {}",
                   name_, theirs.version, kVersion);
    }
    fault = receive_all(fd_, reinterpret_cast<char*>(&theirs) + kWhoIsThere, sizeof theirs - kWhoIsThere,
                        deadline);
    if (fault != 0) {
      return error(Code::kPeerFailed, "{}: rank 0 broke the greeting off ({})", name_, cause(fault));
    }
    return prove(config_.secret, ours, theirs, deadline);
  }

 private:
  static constexpr size_t kWhoIsThere = 8;  // magic and version

  Status prove(const std::string& secret, const ClientHello& ours, const ServerHello& theirs,
               const Deadline& deadline) {
    const bool server_has = (theirs.flags & kHasSecret) != 0;
    if (server_has == secret.empty()) {
      return error(Code::kMismatch, "{}: {}: CGX_SECRET (or `secret`) must be the same on all ranks", name_,
                   server_has ? "rank 0 has a secret, and this rank has none"
                              : "this rank has a secret, and rank 0 has none");
    }
    if (secret.empty()) return {};
    CGX_ASSIGN_OR_RETURN(const Mac expected, server_proof(secret, ours, theirs));
    const bool same = equal_macs(expected, theirs.proof);
    Proof proof;  // zero tells rank 0 why this rank goes, and nothing to a stranger who poses as rank 0
    if (same) {
      CGX_ASSIGN_OR_RETURN(const Mac mac, client_proof(secret, ours, theirs));
      std::copy(mac.begin(), mac.end(), proof.mac);
    }
    const int fault =
        send_all(fd_, std::string(reinterpret_cast<const char*>(&proof), sizeof proof), deadline);
    if (!same) {
      return error(
          Code::kMismatch,
          "{}: rank 0 has another secret than this rank, or is a stranger: CGX_SECRET (or `secret`) must be "
          "the same on all ranks",
          name_);
    }
    if (fault == 0) return {};
    return error(Code::kPeerFailed, "{}: rank 0 broke the greeting off ({})", name_, cause(fault));
  }

  struct Reply {
    Answer answer;
    std::string value;
  };

  Result<Reply> ask(Op op, const std::string& key, const std::string& value, int64_t timeout_ms) {
    if (key.size() > kMaxKey) {
      return error(Code::kInvalidArgument, "{}: a key has {} bytes, {} at most: take a shorter job name",
                   name_, key.size(), kMaxKey);
    }
    const RequestHeader header = {static_cast<uint8_t>(op), 0, static_cast<uint16_t>(key.size()),
                                  static_cast<uint32_t>(value.size()), timeout_ms};
    std::string request(reinterpret_cast<const char*>(&header), sizeof header);
    request += key;
    request += value;
    const std::lock_guard lock(mutex_);
    if (fd_ < 0) return error(Code::kPeerFailed, "{}: the connection is lost", name_);
    const Deadline deadline(std::clamp<int64_t>(timeout_ms, 0, INT64_MAX - kAnswerMs) + kAnswerMs, stop_);
    Reply reply;
    int fault = send_all(fd_, request, deadline);
    if (fault == 0) fault = receive_reply(deadline, &reply);
    if (fault == 0) return reply;
    disconnect();  // what comes next on it would answer this request
    return error(fault == ETIMEDOUT ? Code::kTimeout : Code::kPeerFailed,
                 "{}: rank 0, which serves it, does not answer ({}): it died or left", name_, cause(fault));
  }

  // The one by which this host is seen where the server runs.
  Result<std::string> own_address() {
    sockaddr_storage address = {};
    socklen_t bytes = sizeof address;
    char host[NI_MAXHOST] = "";
    const std::lock_guard lock(mutex_);
    if (fd_ < 0 || ::getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &bytes) != 0 ||
        ::getnameinfo(reinterpret_cast<sockaddr*>(&address), bytes, host, sizeof host, nullptr, 0,
                      NI_NUMERICHOST) != 0) {
      return error(Code::kPeerFailed, "{}: the connection is lost", name_);
    }
    return std::string(host);
  }

  int receive_reply(const Deadline& deadline, Reply* reply) {
    ReplyHeader header = {};
    const int fault = receive_all(fd_, &header, sizeof header, deadline);
    if (fault != 0) return fault;
    if (header.answer > static_cast<uint32_t>(Answer::kFull) || header.value_bytes > kMaxValue) return EPROTO;
    reply->answer = static_cast<Answer>(header.answer);
    reply->value.resize(header.value_bytes);
    return receive_all(fd_, reply->value.data(), header.value_bytes, deadline);
  }

  void disconnect() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }

  const TcpStoreConfig config_;
  const std::string name_;
  std::unique_ptr<StoreServer> server_;
  const StopFlag stop_;
  std::mutex mutex_;  // one request at a time
  int fd_;
};

}  // namespace

Result<std::unique_ptr<Store>> make_tcp_store(const TcpStoreConfig& config) {
  if (config.host.empty() || config.port == 0) {
    return error(Code::kInvalidArgument,
                 "tcp store: \"{}:{}\" is no address: both host and port must be given", config.host,
                 config.port);
  }
  std::unique_ptr<StoreServer> server;
  if (config.rank == 0) {
    CGX_ASSIGN_OR_RETURN(std::vector<int> listeners, listen_for_store(config.host, config.port));
    CGX_ASSIGN_OR_RETURN(server, StoreServer::start(std::move(listeners), config.secret));
  }
  const Deadline deadline(config.timeout_ms);
  const std::string target = server != nullptr ? server->own_host() : config.host;
  std::string reason;
  for (int64_t pause_ms = 5;; pause_ms = std::min(2 * pause_ms, kMaxPauseMs)) {
    int fault = 0;
    const int fd = connect_once(target, config.port, deadline, &reason, &fault);
    if (fd >= 0) {
      auto store = std::make_unique<TcpStore>(config, std::move(server), fd);
      CGX_RETURN_IF_ERROR(store->greet(deadline));
      return std::unique_ptr<Store>(std::move(store));
    }
    if (deadline.over()) {
      return error(
          Code::kTimeout,
          "tcp store at {}:{}: cannot connect within {} ms ({}): is rank 0 running, and may this host "
          "reach that port?",
          config.host, config.port, config.timeout_ms, reason);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(std::min(pause_ms, deadline.left_ms())));
  }
}

Result<std::unique_ptr<Store>> make_served_tcp_store(const std::string& host, uint16_t port,
                                                     const std::string& secret,
                                                     std::unique_ptr<StoreServer> server) {
  constexpr int64_t kOwnMs = 10000;  // a process reaches itself at once
  const Deadline deadline(kOwnMs);
  std::string reason;
  int fault = 0;
  const int fd = connect_once(server->own_host(), port, deadline, &reason, &fault);
  if (fd < 0) {
    return error(Code::kResource, "tcp store at {}:{}: cannot connect to it myself: {}", host, port, reason);
  }
  auto store =
      std::make_unique<TcpStore>(TcpStoreConfig{host, port, -1, kOwnMs, secret}, std::move(server), fd);
  CGX_RETURN_IF_ERROR(store->greet(deadline));
  return std::unique_ptr<Store>(std::move(store));
}

Result<std::unique_ptr<Store>> connect_tcp_store(const TcpStoreConfig& config, const StopFlag& stop) {
  const Deadline deadline(config.timeout_ms, stop);
  std::string reason;
  int fault = 0;
  const int fd = connect_once(config.host, config.port, deadline, &reason, &fault);
  if (fd < 0) {
    const bool nobody = fault == ECONNREFUSED || fault == ECONNRESET;
    return error(nobody ? Code::kPeerFailed : Code::kTimeout, "tcp store at {}:{}: cannot connect: {}",
                 config.host, config.port, reason);
  }
  auto store = std::make_unique<TcpStore>(config, nullptr, fd, stop);
  CGX_RETURN_IF_ERROR(store->greet(deadline));
  return std::unique_ptr<Store>(std::move(store));
}

}  // namespace cgx
