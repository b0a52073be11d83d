// A communicator in words and in Prometheus' text format (its "text-based format", version 0.0.4).
#pragma once

#include <string>
#include <vector>

#include "comm/stats.h"

namespace cgx {

// The lines of the summary that is logged when a communicator ends.
std::vector<std::string> summary_lines(const Snapshot& snapshot);

// All families of all snapshots; of equal job and rank there is at most one.
std::string prometheus_text(const std::vector<Snapshot>& snapshots);

}  // namespace cgx
