// See store_tcp_listen.h.
#include "transport/store_tcp_listen.h"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "transport/interfaces.h"

namespace cgx {
namespace {

std::string cause(int number) { return std::system_category().message(number); }

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
  const int unknown = ::getaddrinfo(host, port.c_str(), &hints, &list.first);
  if (unknown != 0) return unknown == EAI_MEMORY ? ENOMEM : EADDRNOTAVAIL;
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

}  // namespace

Result<std::vector<int>> listen_for_store(const std::string& host, uint16_t port) {
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

}  // namespace cgx
