// See module.h. A module is never unloaded: its threads may outlive any handle.
#include "transport/module.h"

#include <dlfcn.h>

#include <filesystem>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "base/config.h"

namespace cgx {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFile = "libcgx_gloo.so";

// The directory of the object that contains this function: of libcgx.so, or of a program linked with it.
fs::path own_directory() {
  Dl_info where = {};
  std::error_code fault;
  fs::path object;
  if (::dladdr(reinterpret_cast<void*>(&open_gloo), &where) != 0 && where.dli_fname != nullptr) {
    object = fs::canonical(where.dli_fname, fault);
  }
  if (object.empty() || fault) object = fs::canonical("/proc/self/exe", fault);
  return object.parent_path();
}

std::vector<fs::path> candidates() {
  std::vector<fs::path> files;
  for (const std::string& directory : config::modules()) files.push_back(fs::path(directory) / kFile);
  const fs::path own = own_directory();
  files.push_back(own / kFile);
  files.push_back((own / ".." / "lib" / kFile).lexically_normal());
  return files;
}

Result<void*> load() {
  std::string looked;
  for (const fs::path& file : candidates()) {
    std::error_code fault;
    if (!fs::exists(file, fault)) {
      looked += fmt::format("{}{}", looked.empty() ? "" : ", ", file.string());
      continue;
    }
    void* module = ::dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (module != nullptr) return module;
    return error(Code::kUnsupported,
                 "gloo transport: cannot load {}: {} (Debian's libgloo0 provides libgloo)", file.string(),
                 ::dlerror());
  }
  return error(
      Code::kUnsupported,
      "gloo transport: {} was not found (looked for {}). It is built where Gloo is installed (Debian: "
      "libgloo-dev, CMake: -DCGX_WITH_GLOO=ON); CGX_MODULE_PATH names further directories",
      kFile, looked);
}

}  // namespace

Result<std::unique_ptr<Transport>> open_gloo(const TransportConfig& config) {
  if (!config.secret.empty()) {
    return error(
        Code::kUnsupported,
        "gloo transport: Gloo's connections cannot prove the secret: use tcp, or do without a secret");
  }
  CGX_ASSIGN_OR_RETURN(void* module, load());
  auto* abi = reinterpret_cast<ModuleAbiFn*>(::dlsym(module, "cgx_module_abi"));
  auto* open = reinterpret_cast<ModuleOpenFn*>(::dlsym(module, "cgx_module_open"));
  if (abi == nullptr || open == nullptr || abi() != kModuleAbi) {
    return error(
        Code::kUnsupported,
        "gloo transport: the {} that was found belongs to another version of cgx: install both from one "
        "build",
        kFile);
  }
  Status status;
  std::unique_ptr<Transport> transport(open(&config, &status));
  if (transport == nullptr) return status;
  return transport;
}

}  // namespace cgx
