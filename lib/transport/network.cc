// See network.h.
#include "transport/network.h"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/boot_id.h"
#include "transport/interfaces.h"

namespace cgx {
namespace {

// This host's address on the way to `host`, "" if there is none but loopback. Sends nothing: connecting
// a datagram socket only asks the kernel for the route.
std::string address_towards(const std::string& host, int family) {
  addrinfo hints = {};
  hints.ai_family = family;
  hints.ai_socktype = SOCK_DGRAM;
  addrinfo* list = nullptr;
  if (host.empty() || ::getaddrinfo(host.c_str(), "9", &hints, &list) != 0) return "";
  std::string found;
  for (const addrinfo* a = list; a != nullptr && found.empty(); a = a->ai_next) {
    const int fd = ::socket(a->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    sockaddr_storage own = {};
    socklen_t bytes = sizeof own;
    char text[NI_MAXHOST] = "";
    auto* address = reinterpret_cast<sockaddr*>(&own);
    if (fd >= 0 && ::connect(fd, a->ai_addr, a->ai_addrlen) == 0 && ::getsockname(fd, address, &bytes) == 0 &&
        !is_loopback(address)) {
      ::getnameinfo(address, bytes, text, sizeof text, nullptr, 0, NI_NUMERICHOST);
      found = text;
    }
    if (fd >= 0) ::close(fd);
  }
  ::freeaddrinfo(list);
  return found;
}

const char* family_words(int family) {
  if (family == 0) return "";
  return family == AF_INET6 ? " with an IPv6 address (CGX_SOCKET_FAMILY=AF_INET6)"
                            : " with an IPv4 address (CGX_SOCKET_FAMILY=AF_INET)";
}

}  // namespace

std::string network_card() {
  const std::string boot = boot_id();
  struct stat space = {};
  if (boot.empty() || ::stat("/proc/self/ns/net", &space) != 0) {
    char host[256] = "";
    ::gethostname(host, sizeof host - 1);
    return host;
  }
  return fmt::format("{}/{}", boot, space.st_ino);
}

Result<std::string> choose_address(const char* transport, const TransportConfig& config, bool one_host) {
  const std::string& pattern = config.interface_name;
  if (pattern.empty() && one_host) return std::string(config.socket_family == AF_INET6 ? "::1" : "127.0.0.1");
  if (pattern.empty()) {
    std::string address = address_towards(config.reach_host, config.socket_family);
    if (!address.empty()) return address;
  }
  const auto listed = interface_addresses();
  if (!listed.ok()) {
    return error(listed.status().code(), "{}: rank {}: {}", transport, config.rank,
                 listed.status().message());
  }
  const std::vector<InterfaceAddress>& all = *listed;
  const InterfaceAddress* chosen = choose_interface(all, pattern, config.socket_family);
  if (chosen != nullptr) return chosen->address;
  if (!pattern.empty()) {
    return error(Code::kInvalidArgument,
                 "{}: rank {} has no network interface \"{}\"{} that is up: set CGX_SOCKET_IFNAME or "
                 "interface_name to one of {}",
                 transport, config.rank, pattern, family_words(config.socket_family), describe(all));
  }
  return error(Code::kInvalidArgument,
               "{}: rank {} has no network interface{} but loopback, and the ranks are on several hosts: set "
               "CGX_SOCKET_IFNAME to the interface that reaches the others, of {}",
               transport, config.rank, family_words(config.socket_family), describe(all));
}

}  // namespace cgx
