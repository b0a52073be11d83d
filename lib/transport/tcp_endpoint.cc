// See tcp_endpoint.h.
#include "transport/tcp_endpoint.h"

#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>

#include <cstring>

namespace cgx {

Result<TcpEndpoint> make_endpoint(const std::string& text, uint16_t port, uint32_t scope) {
  const std::string host = text.substr(0, text.find('%'));
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  addrinfo* list = nullptr;
  const int fault = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &list);
  if (fault == EAI_MEMORY || fault == EAI_SYSTEM) {
    return error(Code::kResource, "tcp: cannot read the address \"{}\": {}", text, ::gai_strerror(fault));
  }
  if (fault != 0) return error(Code::kMismatch, "tcp: \"{}\" is no address: {}", text, ::gai_strerror(fault));
  TcpEndpoint endpoint;
  std::memcpy(&endpoint.storage, list->ai_addr, list->ai_addrlen);
  endpoint.bytes = list->ai_addrlen;
  ::freeaddrinfo(list);
  if (endpoint.family() == AF_INET6) {
    auto* v6 = reinterpret_cast<sockaddr_in6*>(&endpoint.storage);
    if (IN6_IS_ADDR_LINKLOCAL(&v6->sin6_addr)) v6->sin6_scope_id = scope;
  }
  return endpoint;
}

uint32_t scope_of(const std::string& address) {
  const size_t percent = address.find('%');
  return percent == std::string::npos ? 0 : ::if_nametoindex(address.c_str() + percent + 1);
}

std::string name_of_peer(int fd) {
  sockaddr_storage peer = {};
  socklen_t bytes = sizeof peer;
  char host[NI_MAXHOST] = "?";
  char port[NI_MAXSERV] = "?";
  if (::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &bytes) == 0) {
    ::getnameinfo(reinterpret_cast<sockaddr*>(&peer), bytes, host, sizeof host, port, sizeof port,
                  NI_NUMERICHOST | NI_NUMERICSERV);
  }
  return fmt::format("{}:{}", host, port);
}

}  // namespace cgx
