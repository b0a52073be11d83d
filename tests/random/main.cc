// Random collectives: codec x algorithm x transport x count x dtype x ranks x operation, all ranks' results
// compared bit for bit and with an oracle's bounds. Ranks are threads, or processes for a share of shm and
// tcp.
//
//   random_collectives --seed 1 --count 100000      prints a line at the end, and each mismatch; exits with 1
//   if any random_collectives --world 17                   one world again, as a mismatch's line names it
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <thread>

#include "comm/communicator.h"
#include "random/oracle.h"

namespace cgx::random {
namespace {

struct Options {
  uint64_t seed = 1;
  uint64_t count = 1000;
  uint64_t per_world = 100;
  double seconds = 1e9;  // stop after the world that is running then
  uint64_t world = 0;    // only this one
  std::vector<std::string> transports = {"local", "local", "local", "local", "shm", "tcp"};
};

// Memory that forked ranks write their results into.
class Results {
 public:
  Results(int size, uint64_t bytes)
      : bytes_(std::max<uint64_t>(bytes, 64)), size_(static_cast<uint64_t>(size)) {
    void* memory = ::mmap(nullptr, total(), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    memory_ = static_cast<uint8_t*>(memory);
  }
  ~Results() { ::munmap(memory_, total()); }
  Results(const Results&) = delete;
  Results& operator=(const Results&) = delete;

  uint8_t* of(int rank) { return memory_ + static_cast<uint64_t>(rank) * bytes_; }
  // A rank's words, "" for none.
  char* error(int rank) { return reinterpret_cast<char*>(memory_ + size_ * bytes_) + rank * kErrorBytes; }

  static constexpr int kErrorBytes = 1024;

 private:
  uint64_t total() const { return size_ * (bytes_ + kErrorBytes); }
  const uint64_t bytes_, size_;
  uint8_t* memory_ = nullptr;
};

CommunicatorConfig config_of(const World& world, Store* store, const std::string& job, int rank) {
  CommunicatorConfig config;
  config.rank = rank;
  config.size = world.size;
  config.store = store;
  config.job = job;
  config.transport = world.transport;
  config.algorithm = world.algorithm;
  config.inner_codec = world.inner_codec;
  config.interface_name = "lo";
  config.timeout_ms = 120000;
  config.seed = world.seed;
  config.slice_bytes = world.slice_bytes;
  config.threads = world.threads;
  if (!world.hosts.empty()) config.host_id = fmt::format("host-{}", world.hosts[static_cast<size_t>(rank)]);
  return config;
}

Status run_case(const World& world, const Case& one, size_t index, Communicator& comm, uint8_t* result) {
  std::vector<uint8_t> x = make_input(world, one, index, comm.rank());
  std::vector<uint8_t> y(one.in_place ? 0 : x.size(), 0xa5);
  CGX_ASSIGN_OR_RETURN(Request request, make_request(one.dtype, one.op, one.count, one.segments));
  AllreduceCall call;
  call.input = x.data();
  call.output = one.in_place ? x.data() : y.data();
  call.layout = std::move(request.layout);
  call.average = one.average;
  call.op = one.op;
  const void* output = call.output;
  CGX_RETURN_IF_ERROR(comm.allreduce(std::move(call)));
  if (one.count > 0) std::memcpy(result, output, one.bytes());
  return {};
}

Status run_rank(const World& world, const std::vector<Case>& cases, CommunicatorConfig config,
                uint8_t* results) {
  CGX_ASSIGN_OR_RETURN(const std::unique_ptr<Communicator> comm, Communicator::create(std::move(config)));
  for (size_t i = 0; i < cases.size(); ++i) {
    Status status = run_case(world, cases[i], i, *comm, results + cases[i].offset);
    if (!status.ok()) return error(status.code(), "case {} ({}): {}", i, cases[i].words(), status.message());
  }
  return {};
}

void note(Results& results, int rank, const Status& status) {
  if (!status.ok()) std::strncpy(results.error(rank), status.message().c_str(), Results::kErrorBytes - 1);
}

void run_threads(const World& world, const std::vector<Case>& cases, Results& results) {
  const std::unique_ptr<Store> store = make_memory_store();
  const std::string job = fmt::format("random-{}-{}", ::getpid(), world.seed);
  std::vector<std::thread> threads;
  for (int rank = 0; rank < world.size; ++rank) {
    threads.emplace_back([&, rank] {
      note(results, rank, run_rank(world, cases, config_of(world, store.get(), job, rank), results.of(rank)));
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// REQUIRES: no other thread in this process.
void run_processes(const World& world, const std::vector<Case>& cases, Results& results) {
  char directory[] = "/tmp/cgx-random-XXXXXX";
  if (::mkdtemp(directory) == nullptr) std::abort();
  const std::string job = fmt::format("random-{}-{}", ::getpid(), world.seed);
  std::vector<pid_t> children;
  std::fflush(nullptr);  // else each child would print it again
  for (int rank = 0; rank < world.size; ++rank) {
    std::strcpy(results.error(rank), "it ended before it was done");
    const pid_t pid = ::fork();
    if (pid == 0) {
      Result<std::unique_ptr<Store>> store = make_file_store(directory);
      Status status = store.status();
      if (status.ok()) {
        status = run_rank(world, cases, config_of(world, store->get(), job, rank), results.of(rank));
      }
      results.error(rank)[0] = '\0';
      note(results, rank, status);
      ::_exit(0);
    }
    children.push_back(pid);
  }
  for (const pid_t pid : children) ::waitpid(pid, nullptr, 0);
  std::filesystem::remove_all(directory);
}

struct Tally {
  uint64_t collectives = 0, mismatches = 0, wrong = 0, failed = 0;
  std::map<std::string, uint64_t> by;  // transport, algorithm, ...
};

void compare(const World& world, const std::vector<Case>& cases, Results& results, Tally& tally) {
  for (size_t i = 0; i < cases.size(); ++i) {
    const Case& one = cases[i];
    ++tally.collectives;
    for (int rank = 1; rank < world.size; ++rank) {
      if (std::memcmp(results.of(0) + one.offset, results.of(rank) + one.offset, one.bytes()) == 0) continue;
      ++tally.mismatches;
      fmt::print("MISMATCH of ranks 0 and {}: {}, case {}: {}\n", rank, world.words(), i, one.words());
      break;
    }
    std::vector<std::vector<uint8_t>> inputs;
    for (int rank = 0; rank < world.size; ++rank) inputs.push_back(make_input(world, one, i, rank));
    if (const std::string words = judge(world, one, inputs, results.of(0) + one.offset); !words.empty()) {
      ++tally.wrong;
      fmt::print("WRONG: {}: {}, case {}: {}\n", words, world.words(), i, one.words());
    }
  }
}

void run_world(const World& world, uint64_t count, Tally& tally) {
  const std::vector<Case> cases = make_cases(world, count);
  Results results(world.size, cases.back().offset + cases.back().bytes());
  world.processes ? run_processes(world, cases, results) : run_threads(world, cases, results);
  bool failed = false;
  for (int rank = 0; rank < world.size; ++rank) {
    if (results.error(rank)[0] == '\0') continue;
    fmt::print("FAILED: {}, rank {}: {}\n", world.words(), rank, results.error(rank));
    failed = true;
  }
  tally.failed += failed ? 1 : 0;
  if (!failed) compare(world, cases, results, tally);
  tally.by[fmt::format("{} {}", world.transport, world.processes ? "processes" : "threads")] += count;
  tally.by[world.algorithm] += count;
}

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    const uint64_t number = std::strtoull(argv[i + 1], nullptr, 10);
    if (name == "--seed")
      options.seed = number;
    else if (name == "--count")
      options.count = number;
    else if (name == "--per-world")
      options.per_world = number;
    else if (name == "--seconds")
      options.seconds = static_cast<double>(number);
    else if (name == "--world")
      options.world = number;
    else if (name == "--transport")
      options.transports = {argv[i + 1]};
    else
      std::fprintf(stderr, "unknown option %s\n", argv[i]), std::exit(2);
  }
  return options;
}

int run_all(const Options& options) {
  const auto start = std::chrono::steady_clock::now();
  const auto seconds = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  Tally tally;
  if (options.world != 0) {
    run_world(make_world(options.world, options.transports), options.per_world, tally);
  } else {
    for (uint64_t k = 0; tally.collectives < options.count && seconds() < options.seconds; ++k) {
      const uint64_t left = options.count - tally.collectives;
      run_world(make_world(options.seed * 1000000 + k + 1, options.transports),
                std::min(left, options.per_world), tally);
      if (tally.failed > 10) break;
    }
  }
  fmt::print(
      "{} random collectives in {:.0f} s: {} mismatches between replicas, {} outside their bounds, {} worlds "
      "failed\n",
      tally.collectives, seconds(), tally.mismatches, tally.wrong, tally.failed);
  for (const auto& [what, count] : tally.by) fmt::print("  {:<20} {}\n", what, count);
  return tally.mismatches + tally.wrong + tally.failed == 0 ? 0 : 1;
}

}  // namespace
}  // namespace cgx::random

int main(int argc, char** argv) { return cgx::random::run_all(cgx::random::parse(argc, argv)); }
