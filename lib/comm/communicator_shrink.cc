// Communicator::shrink(): agree on who is left, make a communicator of those, hand the residuals on. Where
// one of them dies meanwhile, the others are told by their connections and agree again, one generation on:
// those that were through already find the same out in their next collective, and meet the others there.
#include <algorithm>

#include "base/deadline.h"
#include "base/log.h"
#include "cgx/cgx.h"
#include "comm/communicator.h"
#include "transport/rendezvous.h"

namespace cgx {

Result<Shrunk> Communicator::shrink(int64_t timeout_ms) {
  if (timeout_ms <= 0) timeout_ms = config_.timeout_ms;
  CGX_RETURN_IF_ERROR(require_own_process());
  if (worker_->here()) {
    return error(Code::kInvalidArgument, "a completion callback cannot shrink its own communicator");
  }
  if (was_shrunk_) {
    return error(Code::kInvalidArgument,
                 "this communicator was shrunk already: shrink the one that came of it");
  }
  if (failure().ok()) abort("goes on with the survivors (shrink)");
  if (!worker_->wait_idle(timeout_ms)) {
    return error(Code::kTimeout, "work of the failed communicator has not ended within {} ms", timeout_ms);
  }
  for (;;) {
    CGX_ASSIGN_OR_RETURN(Store * found, survivor_store_.find(lineage_, timeout_ms));
    const std::unique_ptr<Store> proven =
        config_.secret.empty() ? nullptr : make_signed_store(found, config_.secret);
    CGX_ASSIGN_OR_RETURN(
        const Survivors survivors,
        agree_on_survivors(proven != nullptr ? proven.get() : found, lineage_, operation_ + 1, timeout_ms));
    Lineage next = next_generation(survivors);
    const int left = static_cast<int>(survivors.ranks.size());
    const bool fewer = left < lineage_.size;
    // Should this attempt fail, the next one begins there, now or with the caller's next call.
    Lineage again = next_generation(survivors);
    again.heir = std::move(lineage_.heir);
    lineage_ = std::move(again);
    Result<Shrunk> shrunk = go_on(std::move(next), found, survivors.operation, timeout_ms);
    if (shrunk.ok()) {
      was_shrunk_ = true;
      return shrunk;
    }
    log(LogLevel::kInfo, Subsystem::kInit, "rank {} of job \"{}\": shrinking failed: {}", config_.rank,
        config_.job, shrunk.status().message());
    const Code code = shrunk.status().code();
    if (!fewer || (code != Code::kPeerFailed && code != Code::kTimeout)) return shrunk.status();
  }
}

Lineage Communicator::next_generation(const Survivors& survivors) {
  Lineage next;
  next.job = lineage_.job;
  next.generation = lineage_.generation + 1;
  next.store = lineage_.store;
  next.secret = lineage_.secret;
  next.size = static_cast<int>(survivors.ranks.size());
  next.members = survivors.words();
  for (int i = 0; i < next.size; ++i) {
    const int before = survivors.ranks[static_cast<size_t>(i)];
    if (before == lineage_.rank) next.rank = i;
    next.heirs.push_back(lineage_.heirs[static_cast<size_t>(before)]);
  }
  next.is_gone = [ranks = survivors.ranks, is_gone = lineage_.is_gone](int rank) {
    return is_gone(ranks[static_cast<size_t>(rank)]);
  };
  return next;
}

Result<Shrunk> Communicator::go_on(Lineage next, Store* found, uint64_t operation, int64_t timeout_ms) {
  CommunicatorConfig config = config_;
  config.rank = next.rank;
  config.size = next.size;
  config.job = next.job_name();
  config.seed = seed_;
  // What more ranks measured does not hold any longer.
  config.tune = config.tune || !config.policy.empty();
  config.policy.clear();
  std::vector<int> others;
  for (int r = 0; r < next.size; ++r) {
    if (r != next.rank) others.push_back(r);
  }
  auto watched = std::make_unique<WatchedStore>(found, others, next.is_gone);
  config.store = watched.get();
  next.store = found;
  CGX_ASSIGN_OR_RETURN(std::unique_ptr<Communicator> made,
                       create(std::move(config), std::move(next), timeout_ms));
  made->operation_ = operation;
  CGX_RETURN_IF_ERROR(made->greet("going on with the survivors", timeout_ms));
  watched->stop_watching();
  made->feedback_ = std::move(feedback_);
  made->feedback_.fold();
  Shrunk shrunk;
  shrunk.store = found;
  shrunk.stores.push_back(std::move(watched));
  if (std::unique_ptr<Store> of_ours = survivor_store_.take()) shrunk.stores.push_back(std::move(of_ours));
  shrunk.communicator = std::move(made);
  return shrunk;
}

Status Communicator::greet(const std::string& words, int64_t timeout_ms) {
  constexpr uint64_t kGreeting = 0x6772656574;
  Hello hello;
  hello.version = CGX_VERSION;
  hello.operation = operation_;
  hello.fingerprint = kGreeting;
  hello.set_text(words);
  HelloTransport transport(transport_.get());
  Status status = transport.begin(hello, timeout_ms);
  if (status.ok()) status = transport.verify();
  return status.ok() ? status : fail(std::move(status));
}

}  // namespace cgx
