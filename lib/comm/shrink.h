// Going on with the survivors. Each leaves word in a store that it came; when all have who are not known to
// be dead, or the time is up, one of them writes down who is left, once, and all read that. Who is not in it
// gets an error.
//
// A store that rank 0 serves may have died with it. Then the lowest rank that lives serves a new one, at an
// address that all know from their first meeting and that stays its own through all generations. Only a
// refused connection proves a death: where a rank before one's own cannot be reached at all, there is no new
// store, as two halves of a network would go on as two jobs.
//
// A rank may die just when some have heard all that they need of it and others have not: the ones are
// through, the others agree again, one generation on. So that the two do not part:
// - who is through may end the communicator that it left, but keeps the new one; who is not keeps the
//   attempt that failed. A rank is dead only where its connections of every attempt have ended.
// - who comes to a store brings the decision that it goes by: some rank may not have read it yet, and the
//   store in which it was written may be dead.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "transport/store.h"

namespace cgx {

// What the survivors' first hello of a generation is about.
inline constexpr uint64_t kShrinkGreeting = 0x6772656574;

// How a communicator came to be, and what it needs to be shrunk. Ranks are those of this generation.
struct Lineage {
  std::string job;     // of the first communicator
  int generation = 0;  // shrinks since then
  int rank = 0;
  int size = 1;
  Store* store = nullptr;            // where they met
  std::string secret;                // "": none
  std::string members;               // the ranks that they had in the generation before, "0,2,3"; "" at first
  std::string decision;              // as it was written down: Survivors::text()
  std::shared_ptr<StoreHeir> heir;   // of all generations; null where the store outlives the ranks
  std::vector<std::string> heirs;    // by rank
  std::function<bool(int)> is_gone;  // that a rank has ended or left; false: not known

  // "job", "job~1", ...
  std::string job_name() const;
};

struct Survivors {
  std::vector<int> ranks;  // in order; this rank is one of them
  uint64_t operation = 0;  // the most collectives that any of them has begun

  std::string words() const;  // "0,2,3"
  std::string text() const;   // "OPERATION:0,2,3"
};

// Where survivors agree: the store in which the ranks met or, where a rank served that, another connection to
// it or its successor. Made anew where it has died since.
class SurvivorStore {
 public:
  Result<Store*> find(const Lineage& lineage, int64_t timeout_ms, const StopFlag& stop);
  // After a wait that was given up: the answer to an old question may still come on a connection.
  void drop_connection() {
    if (made_ != nullptr && !made_->serves()) dead_.push_back(std::move(made_));
  }
  // Null where nothing was made.
  std::unique_ptr<Store> take() { return std::move(made_); }

 private:
  std::unique_ptr<Store> made_;
  std::vector<std::unique_ptr<Store>> dead_;  // attempts that failed may still speak to them
};

// Collective over the survivors. kPeerFailed: they decided without this rank. kAborted: `stop` was set.
Result<Survivors> agree_on_survivors(Store* store, const Lineage& lineage, uint64_t operation,
                                     int64_t timeout_ms, const StopFlag& stop);

// `inner`, whose waits end with kPeerFailed once one of `members` has ended, and with kAborted once `stop` is
// set: both until stop_watching(). A death while the survivors connect is so found at once.
class WatchedStore final : public Store {
 public:
  WatchedStore(Store* inner, std::vector<int> members, std::function<bool(int)> is_gone, StopFlag stop)
      : inner_(inner), members_(std::move(members)), is_gone_(std::move(is_gone)), stop_(std::move(stop)) {}

  void stop_watching() {
    is_gone_ = nullptr;
    stop_ = nullptr;
  }

  Status set(const std::string& key, const std::string& value) override { return inner_->set(key, value); }
  Result<std::string> get(const std::string& key, int64_t timeout_ms) override;
  Result<std::unique_ptr<Store>> reconnect(int64_t timeout_ms, const StopFlag& stop) override {
    return inner_->reconnect(timeout_ms, stop);
  }

 private:
  Store* inner_;
  std::vector<int> members_;
  std::function<bool(int)> is_gone_;
  StopFlag stop_;
};

}  // namespace cgx
