// See environment.h.
#include "environment.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <sched.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <ctime>
#include <fstream>
#include <sstream>
#include <thread>

#include "commit.h"

namespace cgx::bench {
namespace {

using json = nlohmann::json;

std::string cpu_line(const std::string& key) {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(key) && line.find(": ") != line.npos) return line.substr(line.find(": ") + 2);
  }
  return "unknown";
}

// Of those that cgx and its baselines choose among.
json instructions() {
  json found = json::array();
  std::istringstream flags(cpu_line("flags"));
  for (std::string flag; flags >> flag;) {
    for (const char* known : {"sse4_2", "avx2", "f16c", "avx512f", "avx512bw", "avx512_fp16"}) {
      if (flag == known) found.push_back(flag);
    }
  }
  return found;
}

std::string first_line(const char* path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

std::string now() {
  const std::time_t seconds = std::time(nullptr);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", std::gmtime(&seconds));
  return text;
}

// Those that change what libraries here do; a secret is no reader's business.
json variables() {
  json found = json::object();
  for (char** one = environ; *one != nullptr; ++one) {
    const std::string text = *one;
    const std::string name = text.substr(0, text.find('='));
    for (const char* prefix : {"CGX_", "OMPI_MCA_btl", "GLOO_", "OMP_NUM_THREADS"}) {
      if (!name.starts_with(prefix)) continue;
      found[name] =
          name.find("SECRET") != name.npos ? "(set)" : text.substr(std::min(name.size() + 1, text.size()));
    }
  }
  return found;
}

// Of the library that is loaded: an installed cgx-bench may meet another than it was built with.
std::string library_path() {
  Dl_info where = {};
  const auto* function = reinterpret_cast<const void*>(&cgx_version_string);
  return dladdr(function, &where) != 0 && where.dli_fname != nullptr ? where.dli_fname : "unknown";
}

int usable_cores() {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 0;
}

}  // namespace

json environment(const Options& options) {
  utsname kernel = {};
  uname(&kernel);
  const bool namespaces = !options.launch_prefix.empty();
  return {{"cgx_version", cgx_version_string()},
          {"commit", CGX_BENCH_COMMIT},
          {"library", library_path()},
          {"versions", json::object()},  // of baselines that tell theirs
          {"time", now()},
          {"host", kernel.nodename},
          {"cpu", cpu_line("model name")},
          {"instructions", instructions()},
          {"cores", std::thread::hardware_concurrency()},
          {"usable_cores", usable_cores()},
          {"memory_bytes",
           static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(sysconf(_SC_PAGE_SIZE))},
          {"kernel", fmt::format("{} {}", kernel.sysname, kernel.release)},
          {"huge_pages", first_line("/sys/kernel/mm/transparent_hugepage/enabled")},
          {"build", CGX_BENCH_BUILD},
          {"load_average", first_line("/proc/loadavg")},
          {"variables", variables()},
          {"tcp_congestion_control",
           namespaces ? "that of the namespaces" : first_line("/proc/sys/net/ipv4/tcp_congestion_control")},
          {"link_rate", options.link_rate}};
}

std::string environment_line(const json& environment) {
  return fmt::format("machine: {}, {} cores, {}; built with {}; load {}",
                     environment["cpu"].get<std::string>(), environment["cores"].get<unsigned>(),
                     environment["kernel"].get<std::string>(), environment["build"].get<std::string>(),
                     environment["load_average"].get<std::string>());
}

}  // namespace cgx::bench
