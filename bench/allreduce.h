// `cgx-bench allreduce`.
#pragma once

#include "options.h"

namespace cgx::bench {

// Returns the exit status: 1 if an element was out of bounds or replicas differed.
int run_allreduce(const Options& options);

}  // namespace cgx::bench
