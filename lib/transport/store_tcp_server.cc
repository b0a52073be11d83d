// See store_tcp_server.h.
#include "transport/store_tcp_server.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <list>
#include <optional>
#include <system_error>
#include <thread>
#include <unordered_map>
#include <vector>

#include "base/deadline.h"
#include "transport/store_tcp_wire.h"

namespace cgx {
namespace {

using namespace store_tcp;  // NOLINT(google-build-using-namespace)

constexpr size_t kMaxClients = 512;
constexpr size_t kMaxStoredBytes = size_t{64} << 20;
constexpr int64_t kHelloMs = 10000;  // a connection that has not said hello by then is closed
constexpr int64_t kLingerMs = 2000;
constexpr int64_t kAcceptPauseMs = 100;
constexpr size_t kReadPart = 16384;

std::string cause(int number) { return std::system_category().message(number); }

struct Client {
  explicit Client(int descriptor) : fd(descriptor), hello_by(kHelloMs) {}
  int fd;
  Deadline hello_by;
  bool greeted = false;
  std::string in;
  std::string out;  // replies not yet written
  std::optional<std::string> waits_for;
  Deadline wait_until{0};
};

bool is_loopback(const sockaddr* address) {
  if (address->sa_family == AF_INET) {
    return (ntohl(reinterpret_cast<const sockaddr_in*>(address)->sin_addr.s_addr) >> 24) == 127;
  }
  return address->sa_family == AF_INET6 &&
         IN6_IS_ADDR_LOOPBACK(&reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr);
}

// A socket that listens on `address`, or -1 with errno set.
int listen_on(const addrinfo& address) {
  const int fd = ::socket(address.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  const int on = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);  // TIME_WAIT of an earlier job is no obstacle
  if (address.ai_family == AF_INET6) ::setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
  if (::bind(fd, address.ai_addr, address.ai_addrlen) == 0 && ::listen(fd, SOMAXCONN) == 0) return fd;
  const int fault = errno;
  ::close(fd);
  errno = fault;
  return -1;
}

struct AddressList {
  addrinfo* first = nullptr;
  AddressList() = default;
  AddressList(const AddressList&) = delete;
  AddressList& operator=(const AddressList&) = delete;
  ~AddressList() {
    if (first != nullptr) ::freeaddrinfo(first);
  }
};

// Listens on every address of `host` that is one of this machine; null: every interface. Returns the
// errno of the last failure, 0 if there was none.
int listen_on_all(const char* host, const std::string& port, bool skip_loopback, std::vector<int>* fds) {
  addrinfo hints = {};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  AddressList list;
  if (::getaddrinfo(host, port.c_str(), &hints, &list.first) != 0) return EADDRNOTAVAIL;
  int fault = 0;
  for (const addrinfo* a = list.first; a != nullptr; a = a->ai_next) {
    if (skip_loopback && is_loopback(a->ai_addr)) continue;
    const int fd = listen_on(*a);
    if (fd >= 0) {
      fds->push_back(fd);
    } else if (errno != EAFNOSUPPORT) {
      fault = errno;
    }
  }
  return fds->empty() && fault == 0 ? EADDRNOTAVAIL : fault;
}

bool means_loopback(const std::string& host) {
  return host == "localhost" || host == "::1" || host.starts_with("127.");
}

Result<std::vector<int>> open_listeners(const std::string& host, uint16_t port) {
  std::vector<int> fds;
  const std::string service = std::to_string(port);
  int fault = listen_on_all(host.c_str(), service, !means_loopback(host), &fds);
  if (fds.empty() && fault == EADDRNOTAVAIL) fault = listen_on_all(nullptr, service, false, &fds);
  if (fault == EADDRINUSE || fds.empty()) {
    for (const int fd : fds) ::close(fd);
    return error(Code::kResource, "tcp store: rank 0 cannot listen on {}:{}: {}{}", host, port, cause(fault),
                 fault == EADDRINUSE ? "; another job has this port: set CGX_PORT to a free one" : "");
  }
  return fds;
}

// The address by which this machine itself reaches a listening socket.
std::string reachable_host(int listener) {
  sockaddr_storage address = {};
  socklen_t bytes = sizeof address;
  char host[NI_MAXHOST] = "";
  ::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &bytes);
  ::getnameinfo(reinterpret_cast<sockaddr*>(&address), bytes, host, sizeof host, nullptr, 0, NI_NUMERICHOST);
  const std::string text = host;
  if (text == "0.0.0.0") return "127.0.0.1";
  return text == "::" ? "::1" : text;
}

}  // namespace

class StoreServer::Loop {
 public:
  Loop(std::vector<int> listeners, int wake)
      : listeners_(std::move(listeners)), wake_(wake), thread_([this] { run(); }) {}

  ~Loop() {
    stopping_.store(true);
    const uint64_t one = 1;
    static_cast<void>(::write(wake_, &one, sizeof one));
    thread_.join();
    for (const Client& client : clients_) ::close(client.fd);
    for (const int fd : listeners_) ::close(fd);
    ::close(wake_);
  }

 private:
  void run() {
    std::optional<Deadline> linger;
    for (;;) {
      if (stopping_.load() && !linger) linger.emplace(kLingerMs);
      if (linger && (clients_.empty() || linger->over())) return;
      wait_for_events(linger);
      for (auto client = clients_.begin(); client != clients_.end();) {
        const bool alive = serve(*client);
        if (!alive) ::close(client->fd);
        client = alive ? std::next(client) : clients_.erase(client);
      }
      if (accept_pause_.over()) accept_clients();
    }
  }

  void wait_for_events(const std::optional<Deadline>& linger) {
    std::vector<pollfd> fds = {{wake_, static_cast<short>(stopping_.load() ? 0 : POLLIN), 0}};
    int64_t wait_ms = linger ? linger->left_ms() : 60000;
    for (const Client& c : clients_) {
      fds.push_back({c.fd, static_cast<short>(c.out.empty() ? POLLIN : POLLOUT), 0});
      if (c.waits_for) wait_ms = std::min(wait_ms, c.wait_until.left_ms());
      if (!c.greeted) wait_ms = std::min(wait_ms, c.hello_by.left_ms());
    }
    if (accept_pause_.over()) {
      for (const int fd : listeners_) fds.push_back({fd, POLLIN, 0});
    } else {
      wait_ms = std::min(wait_ms, accept_pause_.left_ms());
    }
    ::poll(fds.data(), fds.size(), static_cast<int>(wait_ms));
  }

  void accept_clients() {
    for (const int listener : listeners_) {
      for (;;) {
        const int fd = ::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
          // Out of descriptors: the connection stays in the queue, and poll() would not wait.
          if (errno != EAGAIN) accept_pause_ = Deadline(kAcceptPauseMs);
          break;
        }
        if (!make_room()) {
          ::close(fd);
          continue;
        }
        const int on = 1;
        ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        clients_.emplace_back(fd);
      }
    }
  }

  // At the limit the connection that has kept silent longest goes. False: all of them are clients.
  bool make_room() {
    if (clients_.size() < kMaxClients) return true;
    const auto silent =
        std::find_if(clients_.begin(), clients_.end(), [](const Client& c) { return !c.greeted; });
    if (silent == clients_.end()) return false;
    ::close(silent->fd);
    clients_.erase(silent);
    return true;
  }

  // Does what can be done without waiting. False: the connection is over.
  bool serve(Client& c) {
    if (!c.greeted && c.hello_by.over()) return false;
    if (!write_some(c) || !read_some(c)) return false;
    for (;;) {
      if (c.waits_for && !answer_waiting(c)) return c.in.empty();  // else it talks out of turn
      if (!c.out.empty() && !write_some(c)) return false;
      if (!c.out.empty()) return true;  // it does not read: nothing more is done for it
      const std::optional<bool> progress = take_request(c);
      if (!progress) return false;
      if (!*progress) break;
    }
    return write_some(c);
  }

  bool read_some(Client& c) {
    // The bound is one whole request and a part; a client sends the next one after its reply.
    constexpr size_t kBound = sizeof(RequestHeader) + kMaxKey + kMaxValue + kReadPart;
    while (c.in.size() < kBound) {
      char part[kReadPart];
      const ssize_t n = ::recv(c.fd, part, sizeof part, 0);
      if (n == 0) return false;
      if (n < 0) return errno == EAGAIN || errno == EINTR;
      c.in.append(part, static_cast<size_t>(n));
    }
    return true;
  }

  static bool write_some(Client& c) {
    while (!c.out.empty()) {
      const ssize_t n = ::send(c.fd, c.out.data(), c.out.size(), MSG_NOSIGNAL);
      if (n < 0) return errno == EAGAIN || errno == EINTR;
      c.out.erase(0, static_cast<size_t>(n));
    }
    return true;
  }

  // True: took something. False: not all of it is here yet. Nothing: not our protocol.
  std::optional<bool> take_request(Client& c) {
    if (!c.greeted) return take_hello(c);
    RequestHeader header;
    if (c.in.size() < sizeof header) return false;
    std::memcpy(&header, c.in.data(), sizeof header);
    const bool is_set = header.op == static_cast<uint8_t>(Op::kSet);
    const bool is_get = header.op == static_cast<uint8_t>(Op::kGet) && header.value_bytes == 0;
    if ((!is_set && !is_get) || header.key_bytes > kMaxKey || header.value_bytes > kMaxValue)
      return std::nullopt;
    const size_t total = sizeof header + header.key_bytes + header.value_bytes;
    if (c.in.size() < total) return false;
    std::string key = c.in.substr(sizeof header, header.key_bytes);
    std::string value = c.in.substr(sizeof header + header.key_bytes, header.value_bytes);
    c.in.erase(0, total);
    if (is_set) {
      reply(c, set(std::move(key), std::move(value)), "");
    } else {
      c.waits_for = std::move(key);
      c.wait_until = Deadline(header.timeout_ms);
    }
    return true;
  }

  std::optional<bool> take_hello(Client& c) {
    Hello hello;
    if (c.in.size() < sizeof hello) return false;
    std::memcpy(&hello, c.in.data(), sizeof hello);
    if (hello.magic != kClientMagic) return std::nullopt;
    // Another version is answered too: the client says which one it met.
    const Hello ours = {kServerMagic, kVersion};
    c.out.append(reinterpret_cast<const char*>(&ours), sizeof ours);
    c.in.erase(0, sizeof hello);
    c.greeted = true;
    return true;
  }

  Answer set(std::string key, std::string value) {
    const size_t bytes = key.size() + value.size();
    if (values_.contains(key)) return Answer::kExists;
    if (stored_bytes_ + bytes > kMaxStoredBytes) return Answer::kFull;
    stored_bytes_ += bytes;
    values_.emplace(std::move(key), std::move(value));
    // Waiting clients are looked at in this same turn of the loop or, those before this one, now.
    for (Client& other : clients_) {
      if (other.waits_for && answer_waiting(other)) static_cast<void>(write_some(other));
    }
    return Answer::kOk;
  }

  // True if the client waits no more.
  bool answer_waiting(Client& c) {
    const auto found = values_.find(*c.waits_for);
    if (found == values_.end() && !c.wait_until.over()) return false;
    c.waits_for.reset();
    if (found != values_.end()) {
      reply(c, Answer::kOk, found->second);
    } else {
      reply(c, Answer::kTimeout, "");
    }
    return true;
  }

  static void reply(Client& c, Answer answer, const std::string& value) {
    const ReplyHeader header = {static_cast<uint32_t>(answer), static_cast<uint32_t>(value.size())};
    c.out.append(reinterpret_cast<const char*>(&header), sizeof header);
    c.out.append(value);
  }

  std::vector<int> listeners_;
  int wake_;
  std::list<Client> clients_;
  std::unordered_map<std::string, std::string> values_;
  size_t stored_bytes_ = 0;
  Deadline accept_pause_{0};
  std::atomic<bool> stopping_{false};
  std::thread thread_;  // last: it uses all of the above
};

StoreServer::StoreServer(std::unique_ptr<Loop> loop, std::string own_host)
    : loop_(std::move(loop)), own_host_(std::move(own_host)) {}
StoreServer::~StoreServer() = default;

Result<std::vector<int>> StoreServer::listen(const std::string& host, uint16_t port) {
  return open_listeners(host, port);
}

Result<std::unique_ptr<StoreServer>> StoreServer::start(const std::string& host, uint16_t port) {
  CGX_ASSIGN_OR_RETURN(std::vector<int> listeners, open_listeners(host, port));
  return start(std::move(listeners));
}

Result<std::unique_ptr<StoreServer>> StoreServer::start(std::vector<int> listeners) {
  const int wake = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (wake < 0) {
    for (const int fd : listeners) ::close(fd);
    return error(Code::kResource, "tcp store: no descriptor for the server: {}", cause(errno));
  }
  std::string own_host = reachable_host(listeners.front());
  return std::unique_ptr<StoreServer>(
      new StoreServer(std::make_unique<Loop>(std::move(listeners), wake), std::move(own_host)));
}

}  // namespace cgx
