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

// While one runs, abort() ends it: by a flag that waits look at, and by the new communicator once there is
// one.
class Communicator::Shrinking {
 public:
  explicit Shrinking(Communicator* self) : self_(self) {
    const std::lock_guard lock(self_->mutex_);
    *self_->stop_shrink_ = false;
    self_->shrinking_ = true;
  }
  ~Shrinking() {
    const std::lock_guard lock(self_->mutex_);
    self_->shrinking_ = false;
    self_->successor_ = nullptr;
  }
  Shrinking(const Shrinking&) = delete;
  Shrinking& operator=(const Shrinking&) = delete;

 private:
  Communicator* self_;
};

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
  const Shrinking shrinking(this);
  if (!worker_->wait_idle(timeout_ms)) {
    return error(Code::kTimeout, "work of the failed communicator has not ended within {} ms", timeout_ms);
  }
  Result<Shrunk> shrunk = agree_and_go_on(timeout_ms);
  was_shrunk_ = shrunk.ok();
  if (was_shrunk_) lineage_.is_gone = nullptr;  // and with it the attempts that failed
  if (shrunk.ok() || !*stop_shrink_) return shrunk;
  survivor_store_.drop_connection();
  const std::lock_guard lock(mutex_);
  return error(Code::kAborted, "rank {} aborted the shrink of its communicator: {} ({})", config_.rank,
               why_stopped_, shrunk.status().message());
}

Result<Shrunk> Communicator::agree_and_go_on(int64_t timeout_ms) {
  for (int stores_lost = 0;;) {
    CGX_ASSIGN_OR_RETURN(Store * found, survivor_store_.find(lineage_, timeout_ms, stop_shrink_));
    const std::unique_ptr<Store> proven =
        config_.secret.empty() ? nullptr : make_signed_store(found, config_.secret);
    Store* const store = proven != nullptr ? proven.get() : found;
    Result<Survivors> agreed = agree_on_survivors(store, lineage_, operation_ + 1, timeout_ms, stop_shrink_);
    if (!agreed.ok()) {
      // The rank that serves the store may have died just now: then its heir serves from here on.
      const bool lost = agreed.status().code() == Code::kPeerFailed &&
                        found->try_get(lineage_.job).status().code() == Code::kPeerFailed;
      if (!lost || ++stores_lost >= lineage_.size) return agreed.status();
      continue;
    }
    const Survivors survivors = std::move(agreed).value();
    const Lineage next = next_generation(survivors);
    const int left = static_cast<int>(survivors.ranks.size());
    const bool fewer = left < lineage_.size;
    // Should this attempt fail, the next one begins there, now or with the caller's next call.
    lineage_ = next;
    Result<Shrunk> shrunk = go_on(next, found, survivors.operation, timeout_ms);
    if (shrunk.ok()) return shrunk;
    log(LogLevel::kInfo, Subsystem::kInit, "rank {} of job \"{}\": shrinking failed: {}", config_.rank,
        config_.job, shrunk.status().message());
    if (*stop_shrink_) {
      publish_failure(store, lineage_.job_name(), lineage_.rank,
                      error(Code::kAborted, "it aborted the shrink"));
      return shrunk;
    }
    const Code code = shrunk.status().code();
    if (!fewer || (code != Code::kPeerFailed && code != Code::kTimeout)) return shrunk;
  }
}

Lineage Communicator::next_generation(const Survivors& survivors) {
  Lineage next;
  next.job = lineage_.job;
  next.generation = lineage_.generation + 1;
  next.store = lineage_.store;
  next.secret = lineage_.secret;
  next.heir = lineage_.heir;
  next.size = static_cast<int>(survivors.ranks.size());
  next.members = survivors.words();
  next.decision = survivors.text();
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
  auto watched = std::make_unique<WatchedStore>(found, others, next.is_gone, stop_shrink_);
  config.store = watched.get();
  next.store = found;
  CGX_ASSIGN_OR_RETURN(std::unique_ptr<Communicator> made,
                       open(std::move(config), std::move(next), timeout_ms, stop_shrink_));
  {
    const std::lock_guard lock(mutex_);
    if (*stop_shrink_) return error(Code::kAborted, "given up when all were connected");
    successor_ = made.get();
  }
  Status begun = made->begin();
  made->operation_ = operation;
  if (begun.ok()) begun = made->greet("going on with the survivors", timeout_ms);
  {
    const std::lock_guard lock(mutex_);
    successor_ = nullptr;
    if (*stop_shrink_ && begun.ok()) begun = error(Code::kAborted, "given up at the end");
  }
  if (!begun.ok()) {
    keep_failed({std::move(watched), std::move(made)});
    return begun;
  }
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

// Ranks that are through already would take the end of its connections for this rank's, and go on without it;
// and those ranks may have ended the connections that came before. So it stays, and is asked, until all have
// met again.
void Communicator::keep_failed(FailedAttempt attempt) {
  if (*stop_shrink_) return;
  lineage_.is_gone = [failed = std::make_shared<FailedAttempt>(std::move(attempt)),
                      before = std::move(lineage_.is_gone)](int rank) {
    return failed->communicator->transport_->gone(rank) && before(rank);
  };
}

Status Communicator::greet(const std::string& words, int64_t timeout_ms) {
  Hello hello;
  hello.version = CGX_VERSION;
  hello.operation = operation_;
  hello.fingerprint = kShrinkGreeting;
  hello.set_text(words);
  HelloTransport transport(transport_.get());
  Status status = transport.begin(hello, timeout_ms);
  if (status.ok()) status = transport.verify();
  return status.ok() ? status : fail(std::move(status));
}

}  // namespace cgx
