// See own_files.h.
#include "own_files.h"

#include <fmt/format.h>
#include <unistd.h>

#include <sstream>

#include "launcher.h"

namespace cgx::bench {

std::filesystem::path own_file(const std::string& name) {
  const std::filesystem::path own = std::filesystem::read_symlink("/proc/self/exe").parent_path();
  std::filesystem::path installed = own / CGX_BENCH_FILES / name;
  if (!std::filesystem::exists(own / name) && std::filesystem::exists(installed)) return installed;
  return own / name;
}

bool in_path(const std::string& program) {
  if (program.find('/') != program.npos) return access(program.c_str(), X_OK) == 0;
  std::istringstream directories(variable("PATH"));
  for (std::string directory; std::getline(directories, directory, ':');) {
    if (access(fmt::format("{}/{}", directory, program).c_str(), X_OK) == 0) return true;
  }
  return false;
}

}  // namespace cgx::bench
