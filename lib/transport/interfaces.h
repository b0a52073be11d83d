// The network interfaces of this host, and the choice among them by the words of CGX_SOCKET_IFNAME, which are
// NCCL's: "eth,ib" (names that begin so, the first that is found), "=eth0,eth1" (exactly these), "^docker,lo"
// (all but those that begin so), "^=eth1" (all but exactly these).
#pragma once

#include <sys/socket.h>

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace cgx {

// An address of an interface that is up. One that has several comes several times.
struct InterfaceAddress {
  std::string name;
  std::string address;  // numeric, with its scope where it means something on its link only
  int family = 0;       // AF_INET, AF_INET6
  bool loopback = false;
  bool link_only = false;
};

// kResource where the kernel cannot be asked: no descriptor, no memory.
Result<std::vector<InterfaceAddress>> interface_addresses();

// 127.0.0.0/8 or ::1.
bool is_loopback(const sockaddr* address);

// The best of `all`, or null: of the interface that `pattern` names first (an exact name before one that only
// begins so); there IPv4 before IPv6, and addresses of the link alone last. An empty pattern, and one of
// exclusion, leave loopback out. family 0: any.
const InterfaceAddress* choose_interface(const std::vector<InterfaceAddress>& all, std::string_view pattern,
                                         int family);

// "lo (127.0.0.1, ::1), eth0 (10.0.0.2)", for errors.
std::string describe(const std::vector<InterfaceAddress>& all);

}  // namespace cgx
