// `cgx-bench plans` (or --check): the symbolic check of every algorithm, as a table.
#pragma once

namespace cgx::bench {

// Returns the exit status: 1 if a plan is wrong.
int run_plans(int argc, char** argv);

}  // namespace cgx::bench
