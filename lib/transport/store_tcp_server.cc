// See store_tcp_server.h.
#include "transport/store_tcp_server.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <list>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <unordered_map>
#include <vector>

#include "base/deadline.h"
#include "base/log.h"
#include "transport/store_tcp_listen.h"
#include "transport/store_tcp_session.h"
#include "transport/tcp_endpoint.h"

namespace cgx {
namespace {

using namespace store_tcp;  // NOLINT(google-build-using-namespace)

constexpr size_t kMaxClients = 512;
constexpr ptrdiff_t kMaxSilent = 128;  // of these, that have not greeted
constexpr size_t kMaxStoredBytes = size_t{16} << 20;
constexpr size_t kMaxHeldBytes = size_t{1} << 20;
constexpr size_t kUsualBytes = 256;
constexpr int64_t kAmidMs = 10000;  // for a greeting, a request, or reading a reply: then it is closed
constexpr int64_t kLingerMs = 2000;
constexpr int kAcceptsAtATime = 16;
constexpr int64_t kAcceptPauseMs = 5;
constexpr int64_t kNoDescriptorsPauseMs = 100;
constexpr size_t kReadPart = 4096;
constexpr int kMaxWarnings = 5;

std::string cause(int number) { return std::system_category().message(number); }

struct Client {
  Client(int descriptor, const std::string& secret, const uint64_t (&nonce)[2])
      : fd(descriptor), session(secret, nonce) {}
  bool is_amid() const { return !session.greeted() || session.is_amid(); }
  bool is_due() const {
    return ready || (waits_for && wait_until.over()) || (is_amid() && amid_until.over());
  }

  int fd;
  StoreSession session;
  bool ready = false;  // its socket has something, or takes something
  Deadline amid_until{kAmidMs};
  std::optional<std::string> waits_for;
  Deadline wait_until{0};
};

}  // namespace

class StoreServer::Loop {
 public:
  Loop(std::vector<int> listeners, int wake, std::string secret)
      : listeners_(std::move(listeners)),
        wake_(wake),
        secret_(std::move(secret)),
        thread_([this] { run(); }) {}

  ~Loop() {
    stopping_.store(true);
    const uint64_t one = 1;
    static_cast<void>(::write(wake_, &one, sizeof one));
    thread_.join();
    for (const Client& client : clients_) ::close(client.fd);
    for (const int fd : listeners_) ::close(fd);
    ::close(wake_);
  }

  std::string last_refusal() const {
    const std::lock_guard lock(mutex_);
    return refusal_;
  }

 private:
  using Clients = std::list<Client>;

  void run() {
    std::optional<Deadline> linger;
    for (;;) {
      if (stopping_.load() && !linger) linger.emplace(kLingerMs);
      if (linger && (clients_.empty() || linger->over())) return;
      wait_for_events(linger);
      for (auto client = clients_.begin(); client != clients_.end();) {
        client = client->is_due() && !serve(*client) ? close(client) : std::next(client);
      }
      bound_held_bytes();
      if (accept_pause_.over()) accept_clients();
    }
  }

  Clients::iterator close(Clients::iterator client) {
    ::close(client->fd);
    return clients_.erase(client);
  }

  void wait_for_events(const std::optional<Deadline>& linger) {
    fds_.assign({{wake_, static_cast<short>(stopping_.load() ? 0 : POLLIN), 0}});
    int64_t wait_ms = linger ? linger->left_ms() : 60000;
    for (const Client& c : clients_) {
      fds_.push_back({c.fd, static_cast<short>(c.session.out.empty() ? POLLIN : POLLOUT), 0});
      if (c.waits_for) wait_ms = std::min(wait_ms, c.wait_until.left_ms());
      if (c.is_amid()) wait_ms = std::min(wait_ms, c.amid_until.left_ms());
    }
    const size_t first_listener = fds_.size();
    if (accept_pause_.over()) {
      for (const int fd : listeners_) fds_.push_back({fd, POLLIN, 0});
    } else {
      wait_ms = std::min(wait_ms, accept_pause_.left_ms());
    }
    const int ready = ::poll(fds_.data(), fds_.size(), static_cast<int>(wait_ms));
    size_t i = 1;
    for (Client& c : clients_) c.ready = fds_[i++].revents != 0 && ready > 0;
    knocking_ = false;
    for (i = first_listener; i < fds_.size(); ++i) knocking_ |= fds_[i].revents != 0;
  }

  // No more than so many at a time: a flood of connections must not take the core that ranks compute on.
  void accept_clients() {
    if (!knocking_) return;
    for (const int listener : listeners_) {
      for (int i = 0;; ++i) {
        if (i == kAcceptsAtATime) {
          accept_pause_ = Deadline(kAcceptPauseMs);
          break;
        }
        const int fd = ::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
          // Out of descriptors: the connection stays in the queue, and poll() would not wait.
          if (errno != EAGAIN) accept_pause_ = Deadline(kNoDescriptorsPauseMs);
          break;
        }
        add_client(fd);
      }
    }
  }

  void add_client(int fd) {
    uint64_t nonce[2] = {};
    if (!make_room() || ::getrandom(nonce, sizeof nonce, 0) != sizeof nonce) {
      ::close(fd);
      return;
    }
    const int on = 1;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    clients_.emplace_back(fd, secret_, nonce);
  }

  // At a limit the connection that has kept silent longest goes. False: all of them are clients.
  bool make_room() {
    const auto is_silent = [](const Client& c) { return !c.session.greeted(); };
    const auto silent = std::count_if(clients_.begin(), clients_.end(), is_silent);
    if (clients_.size() < kMaxClients && silent < kMaxSilent) return true;
    if (silent == 0) return false;
    close(std::find_if(clients_.begin(), clients_.end(), is_silent));
    return true;
  }

  // What has come of requests and what replies are not yet written, of all connections together. Ranks say
  // little and read at once; who has held most for longest is none.
  void bound_held_bytes() {
    for (;;) {
      size_t held = 0;
      auto longest = clients_.end();
      for (auto c = clients_.begin(); c != clients_.end(); ++c) {
        held += c->session.held_bytes();
        if (c->session.held_bytes() < kUsualBytes) continue;
        if (longest == clients_.end() || c->amid_until.left_ms() < longest->amid_until.left_ms()) longest = c;
      }
      if (held <= kMaxHeldBytes || longest == clients_.end()) return;
      close(longest);
    }
  }

  // Does what can be done without waiting. False: the connection is over.
  bool serve(Client& c) {
    const bool was_amid = c.is_amid();
    const bool alive = move(c);
    if (!alive && !c.session.refusal().empty()) tell_refusal(c);
    if (was_amid && c.is_amid() && c.amid_until.over()) return false;
    if (!was_amid && c.is_amid()) c.amid_until = Deadline(kAmidMs);
    return alive;
  }

  bool move(Client& c) {
    if (!write_some(c)) return false;
    if (!c.session.out.empty()) return true;  // it does not read: nothing more is done for it
    if (c.waits_for && !answer_waiting(c)) return is_silent(c.fd);
    StoreRequest request;
    for (;;) {
      if (!write_some(c)) return false;
      if (!c.session.out.empty()) return true;
      switch (c.session.next(&request)) {
        case StoreSession::Step::kBroken:
          static_cast<void>(write_some(c));
          return false;
        case StoreSession::Step::kTook:
          c.amid_until = Deadline(kAmidMs);
          break;
        case StoreSession::Step::kRequest:
          if (!answer(c, std::move(request))) return true;
          break;
        case StoreSession::Step::kMore:
          if (const std::optional<bool> more = read_some(c); !more.value_or(false)) return more.has_value();
          break;
      }
    }
  }

  // True: some. False: nothing is there now. Nothing: the connection is over.
  static std::optional<bool> read_some(Client& c) {
    char part[kReadPart];
    const ssize_t n = ::recv(c.fd, part, std::min(sizeof part, c.session.wants()), 0);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) return std::nullopt;
    if (n < 0) return false;
    c.session.feed({part, static_cast<size_t>(n)});
    return true;
  }

  // Of one that waits: a client says nothing until it has its answer.
  static bool is_silent(int fd) {
    char byte = 0;
    const ssize_t n = ::recv(fd, &byte, 1, MSG_PEEK);
    return n < 0 && (errno == EAGAIN || errno == EINTR);
  }

  static bool write_some(Client& c) {
    std::string& out = c.session.out;
    while (!out.empty()) {
      const ssize_t n = ::send(c.fd, out.data(), out.size(), MSG_NOSIGNAL);
      if (n < 0) return errno == EAGAIN || errno == EINTR;
      out.erase(0, static_cast<size_t>(n));
    }
    return true;
  }

  // False: the answer must wait.
  bool answer(Client& c, StoreRequest request) {
    if (request.op == Op::kSet) {
      c.session.reply(set(std::move(request.key), std::move(request.value)), "");
      return true;
    }
    c.waits_for = std::move(request.key);
    c.wait_until = Deadline(request.timeout_ms);
    return answer_waiting(c);
  }

  Answer set(std::string key, std::string value) {
    const size_t bytes = key.size() + value.size();
    if (values_.contains(key)) return Answer::kExists;
    if (stored_bytes_ + bytes > kMaxStoredBytes) return Answer::kFull;
    stored_bytes_ += bytes;
    values_.emplace(std::move(key), std::move(value));
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
      c.session.reply(Answer::kOk, found->second);
    } else {
      c.session.reply(Answer::kTimeout, "");
    }
    return true;
  }

  void tell_refusal(const Client& c) {
    std::string words = fmt::format("{} ({})", c.session.refusal(), name_of_peer(c.fd));
    if (++warnings_ <= kMaxWarnings) log(LogLevel::kWarn, Subsystem::kNet, "tcp store: {}", words);
    const std::lock_guard lock(mutex_);
    refusal_ = std::move(words);
  }

  std::vector<int> listeners_;
  int wake_;
  const std::string secret_;
  Clients clients_;
  std::vector<pollfd> fds_;
  bool knocking_ = false;  // somebody waits to be accepted
  std::unordered_map<std::string, std::string> values_;
  size_t stored_bytes_ = 0;
  Deadline accept_pause_{0};
  int warnings_ = 0;
  mutable std::mutex mutex_;  // of refusal_
  std::string refusal_;
  std::atomic<bool> stopping_{false};
  std::thread thread_;  // last: it uses all of the above
};

StoreServer::StoreServer(std::unique_ptr<Loop> loop, std::string own_host)
    : loop_(std::move(loop)), own_host_(std::move(own_host)) {}
StoreServer::~StoreServer() = default;
std::string StoreServer::last_refusal() const { return loop_->last_refusal(); }

Result<std::unique_ptr<StoreServer>> StoreServer::start(std::vector<int> listeners, std::string secret) {
  const int wake = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (wake < 0) {
    for (const int fd : listeners) ::close(fd);
    return error(Code::kResource, "tcp store: no descriptor for the server: {}", cause(errno));
  }
  std::string own_host = reachable_host(listeners.front());
  return std::unique_ptr<StoreServer>(new StoreServer(
      std::make_unique<Loop>(std::move(listeners), wake, std::move(secret)), std::move(own_host)));
}

}  // namespace cgx
