// How a communicator comes to be: its settings checked, the ranks' meeting, the transport, the policy.
#include <unistd.h>

#include <algorithm>
#include <thread>

#include "base/hash.h"
#include "base/log.h"
#include "cgx/cgx.h"
#include "comm/agreement.h"
#include "comm/communicator.h"
#include "comm/policy_text.h"
#include "plan/levels.h"
#include "plan/select.h"
#include "transport/transport_list.h"

namespace cgx {
namespace {

Status check_transport_name(const std::string& name) {
  std::string names = "auto";
  for (const TransportEntry& entry : transports()) {
    if (name == entry.name) return Status();
    names += fmt::format(", {}", entry.name);
  }
  if (name == "auto") return Status();
  return error(Code::kInvalidArgument, "there is no transport \"{}\": it must be one of {}", name, names);
}

bool is_same_host(const char* transport) {
  const auto rows = transports();
  return std::any_of(rows.begin(), rows.end(), [&](const TransportEntry& row) {
    return std::string_view(row.name) == transport && row.same_host_only;
  });
}

int ranks_here(const Transport& transport) {
  const std::vector<int> hosts = transport.hosts();
  return static_cast<int>(
      std::count(hosts.begin(), hosts.end(), hosts[static_cast<size_t>(transport.rank())]));
}

// Helpers look out for work only where every rank's threads have a core each.
std::unique_ptr<Parallel> make_parallel(uint32_t threads, int ranks_here) {
  if (threads <= 1) return nullptr;
  const bool room = std::thread::hardware_concurrency() >= threads * static_cast<uint32_t>(ranks_here);
  return std::make_unique<Parallel>(threads, room);
}

// What plans have to know of where ranks stand and of what lies between them.
PlanCache::Config plans_over(const Transport& transport, bool crowded) {
  PlanCache::Config plans;
  plans.rank = transport.rank();
  plans.size = transport.size();
  plans.same_host = is_same_host(transport.name());
  plans.hosts = transport.hosts();
  plans.crowded = crowded;
  plans.links = transport.links();
  return plans;
}

bool is_crowded(const std::vector<Card>& cards) {
  std::vector<Processors> processors;
  for (const Card& card : cards) processors.push_back(card.processors);
  return crowding_of(processors) > 1;
}

}  // namespace

Status check_config(const CommunicatorConfig& c) {
  if (c.size < 1 || c.size > CommunicatorConfig::kMaxSize) {
    return error(Code::kInvalidArgument, "size must be 1 to {}, not {}", CommunicatorConfig::kMaxSize,
                 c.size);
  }
  if (c.rank < 0 || c.rank >= c.size) {
    return error(Code::kInvalidArgument, "rank must be 0 to {} among {} ranks, not {}", c.size - 1, c.size,
                 c.rank);
  }
  if (c.timeout_ms <= 0) {
    return error(Code::kInvalidArgument, "timeout_ms must be positive (0: the default), not {}",
                 c.timeout_ms);
  }
  if (c.job.empty()) return error(Code::kInvalidArgument, "the job's name is empty");
  CGX_RETURN_IF_ERROR(check_transport_name(c.transport));
  if (c.threads < 1 || c.threads > CommunicatorConfig::kMaxThreads) {
    return error(Code::kInvalidArgument, "threads must be 1 to {}, not {}", CommunicatorConfig::kMaxThreads,
                 c.threads);
  }
  CGX_RETURN_IF_ERROR(parse_inner_codec(c.inner_codec).status());
  return named_algorithm(c.algorithm).status();
}

Result<std::unique_ptr<Communicator>> Communicator::create(CommunicatorConfig config) {
  CGX_RETURN_IF_ERROR(check_config(config));
  Lineage first;
  first.job = config.job;
  first.store = config.store;
  const int64_t meet_ms = config.timeout_ms;
  CGX_ASSIGN_OR_RETURN(std::unique_ptr<Communicator> made,
                       open(std::move(config), std::move(first), meet_ms, nullptr));
  CGX_RETURN_IF_ERROR(made->begin());
  return made;
}

Result<std::unique_ptr<Communicator>> Communicator::open(CommunicatorConfig config, Lineage lineage,
                                                         int64_t meet_ms, const StopFlag& stop) {
  lineage.rank = config.rank;
  lineage.size = config.size;
  if (config.size > 1 && lineage.generation == 0) {
    CGX_ASSIGN_OR_RETURN(lineage.heir, config.store->make_heir());
  }
  set_log_rank(config.rank);
  log_version(fmt::format("cgx {}", cgx_version_string()));
  Observer::Settings seen;
  seen.rank = config.rank;
  seen.size = config.size;
  seen.job = config.job;
  CGX_ASSIGN_OR_RETURN(seen, Observer::from_environment(std::move(seen)));
  CGX_ASSIGN_OR_RETURN(const Algorithm* algorithm, named_algorithm(config.algorithm));
  lineage.secret = config.secret;
  if (!config.secret.empty()) {
    config.signed_store = make_signed_store(config.store, config.secret);
    config.store = config.signed_store.get();
  }
  CGX_ASSIGN_OR_RETURN(const CodecSpec inner, parse_inner_codec(config.inner_codec));
  const Card card{config.size,      CGX_VERSION,
                  config.transport, config.algorithm,
                  config.seed,      config.slice_bytes,
                  config.tune,      hash_of(config.policy),
                  lineage.members,  lineage.heir != nullptr ? lineage.heir->address() : "",
                  to_string(inner), own_processors()};
  CGX_ASSIGN_OR_RETURN(const std::vector<Card> cards,
                       agree(config.store, {config.rank, config.job, meet_ms}, card));
  if (lineage.generation == 0) {
    for (const Card& each : cards) lineage.heirs.push_back(each.heir);
  }
  TransportConfig transport_config;
  transport_config.rank = config.rank;
  transport_config.size = config.size;
  transport_config.store = config.store;
  transport_config.job = config.job;
  transport_config.timeout_ms = meet_ms;
  transport_config.stop = stop;
  transport_config.is_gone = lineage.is_gone;
  transport_config.interface_name = config.interface_name;
  transport_config.secret = config.secret;
  transport_config.host_id = config.host_id;
  CGX_ASSIGN_OR_RETURN(std::unique_ptr<Transport> transport,
                       open_transport(config.transport, transport_config));
  log(LogLevel::kInfo, Subsystem::kInit, "rank {} of {} joined job \"{}\" over {}", config.rank, config.size,
      config.job, transport->name());
  PlanCache::Config plans = plans_over(*transport, is_crowded(cards));
  plans.algorithm = algorithm;
  plans.slice_bytes = config.slice_bytes;
  plans.inner_codec = inner;
  std::unique_ptr<Communicator> made(
      new Communicator(std::move(config), std::move(plans), std::move(transport), std::move(lineage)));
  seen.transport = made->transport_name();
  made->observer_ = std::make_unique<Observer>(std::move(seen));
  return made;
}

Status Communicator::begin() {
  if (config_.policy.empty()) return config_.tune ? tune() : Status();
  CGX_ASSIGN_OR_RETURN(Profile profile,
                       read_policy(config_.policy, {config_.size, transport_->hosts(), transport_name()}));
  plans_.set_profile(std::move(profile), true);
  return Status();
}

Communicator::Communicator(CommunicatorConfig config, PlanCache::Config plans,
                           std::unique_ptr<Transport> transport, Lineage lineage)
    : config_(std::move(config)),
      transport_(std::move(transport)),
      plans_(std::move(plans)),
      parallel_(make_parallel(config_.threads, ranks_here(*transport_))),
      seed_(config_.seed),
      lineage_(std::move(lineage)),
      pid_(::getpid()),
      worker_(std::make_unique<Worker>()) {
  lineage_.is_gone = [this](int rank) { return transport_->gone(rank); };
}

}  // namespace cgx
