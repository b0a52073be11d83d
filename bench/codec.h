// `cgx-bench codec`.
#pragma once

#include "options.h"

namespace cgx::bench {

// Returns the exit status: 1 if an element was out of bounds.
int run_codec(const Options& options);

}  // namespace cgx::bench
