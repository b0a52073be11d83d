// See variables.h. An accessor in config.cc, or a Python module, that reads another name fails a test.
#include "base/variables.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <numeric>
#include <vector>

namespace cgx::config {
namespace {

constexpr Variable kVariables[] = {
    {"CGX_RANK", "RANK, OMPI_COMM_WORLD_RANK, PMI_RANK, SLURM_PROCID", "this process's rank", "library"},
    {"CGX_SIZE", "WORLD_SIZE, OMPI_COMM_WORLD_SIZE, PMI_SIZE, SLURM_NTASKS", "how many ranks there are",
     "library"},
    {"CGX_STORE", "tcp on MASTER_ADDR", "where ranks meet: file:DIR or tcp:HOST:PORT", "library"},
    {"CGX_PORT", "MASTER_PORT + 1", "port of the store at MASTER_ADDR", "library"},
    {"CGX_JOB", "cgx", "name of the job; jobs that share a store or a host need different ones", "library"},
    {"CGX_TIMEOUT_MS", "300000", "longest time without progress of a peer, in milliseconds", "library"},
    {"CGX_SOCKET_IFNAME", "by the host's address",
     "network interfaces of sockets, as NCCL reads it: eth,ib begin so; =eth0 exactly; ^docker,lo all but "
     "those",
     "library"},
    {"CGX_SOCKET_FAMILY", "IPv4, else IPv6", "addresses of sockets: AF_INET or AF_INET6", "library"},
    {"CGX_SOCKET_STREAMS", "1",
     "connections of tcp between two ranks, for links that one does not fill: 1 to 64, the same on all ranks",
     "library"},
    {"CGX_HOST_ID", "by boot and /dev/shm", "name of this rank's host; ranks of equal names share memory",
     "library"},
    {"CGX_SECRET", "none",
     "what all ranks know and nobody else, 16 bytes at least: they prove it to each other", "library"},
    {"CGX_SECRET_FILE", "none", "a file that holds it", "library"},
    {"CGX_THREADS", "1", "threads of each rank's codecs, the caller's included: 1 to 256", "library"},
    {"CGX_TUNE", "0", "1: measure codecs and links when a communicator is made", "library"},
    {"CGX_POLICY_FILE", "none", "a policy that was saved as JSON, instead of measuring", "library"},
    {"CGX_INNER_CODEC", "none", "codec of messages inside a host, of the algorithm hierarchical", "library"},
    {"CGX_MODULE_PATH", "beside libcgx.so", "directories, separated by ':', that hold libcgx_gloo.so",
     "library"},
    {"CGX_DEBUG", "WARN",
     "what is logged: ERROR, WARN, VERSION (WARN and a line with the version), INFO, TRACE", "library"},
    {"CGX_DEBUG_SUBSYS", "ALL",
     "whose INFO and TRACE lines: a list of INIT, COLL, NET, CODEC, TUNING, ENV, ALL; ^ before the list: all "
     "but those",
     "library"},
    {"CGX_DEBUG_FILE", "standard error", "file of the log; %h host, %p process id, %r rank", "library"},
    {"CGX_SUMMARY", "0", "1: log a summary of each communicator when it ends, as CGX_DEBUG=INFO does",
     "library"},
    {"CGX_STATS", "0", "N: count by tensor, and measure the error of every N-th collective of a layout",
     "library"},
    {"CGX_TRACE", "none", "file of a Chrome trace (Perfetto reads it); %h, %p, %r as above", "library"},
    {"CGX_TRACE_EVENTS", "65536", "spans that the trace keeps, the last ones: 1024 to 16777216", "library"},
    {"CGX_METRICS", "none", "file of metrics in Prometheus' text format; %h, %p, %r as above", "library"},
    {"CGX_METRICS_SECONDS", "10", "how often that file is written: 1 to 86400", "library"},
    {"CGX_LIBRARY", "the package's own", "the libcgx.so that Python loads", "python"},
    {"CGX_CACHE", "~/.cache/cgx", "where the PyTorch backend is kept once it is compiled", "python"},
    {"CGX_CODEC", "none", "spec for plain all_reduce of the PyTorch backend", "python"},
    {"CGX_MIN_ELEMENTS", "1024", "smaller tensors of plain all_reduce go uncompressed", "python"},
    {"CGX_COMPRESS_1D", "0", "1: plain all_reduce also compresses tensors of one dimension", "python"},
    {"CGX_TRANSPORT", "auto", "transport of the PyTorch backend", "python"},
    {"CGX_ALGORITHM", "auto", "algorithm of the PyTorch backend", "python"},
    {"CGX_SEED", "0", "seed of the PyTorch backend's random bits", "python"},
};

// Read by our own scripts, tests and build, not by the library.
constexpr std::array<std::string_view, 6> kForeignPrefixes = {"CGX_TEST_",  "CGX_BUILD_", "CGX_WITH_",
                                                              "CGX_BENCH_", "CGX_DEMO_",  "CGX_NETNS_"};

struct Renamed {
  std::string_view before;
  std::string_view now;
};
constexpr Renamed kRenamed[] = {{"CGX_LOG", "CGX_DEBUG"}};

size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i + 1;
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t replace = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replace, row[j] + 1, diagonal + 1});
    }
  }
  return row[b.size()];
}

}  // namespace

std::span<const Variable> variables() { return kVariables; }

std::string complaint_about(std::string_view name) {
  const auto is_prefix = [&](std::string_view prefix) { return name.starts_with(prefix); };
  if (!name.starts_with("CGX_") || std::any_of(kForeignPrefixes.begin(), kForeignPrefixes.end(), is_prefix)) {
    return {};
  }
  for (const Renamed& one : kRenamed) {
    if (name == one.before) {
      return fmt::format("the environment variable {} does nothing; it is called {} now", name, one.now);
    }
  }
  std::string_view nearest;
  size_t distance = SIZE_MAX;
  for (const Variable& variable : kVariables) {
    const size_t d = edit_distance(name, variable.name);
    if (d == 0) return {};
    if (d < distance) {
      distance = d;
      nearest = variable.name;
    }
  }
  return fmt::format("the environment variable {} is unknown to cgx and does nothing; did you mean {}?", name,
                     nearest);
}

}  // namespace cgx::config
