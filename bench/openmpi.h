// How ranks come to be MPI processes: mpirun starts them. In namespaces one daemon runs in each, as on real
// hosts.
#pragma once

#include <string>
#include <vector>

#include "options.h"

namespace cgx::bench {

// Why baseline `method`, "openmpi" or one of its variants, cannot be had here; "" if it can.
std::string openmpi_missing(const Options& options, const std::string& method);
// The words that start every rank with `rank_words` (which end with how a rank is told that MPI counts). May
// write a script to the meeting directory.
std::vector<std::string> mpirun_words(const Options& options, const std::string& method,
                                      const std::string& meeting_directory,
                                      const std::vector<std::string>& rank_words);

}  // namespace cgx::bench
