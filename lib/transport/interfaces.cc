// See interfaces.h.
#include "transport/interfaces.h"

#include <fmt/format.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <system_error>
#include <tuple>

namespace cgx {

bool is_loopback(const sockaddr* address) {
  if (address->sa_family == AF_INET) {
    return (ntohl(reinterpret_cast<const sockaddr_in*>(address)->sin_addr.s_addr) >> 24) == 127;
  }
  return address->sa_family == AF_INET6 &&
         IN6_IS_ADDR_LOOPBACK(&reinterpret_cast<const sockaddr_in6*>(address)->sin6_addr);
}

namespace {

struct Pattern {
  bool excludes = false;
  bool exact = false;
  std::vector<std::string> names;
};

Pattern parse(std::string_view text) {
  Pattern pattern;
  pattern.excludes = text.starts_with('^');
  if (pattern.excludes) text.remove_prefix(1);
  pattern.exact = text.starts_with('=');
  if (pattern.exact) text.remove_prefix(1);
  while (!text.empty()) {
    const size_t end = std::min(text.find(','), text.size());
    if (end > 0) pattern.names.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return pattern;
}

// The place of the first name that fits, and whether it is more than a prefix; nothing if none fits.
std::optional<std::pair<size_t, bool>> place(const Pattern& pattern, const std::string& name) {
  for (size_t i = 0; i < pattern.names.size(); ++i) {
    if (name == pattern.names[i]) return std::pair(i, true);
    if (!pattern.exact && name.starts_with(pattern.names[i])) return std::pair(i, false);
  }
  return {};
}

std::string numeric(const sockaddr* address, socklen_t bytes) {
  char host[NI_MAXHOST] = "";
  ::getnameinfo(address, bytes, host, sizeof host, nullptr, 0, NI_NUMERICHOST);
  return host;
}

}  // namespace

Result<std::vector<InterfaceAddress>> interface_addresses() {
  std::vector<InterfaceAddress> all;
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) {
    return error(Code::kResource, "cannot list the network interfaces of this host: {}",
                 std::system_category().message(errno));
  }
  for (const ifaddrs* i = list; i != nullptr; i = i->ifa_next) {
    if (i->ifa_addr == nullptr || (i->ifa_flags & IFF_UP) == 0) continue;
    const int family = i->ifa_addr->sa_family;
    if (family != AF_INET && family != AF_INET6) continue;
    InterfaceAddress one;
    one.name = i->ifa_name;
    one.family = family;
    one.address = numeric(i->ifa_addr, family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6));
    one.loopback = (i->ifa_flags & IFF_LOOPBACK) != 0;
    one.link_only = family == AF_INET6 &&
                    IN6_IS_ADDR_LINKLOCAL(&reinterpret_cast<const sockaddr_in6*>(i->ifa_addr)->sin6_addr);
    all.push_back(std::move(one));
  }
  ::freeifaddrs(list);
  return all;
}

const InterfaceAddress* choose_interface(const std::vector<InterfaceAddress>& all, std::string_view text,
                                         int family) {
  const Pattern pattern = parse(text);
  const bool by_name = !pattern.excludes && !pattern.names.empty();
  const InterfaceAddress* best = nullptr;
  std::tuple<size_t, bool, int> best_key;
  for (const InterfaceAddress& one : all) {
    if (family != 0 && one.family != family) continue;
    const auto found = place(pattern, one.name);
    if (by_name ? !found : found || one.loopback) continue;
    const int kind = one.family == AF_INET ? 0 : one.link_only ? 2 : 1;
    const std::tuple key(by_name ? found->first : 0, by_name && !found->second, kind);
    if (best != nullptr && key >= best_key) continue;
    best = &one;
    best_key = key;
  }
  return best;
}

std::string describe(const std::vector<InterfaceAddress>& all) {
  std::vector<std::string> names;
  for (const InterfaceAddress& one : all) {
    if (std::find(names.begin(), names.end(), one.name) == names.end()) names.push_back(one.name);
  }
  std::string text;
  for (const std::string& name : names) {
    std::string addresses;
    for (const InterfaceAddress& one : all) {
      if (one.name == name) addresses += fmt::format("{}{}", addresses.empty() ? "" : ", ", one.address);
    }
    text += fmt::format("{}{} ({})", text.empty() ? "" : ", ", name, addresses);
  }
  return text.empty() ? "none" : text;
}

}  // namespace cgx
