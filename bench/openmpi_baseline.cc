// Open MPI 4 as users have it, over its shared memory or TCP as the link asks. Its calls poll, but only while
// they run, so the other contenders of a round have the cores to themselves.
#include <dlfcn.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <limits>
#include <sstream>
#include <thread>

#include "contender.h"
#include "mpi_module.h"
#include "openmpi.h"
#include "own_files.h"
#include "rank_group.h"

namespace cgx::bench {
namespace {

std::filesystem::path module_path() { return own_file("libcgx_bench_mpi.so"); }

// As its name says; "openmpi": sockets where the ranks are told to use them, else Open MPI's shared memory.
bool over_tcp(const Options& options, const std::string& method) {
  if (method != "openmpi") return method == "openmpi-tcp";
  return !options.launch_prefix.empty() || (options.transport != "auto" && options.transport != "shm");
}

const MpiModule& load_module() {
  void* module = dlopen(module_path().c_str(), RTLD_NOW | RTLD_GLOBAL);
  if (module == nullptr) throw BenchError(fmt::format("openmpi: {}", dlerror()));
  const auto entry = reinterpret_cast<decltype(&cgx_bench_mpi)>(dlsym(module, "cgx_bench_mpi"));
  if (entry == nullptr) throw BenchError(fmt::format("openmpi: {}", dlerror()));
  return *entry();
}

class OpenMpiContender final : public Contender {
 public:
  OpenMpiContender(const Options& options, const std::string& method)
      : mpi_(load_module()), ranks_(options.ranks), dtype_(options.dtype), op_(options.op) {
    transport_ = options.launcher.empty()
                     ? over_tcp(options, method) ? "openmpi tcp" : "openmpi shared memory"
                     : "as mpirun was told";
    const int rank = mpi_.start();
    if (rank != options.rank) throw BenchError(fmt::format("openmpi: MPI_Init gave rank {}", rank));
  }
  OpenMpiContender(const OpenMpiContender&) = delete;
  OpenMpiContender& operator=(const OpenMpiContender&) = delete;
  ~OpenMpiContender() override {
    // MPI_Finalize waits for every rank: not after an error of one.
    if (std::uncaught_exceptions() == 0) mpi_.stop();
  }

  void allreduce(const void* in, void* out, uint64_t count) override {
    if (count > static_cast<uint64_t>(std::numeric_limits<int>::max())) {
      throw UsageError("--baseline openmpi: MPI counts to 2^31 - 1 elements");
    }
    if (!mpi_.allreduce(in, out, static_cast<int>(count), dtype_, op_)) {
      throw BenchError("openmpi: MPI_Allreduce failed");
    }
    if (op_ == CGX_AVG && dtype_ == CGX_FLOAT32) divide(static_cast<float*>(out), count);
    if (op_ == CGX_AVG && dtype_ == CGX_FLOAT64) divide(static_cast<double*>(out), count);
    // Computed, as MPI does not count: what a ring sends, which is the least.
    bytes_ +=
        2 * static_cast<uint64_t>(ranks_ - 1) * count * dtype_bytes(dtype_) / static_cast<uint64_t>(ranks_);
  }

  void settle() override { mpi_.settle(); }
  Traffic traffic() const override { return {bytes_, bytes_}; }
  void forget() override {}
  std::string spec() const override { return "none"; }
  std::string transport() const override { return transport_; }
  std::string version() const override { return mpi_.version(); }
  bool unbiased() const override { return true; }

 private:
  template <typename T>
  void divide(T* values, uint64_t count) const {
    const T scale = 1 / static_cast<T>(ranks_);
    for (uint64_t e = 0; e < count; ++e) values[e] *= scale;
  }

  const MpiModule& mpi_;
  int ranks_;
  cgx_dtype dtype_;
  cgx_op op_;
  std::string transport_;
  uint64_t bytes_ = 0;
};

// What mpirun takes for ssh: it is called with an address and a shell command.
std::string write_agent(const Options& options, const std::string& directory) {
  std::string path = directory + "/mpi-agent";
  std::ofstream script(path);
  script << "#!/bin/sh\naddress=$1\nshift\ncase $address in\n";
  std::istringstream addresses(options.addresses);
  int rank = 0;
  for (std::string address; std::getline(addresses, address, ','); ++rank) {
    // Daemons that think themselves on hosts of their own race for one session directory otherwise.
    const std::string sessions = fmt::format("{}/mpi-{}", directory, rank);
    script << address << ") export TMPDIR=" << sessions << "; mkdir -p " << sessions << "; exec";
    for (const std::string& word : prefix_words(options.launch_prefix, rank)) script << " " << word;
    script << " sh -c \"$*\" ;;\n";
  }
  script << "esac\necho \"no namespace has address $address\" >&2\nexit 1\n";
  script.close();
  std::filesystem::permissions(path, std::filesystem::perms::owner_all);
  return path;
}

}  // namespace

std::unique_ptr<Contender> make_openmpi(const Options& options, const std::string& method) {
  return std::make_unique<OpenMpiContender>(options, method);
}

std::string openmpi_missing(const Options& options, const std::string& method) {
  if (!options.launcher.empty()) {
    if (options.launcher != "mpirun")
      return fmt::format("{} has started the ranks, not mpirun", options.launcher);
    if (method != "openmpi") return "mpirun has been told its transport already: openmpi takes that";
  }
  if (!std::filesystem::exists(module_path()))
    return "cgx-bench was built without MPI (Debian: libopenmpi-dev)";
  if (options.launcher.empty() && !in_path("mpirun"))
    return "mpirun is not in the PATH (Debian: openmpi-bin)";
  if (!options.launch_prefix.empty() && options.addresses.empty()) {
    return "the namespaces' addresses are not known (CGX_NETNS_ADDRESSES)";
  }
  if (!options.launch_prefix.empty() && method == "openmpi-shm") return "namespaces are hosts of their own";
  return "";
}

std::vector<std::string> mpirun_words(const Options& options, const std::string& method,
                                      const std::string& meeting_directory,
                                      const std::vector<std::string>& rank_words) {
  std::vector<std::string> words = prefix_words(options.launch_prefix, 0);
  const bool crowded = static_cast<unsigned>(options.ranks) > std::thread::hardware_concurrency();
  for (const char* word : {"mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none"})
    words.emplace_back(word);
  const auto set = [&](const char* name, const std::string& value) {
    for (const std::string& word : {std::string("--mca"), std::string(name), value}) words.push_back(word);
  };
  set("pml", "ob1");
  set("mpi_yield_when_idle", crowded ? "1" : "0");
  if (over_tcp(options, method)) {
    set("btl", "self,tcp");
    set("btl_tcp_if_include", options.interface_name);
  } else {
    set("btl", "self,vader");
  }
  if (!options.launch_prefix.empty()) {
    set("plm", "rsh");
    set("plm_rsh_agent", write_agent(options, meeting_directory));
    set("oob_tcp_if_include", options.interface_name);
    set("oob_tcp_peer_retries", "20");  // the namespaces may have been made a moment ago
    set("oob_tcp_retry_delay", "1");
    words.insert(words.end(), {"-H", options.addresses, "--map-by", "node"});
  }
  words.insert(words.end(), {"-n", std::to_string(options.ranks)});
  words.insert(words.end(), rank_words.begin(), rank_words.end());
  return words;
}

}  // namespace cgx::bench
