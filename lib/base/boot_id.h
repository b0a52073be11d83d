// Which kernel this is, until it is booted again: the same in all its namespaces and containers.
#pragma once

#include <fstream>
#include <string>

namespace cgx {

// "" where the kernel does not say.
inline std::string boot_id() {
  std::string id;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> id;
  return id;
}

}  // namespace cgx
