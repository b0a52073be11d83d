// See store_heir.h. An address is "HOST PORT NONCE KERNEL": the nonce tells a rank's own heir from a
// stranger's store that was given the port later, and the kernel's boot id a loopback address here from one
// on another host.
#include "transport/store_heir.h"

#include <netinet/in.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <sstream>
#include <utility>
#include <vector>

#include "base/boot_id.h"
#include "base/deadline.h"
#include "transport/store_tcp_listen.h"
#include "transport/store_tcp_server.h"

namespace cgx {
namespace {

constexpr const char* kNonceKey = "cgx/heir";

std::string kernel() {
  std::string boot = boot_id();
  return boot.empty() ? "unknown" : boot;
}

uint16_t port_of(int listener) {
  sockaddr_storage address = {};
  socklen_t bytes = sizeof address;
  if (::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &bytes) != 0) return 0;
  return ntohs(address.ss_family == AF_INET6 ? reinterpret_cast<const sockaddr_in6*>(&address)->sin6_port
                                             : reinterpret_cast<const sockaddr_in*>(&address)->sin_port);
}

class TcpHeir final : public StoreHeir {
 public:
  TcpHeir(std::string host, std::string secret, std::vector<int> listeners, uint64_t nonce)
      : host_(std::move(host)),
        secret_(std::move(secret)),
        listeners_(std::move(listeners)),
        nonce_(fmt::format("{:016x}", nonce)) {
    port_ = port_of(listeners_.front());
  }
  ~TcpHeir() override {
    for (const int fd : listeners_) ::close(fd);
  }
  TcpHeir(const TcpHeir&) = delete;
  TcpHeir& operator=(const TcpHeir&) = delete;

  std::string address() const override { return fmt::format("{} {} {} {}", host_, port_, nonce_, kernel()); }

  Result<std::unique_ptr<Store>> serve() override {
    if (listeners_.empty()) return error(Code::kInternal, "an heir serves once");
    CGX_ASSIGN_OR_RETURN(std::unique_ptr<StoreServer> server,
                         StoreServer::start(std::exchange(listeners_, {}), secret_));
    CGX_ASSIGN_OR_RETURN(std::unique_ptr<Store> store,
                         make_served_tcp_store(host_, port_, secret_, std::move(server)));
    CGX_RETURN_IF_ERROR(store->set(kNonceKey, nonce_));
    return store;
  }

 private:
  const std::string host_;
  const std::string secret_;
  std::vector<int> listeners_;
  const std::string nonce_;
  uint16_t port_ = 0;
};

}  // namespace

Result<std::unique_ptr<StoreHeir>> make_tcp_heir(const std::string& host, const std::string& secret) {
  uint64_t nonce = 0;
  if (::getrandom(&nonce, sizeof nonce, 0) != static_cast<ssize_t>(sizeof nonce)) {
    return error(Code::kResource, "the kernel gives no random bytes");
  }
  CGX_ASSIGN_OR_RETURN(std::vector<int> listeners, listen_for_store(host, 0));
  return std::unique_ptr<StoreHeir>(std::make_unique<TcpHeir>(host, secret, std::move(listeners), nonce));
}

Result<std::unique_ptr<Store>> connect_to_heir(const std::string& address, int64_t timeout_ms,
                                               const std::string& secret, const StopFlag& stop) {
  std::istringstream words(address);
  std::string host, nonce, boot;
  uint16_t port = 0;
  if (!(words >> host >> port >> nonce >> boot)) {
    return error(Code::kMismatch, "\"{:.80}\" is no address of a store", address);
  }
  if ((host.starts_with("127.") || host == "::1") && boot != kernel()) {
    return error(Code::kTimeout, "{} is an address of another host: it cannot be reached from here", host);
  }
  const Deadline deadline(timeout_ms, stop);
  CGX_ASSIGN_OR_RETURN(std::unique_ptr<Store> store,
                       connect_tcp_store({host, port, -1, timeout_ms, secret}, stop));
  CGX_ASSIGN_OR_RETURN(const std::string found,
                       store->get(kNonceKey, std::max<int64_t>(1, deadline.left_ms())));
  if (found != nonce) {
    return error(Code::kPeerFailed, "another job's store has the address {}:{} now", host, port);
  }
  return store;
}

}  // namespace cgx
