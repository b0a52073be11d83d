// The part of `cgx-bench allreduce` that runs in each rank's process.
#pragma once

#include "options.h"

namespace cgx::bench {

// Returns the exit status of the process.
int run_rank(const Options& options);

}  // namespace cgx::bench
