// What the environment says: who has started this process, as which rank, and where the ranks meet. Nobody
// else in cgx-bench reads variables.
#pragma once

#include <string>

#include "options.h"

namespace cgx::bench {

std::string variable(const char* name);  // "" where it is not set
// Who this process is: by the first launcher of cgx.h's list that has set both rank and size. `how` is
// --launch.
void read_launcher(Options& options, const std::string& how);
// A number, or "mpi": as mpirun counts.
int parse_rank(const std::string& text);
// Where ranks meet, as cgx.h's cgx_comm_create() documents it. Under mpirun on one host, which sets none of
// that: a directory whose name they all know.
std::string store_address();

}  // namespace cgx::bench
