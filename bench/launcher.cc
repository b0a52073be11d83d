// See launcher.h.
#include "launcher.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

namespace cgx::bench {

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

void read_launcher(Options& options, const std::string& how) {
  constexpr const char* kLaunchers[][3] = {{"CGX_RANK", "CGX_SIZE", "CGX_RANK"},
                                           {"RANK", "WORLD_SIZE", "torchrun"},
                                           {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "mpirun"},
                                           {"PMI_RANK", "PMI_SIZE", "mpirun (PMI)"},
                                           {"SLURM_PROCID", "SLURM_NTASKS", "srun"}};
  if (how != "auto" && how != "self" && how != "environment") {
    throw UsageError(fmt::format("--launch {}: expected auto, self or environment", how));
  }
  if (how == "self" || options.rank >= 0) return;
  for (const auto& [rank, size, name] : kLaunchers) {
    const std::string mine = variable(rank), all = variable(size);
    if (mine.empty() || all.empty()) continue;
    if (options.ranks != 0 && options.ranks != std::atoi(all.c_str())) {
      throw UsageError(fmt::format("--ngpus {}: {} has started {} ranks (--launch self ignores it)",
                                   options.ranks, name, all));
    }
    options.rank = std::atoi(mine.c_str());
    options.ranks = std::atoi(all.c_str());
    options.launcher = name;
    return;
  }
  if (how == "environment") {
    throw UsageError(
        "--launch environment: none of CGX_RANK, RANK, OMPI_COMM_WORLD_RANK, PMI_RANK and "
        "SLURM_PROCID is set, with its size");
  }
}

int parse_rank(const std::string& text) {
  const std::string number = text == "mpi" ? variable("OMPI_COMM_WORLD_RANK") : text;
  if (number.empty()) throw UsageError("--as-rank mpi: mpirun has not set OMPI_COMM_WORLD_RANK");
  return std::atoi(number.c_str());
}

std::string store_address() {
  if (std::string given = variable("CGX_STORE"); !given.empty()) return given;
  const std::string host = variable("MASTER_ADDR");
  if (!host.empty()) {
    const std::string port = variable("CGX_PORT");
    const std::string master = variable("MASTER_PORT");
    if (!port.empty()) return fmt::format("tcp:{}:{}", host, port);
    if (!master.empty()) return fmt::format("tcp:{}:{}", host, std::atoi(master.c_str()) + 1);
  }
  const std::string all_here = variable("OMPI_COMM_WORLD_LOCAL_SIZE");
  if (!all_here.empty() && all_here == variable("OMPI_COMM_WORLD_SIZE")) {
    const std::filesystem::path base = std::filesystem::temp_directory_path();
    return fmt::format("file:{}/cgx-bench-{}-{}-{}", base.string(), getuid(), variable("PMIX_NAMESPACE"),
                       variable("OMPI_MCA_ess_base_jobid"));
  }
  throw UsageError(
      "the ranks do not know where to meet: set CGX_STORE=tcp:HOST:PORT (HOST is rank 0's) or "
      "CGX_STORE=file:DIRECTORY for all of them (with mpirun: -x CGX_STORE)");
}

}  // namespace cgx::bench
