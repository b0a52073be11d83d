// See network.h.
#include "transport/network.h"

#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

namespace cgx {
namespace {

bool is_loopback(const sockaddr* address) {
  if (address->sa_family == AF_INET) {
    return (ntohl(reinterpret_cast<const sockaddr_in*>(address)->sin_addr.s_addr) >> 24) == 127;
  }
  return address->sa_family == AF_INET6 &&
         IN6_IS_ADDR_LOOPBACK(&reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr);
}

std::string numeric(const sockaddr* address, socklen_t bytes) {
  char host[NI_MAXHOST] = "";
  ::getnameinfo(address, bytes, host, sizeof host, nullptr, 0, NI_NUMERICHOST);
  return host;
}

// This host's address on the way to `host`, "" if there is none but loopback. Sends nothing: connecting
// a datagram socket only asks the kernel for the route.
std::string address_towards(const std::string& host) {
  addrinfo hints = {};
  hints.ai_socktype = SOCK_DGRAM;
  addrinfo* list = nullptr;
  if (host.empty() || ::getaddrinfo(host.c_str(), "9", &hints, &list) != 0) return "";
  std::string found;
  for (const addrinfo* a = list; a != nullptr && found.empty(); a = a->ai_next) {
    const int fd = ::socket(a->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    sockaddr_storage own = {};
    socklen_t bytes = sizeof own;
    auto* address = reinterpret_cast<sockaddr*>(&own);
    if (fd >= 0 && ::connect(fd, a->ai_addr, a->ai_addrlen) == 0 && ::getsockname(fd, address, &bytes) == 0 &&
        !is_loopback(address)) {
      found = numeric(address, bytes);
    }
    if (fd >= 0) ::close(fd);
  }
  ::freeaddrinfo(list);
  return found;
}

// The first address of interface `name`, or, if that is "", of any that is up and not loopback. IPv4
// before IPv6, and addresses of the link alone last: they mean something on their own link only.
std::string address_of(const std::string& name) {
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return "";
  std::string found;
  int found_rank = 0;
  for (const ifaddrs* i = list; i != nullptr; i = i->ifa_next) {
    if (i->ifa_addr == nullptr || (i->ifa_flags & IFF_UP) == 0) continue;
    if (name.empty() ? (i->ifa_flags & IFF_LOOPBACK) != 0 : name != i->ifa_name) continue;
    const bool v4 = i->ifa_addr->sa_family == AF_INET;
    if (!v4 && i->ifa_addr->sa_family != AF_INET6) continue;
    const bool link_only =
        !v4 && IN6_IS_ADDR_LINKLOCAL(&reinterpret_cast<const sockaddr_in6*>(i->ifa_addr)->sin6_addr);
    const int rank = v4 ? 3 : link_only ? 1 : 2;
    if (rank <= found_rank) continue;
    found_rank = rank;
    found = numeric(i->ifa_addr, v4 ? sizeof(sockaddr_in) : sizeof(sockaddr_in6));
  }
  ::freeifaddrs(list);
  return found;
}

}  // namespace

std::string network_card() {
  std::string boot;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> boot;
  struct stat space = {};
  if (boot.empty() || ::stat("/proc/self/ns/net", &space) != 0) {
    char host[256] = "";
    ::gethostname(host, sizeof host - 1);
    return host;
  }
  return fmt::format("{}/{}", boot, space.st_ino);
}

Result<std::string> choose_address(const char* transport, const TransportConfig& config, bool one_host) {
  const std::string& name = config.interface_name;
  if (!name.empty()) {
    std::string address = address_of(name);
    if (!address.empty()) return address;
    const bool exists = ::if_nametoindex(name.c_str()) != 0;
    return error(Code::kInvalidArgument,
                 "{}: rank {} has no network interface \"{}\"{}: set CGX_SOCKET_IFNAME or interface_name to "
                 "one that `ip addr` lists",
                 transport, config.rank, name, exists ? " that is up and has an address" : "");
  }
  std::string address = one_host ? "127.0.0.1" : address_towards(config.reach_host);
  if (address.empty()) address = address_of("");
  if (!address.empty()) return address;
  return error(Code::kInvalidArgument,
               "{}: rank {} has no network address but loopback, and the ranks are on several hosts: set "
               "CGX_SOCKET_IFNAME to the interface that reaches the others",
               transport, config.rank);
}

}  // namespace cgx
