// Which ranks share a host: one kernel runs them and they see one /dev/shm, so that they can map each
// other's memory. Ranks of two containers may run on one machine and share none.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"
#include "transport/transport_config.h"

namespace cgx {

// Of this rank: config.host_id or, where that is empty, what the kernel and /dev/shm say.
std::string host_identity(const TransportConfig& config);

// The host of each rank, numbered in the order in which ranks first name them: {0, 1, 0} where ranks 0 and
// 2 share one. The same on all ranks. Collective, once for each (store, job).
Result<std::vector<int>> meet_hosts(const TransportConfig& config);

// How many hosts there are.
int count_hosts(const std::vector<int>& hosts);

}  // namespace cgx
