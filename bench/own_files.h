// Files that cgx-bench brings with it: beside it in a build tree, in libdir/cgx where it is installed.
#pragma once

#include <filesystem>
#include <string>

namespace cgx::bench {

// The path where the file is, or where it would be beside this program.
std::filesystem::path own_file(const std::string& name);
bool in_path(const std::string& program);

}  // namespace cgx::bench
