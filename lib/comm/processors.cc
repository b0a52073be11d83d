// See processors.h.
#include "comm/processors.h"

#include <unistd.h>

#include <algorithm>
#include <map>

#include "base/boot_id.h"
#include "base/hash.h"

namespace cgx {

Processors own_processors() {
  return {hash_of(boot_id()), static_cast<uint64_t>(std::max(1L, sysconf(_SC_NPROCESSORS_ONLN)))};
}

double crowding_of(std::span<const Processors> ranks) {
  std::map<uint64_t, uint64_t> of_host;
  for (const Processors& p : ranks) ++of_host[p.host];
  double worst = 1;
  for (const Processors& p : ranks) {
    const auto cores = static_cast<double>(std::max<uint64_t>(1, p.cores));
    worst = std::max(worst, static_cast<double>(of_host[p.host]) / cores);
  }
  return worst;
}

}  // namespace cgx
