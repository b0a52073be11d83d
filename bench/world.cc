// See world.h.
#include "world.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <utility>

#include "allreduce.h"
#include "contender.h"
#include "launcher.h"
#include "rank.h"

namespace cgx::bench {
namespace {

StorePtr open_store(const std::string& address, const Options& options, std::string* own) {
  cgx_store* store = nullptr;
  if (address.starts_with("file:")) {
    const std::string directory = address.substr(5);
    if (variable("CGX_STORE").empty()) *own = directory;
    require_ok(cgx_store_create_file(directory.c_str(), &store), address);
  } else {
    const size_t colon = address.rfind(':');
    if (!address.starts_with("tcp:") || colon == 3) {
      throw UsageError(fmt::format("CGX_STORE={}: expected file:DIRECTORY or tcp:HOST:PORT", address));
    }
    const std::string host = address.substr(4, colon - 4);
    const int port = std::atoi(address.c_str() + colon + 1);
    require_ok(cgx_store_create_tcp(host.c_str(), port, options.rank, options.timeout_ms, &store), address);
  }
  return StorePtr(store);
}

}  // namespace

World::World(const Options& options)
    : rank_(options.rank), ranks_(options.ranks), store_(open_store(store_address(), options, &own_store_)) {
  cgx_config config = CGX_CONFIG_INIT;
  config.rank = rank_;
  config.size = ranks_;
  config.store = store_.get();
  config.job = "bench-control";
  config.timeout_ms = options.timeout_ms;
  cgx_comm* comm = nullptr;
  require_ok(cgx_comm_create(&config, &comm), "meeting the other ranks");
  comm_.reset(comm);
  make_directory(options);
}

// Ranks on one host, or on hosts that share --meeting-directory, get a directory; others do without.
void World::make_directory(const Options& options) {
  std::string made;
  if (rank_ == 0) {
    const std::filesystem::path base = options.meeting_directory.empty()
                                           ? std::filesystem::temp_directory_path()
                                           : std::filesystem::path(options.meeting_directory);
    made = (base / "cgx-bench-XXXXXX").string();
    if (mkdtemp(made.data()) == nullptr) made.clear();
  }
  made = gather(made)[0];
  const std::vector<std::string> seen = gather(!made.empty() && std::filesystem::exists(made) ? "yes" : "no");
  if (std::count(seen.begin(), seen.end(), "yes") == ranks_) {
    directory_ = made;
  } else if (rank_ == 0 && !made.empty()) {
    std::filesystem::remove_all(made);
  }
}

World::~World() {
  comm_.reset();
  store_.reset();
  std::error_code ignored;
  if (rank_ == 0 && !directory_.empty()) std::filesystem::remove_all(directory_, ignored);
  if (rank_ == 0 && !own_store_.empty()) std::filesystem::remove_all(own_store_, ignored);
}

void World::sum(void* values, uint64_t count, cgx_dtype dtype) {
  cgx_allreduce_args args = CGX_ALLREDUCE_ARGS_INIT;
  args.input = values;
  args.output = values;
  args.count = count;
  args.dtype = dtype;
  args.timeout_ms = 600000;  // others may take long over a check of theirs
  require_ok(cgx_allreduce(comm_.get(), &args), "keeping ranks in step");
}

void World::wait_spinning() {
  int32_t nothing = 0;
  sum(&nothing, 1, CGX_INT32);
}

std::vector<std::string> World::gather(const std::string& text) {
  std::vector<int64_t> sizes(static_cast<size_t>(ranks_));
  sizes[static_cast<size_t>(rank_)] = static_cast<int64_t>(text.size());
  sum(sizes.data(), sizes.size(), CGX_INT64);
  uint64_t total = 0, mine = 0;
  for (size_t r = 0; r < sizes.size(); ++r) {
    if (r == static_cast<size_t>(rank_)) mine = total;
    total += static_cast<uint64_t>(sizes[r]);
  }
  std::vector<uint8_t> bytes(total);
  std::memcpy(bytes.data() + mine, text.data(), text.size());
  if (total != 0) sum(bytes.data(), total, CGX_UINT8);
  std::vector<std::string> out;
  uint64_t at = 0;
  for (const int64_t size : sizes) {
    out.emplace_back(reinterpret_cast<const char*>(bytes.data()) + at, static_cast<size_t>(size));
    at += static_cast<uint64_t>(size);
  }
  return out;
}

bool World::on_one_host() {
  char name[256] = {};
  gethostname(name, sizeof name - 1);
  const std::vector<std::string> hosts = gather(name + variable("CGX_HOST_ID"));
  return std::count(hosts.begin(), hosts.end(), hosts[0]) == ranks_;
}

int run_world(const Options& given) {
  World world(given);
  Options options = given;
  options.meeting_directory = world.directory();
  if (options.interface_name.empty() && world.on_one_host()) options.interface_name = "lo";
  const nlohmann::json skipped = skip_missing(options, &world);
  RankRun run(options, world);
  std::unique_ptr<AllreduceReport> report;
  if (options.rank == 0) report = std::make_unique<AllreduceReport>(options, skipped);
  const std::vector<std::string> described = world.gather(run.ready().dump());
  if (report != nullptr) report->begin(described);
  for (const uint64_t bytes : sizes(options)) {
    const std::vector<std::string> lines = world.gather(run.measure(bytes).dump());
    if (report != nullptr) report->add(bytes, lines);
  }
  return report != nullptr ? report->end() : 0;
}

}  // namespace cgx::bench
