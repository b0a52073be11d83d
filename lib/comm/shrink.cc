// See shrink.h.
#include "comm/shrink.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <optional>
#include <thread>

#include "base/deadline.h"
#include "base/log.h"
#include "transport/rendezvous.h"

namespace cgx {
namespace {

constexpr int64_t kMaxPauseMs = 20;
constexpr int64_t kTurnMs = 20;  // how often a wait looks who has died
// At the end of the time the lowest rank decides, and each other one only where those before it have not.
constexpr int64_t kPrecedenceMs = 200;

std::string here_key(const Lineage& l, int rank) {
  return fmt::format("{}/shrink/{}/here/{}", l.job, l.generation, rank);
}
std::string members_key(const Lineage& l, int generation) {
  return fmt::format("{}/shrink/{}/members", l.job, generation);
}

template <typename T>
bool read_number(const char** at, const char* end, T* value) {
  const auto [next, fault] = std::from_chars(*at, end, *value);
  *at = next;
  return fault == std::errc();
}

// "OPERATION:0,2,3"
std::optional<Survivors> parse(const std::string& text, int size) {
  const char* at = text.data();
  const char* end = at + text.size();
  Survivors survivors;
  if (!read_number(&at, end, &survivors.operation) || at == end || *at != ':') return std::nullopt;
  do {
    int rank = 0;
    ++at;
    if (!read_number(&at, end, &rank) || rank < 0 || rank >= size) return std::nullopt;
    if (!survivors.ranks.empty() && survivors.ranks.back() >= rank) return std::nullopt;
    survivors.ranks.push_back(rank);
  } while (at != end && *at == ',');
  if (at != end) return std::nullopt;
  return survivors;
}

// One generation's agreement, as one rank sees it.
class Agreeing {
 public:
  Agreeing(Store* store, const Lineage& lineage, const StopFlag& stop)
      : store_(store),
        lineage_(lineage),
        stop_(stop),
        key_(members_key(lineage, lineage.generation)),
        here_(static_cast<size_t>(lineage.size)),
        gone_(static_cast<size_t>(lineage.size)) {}

  Result<Survivors> run(uint64_t operation, int64_t timeout_ms) {
    CGX_RETURN_IF_ERROR(bring_decision());
    CGX_RETURN_IF_ERROR(come(operation));
    const Deadline deadline(timeout_ms);
    const Deadline own_turn(timeout_ms + lineage_.rank * kPrecedenceMs);
    for (int64_t pause_ms = 1;; pause_ms = std::min(2 * pause_ms, kMaxPauseMs)) {
      if (is_set(stop_)) return error(Code::kAborted, "given up while the survivors agree");
      CGX_ASSIGN_OR_RETURN(const std::optional<std::string> decided, look(key_));
      if (decided) return read(*decided);
      CGX_RETURN_IF_ERROR(look_around());
      if ((complete() && first() == lineage_.rank) || own_turn.over() ||
          (deadline.over() && first() == lineage_.rank)) {
        return decide();
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(pause_ms));
    }
  }

 private:
  // Of the generation before, for ranks that have not read it where it was made.
  Status bring_decision() {
    if (lineage_.generation == 0) return Status();
    const std::string key = members_key(lineage_, lineage_.generation - 1);
    CGX_ASSIGN_OR_RETURN(std::optional<std::string> there, look(key));
    if (!there) {
      const Status set = store_->set(key, lineage_.decision);
      CGX_ASSIGN_OR_RETURN(there, look(key));  // another rank may have been faster
      if (!there) return set.ok() ? error(Code::kInternal, "the store has lost \"{}\"", key) : set;
    }
    if (*there == lineage_.decision) return Status();
    return error(Code::kPeerFailed,
                 "other survivors went on without rank {}, after a decision \"{:.80}\" where it goes by "
                 "\"{:.80}\": the store in which that was made has died, and it came too late to the next",
                 lineage_.rank, *there, lineage_.decision);
  }

  Status come(uint64_t operation) {
    here_[static_cast<size_t>(lineage_.rank)] = operation;
    const std::string key = here_key(lineage_, lineage_.rank);
    Status set = store_->set(key, std::to_string(operation));
    if (set.ok() || store_->try_get(key).ok()) return Status();  // it was here before, and failed then
    return set;
  }

  // Nothing where the key is not set yet.
  Result<std::optional<std::string>> look(const std::string& key) {
    Result<std::string> value = store_->try_get(key);
    if (value.ok()) return std::optional<std::string>(std::move(value).value());
    if (value.status().code() == Code::kTimeout) return std::optional<std::string>();
    return value.status();
  }

  Status look_around() {
    for (int r = 0; r < lineage_.size; ++r) {
      const auto i = static_cast<size_t>(r);
      if (r == lineage_.rank) continue;
      if (!gone_[i] && lineage_.is_gone && lineage_.is_gone(r)) gone_[i] = true;
      if (here_[i] || gone_[i]) continue;
      CGX_ASSIGN_OR_RETURN(const std::optional<std::string> word, look(here_key(lineage_, r)));
      if (!word) continue;
      uint64_t operation = 0;
      const char* at = word->data();
      if (!read_number(&at, at + word->size(), &operation)) {
        return error(Code::kMismatch, "rank {} left \"{:.40}\" where it should say how far it came", r,
                     *word);
      }
      here_[i] = operation;
    }
    return Status();
  }

  bool is_left(int rank) const {
    return here_[static_cast<size_t>(rank)] && !gone_[static_cast<size_t>(rank)];
  }
  bool complete() const {
    for (int r = 0; r < lineage_.size; ++r) {
      if (!here_[static_cast<size_t>(r)] && !gone_[static_cast<size_t>(r)]) return false;
    }
    return true;
  }
  int first() const {
    int r = 0;
    while (!is_left(r)) ++r;  // this rank is
    return r;
  }

  Result<Survivors> decide() {
    Survivors survivors;
    for (int r = 0; r < lineage_.size; ++r) {
      if (!is_left(r)) continue;
      survivors.ranks.push_back(r);
      survivors.operation = std::max(survivors.operation, *here_[static_cast<size_t>(r)]);
    }
    const Status set = store_->set(key_, survivors.text());
    // Another rank may have been faster. Also where a store takes a key twice the last value counts.
    Result<std::string> decided = store_->try_get(key_);
    if (!decided.ok()) return set.ok() ? decided.status() : set;
    return read(*decided);
  }

  Result<Survivors> read(const std::string& text) const {
    std::optional<Survivors> survivors = parse(text, lineage_.size);
    if (!survivors) return error(Code::kMismatch, "\"{:.80}\" is no list of survivors", text);
    if (std::find(survivors->ranks.begin(), survivors->ranks.end(), lineage_.rank) !=
        survivors->ranks.end()) {
      return *survivors;
    }
    return error(
        Code::kPeerFailed,
        "the survivors went on without rank {}, which came too late or seemed dead: they are {} of {}",
        lineage_.rank, name_ranks(survivors->ranks), lineage_.size);
  }

  Store* store_;
  const Lineage& lineage_;
  const StopFlag& stop_;
  const std::string key_;                      // of this generation's decision
  std::vector<std::optional<uint64_t>> here_;  // how far each that came has come
  std::vector<bool> gone_;
};

// The store of the lowest rank that lives.
Result<std::unique_ptr<Store>> find_successor(const Lineage& lineage, int64_t timeout_ms,
                                              const StopFlag& stop) {
  const Deadline deadline(timeout_ms, stop);
  for (int r = 0; r < lineage.rank; ++r) {
    const std::string& address = lineage.heirs[static_cast<size_t>(r)];
    Result<std::unique_ptr<Store>> store =
        connect_to_heir(address, std::max<int64_t>(1, deadline.left_ms()), lineage.secret, stop);
    if (store.ok()) return store;
    if (store.status().code() == Code::kPeerFailed) continue;
    return error(Code::kTimeout,
                 "the store died with the rank that served it, and rank {}, which would serve the next one, "
                 "is not known "
                 "to be dead but does not answer: {}",
                 r, store.status().message());
  }
  log(LogLevel::kInfo, Subsystem::kInit, "rank {} of job \"{}\" serves a new store", lineage.rank,
      lineage.job);
  return lineage.heir->serve();
}

}  // namespace

std::string Lineage::job_name() const {
  return generation == 0 ? job : fmt::format("{}~{}", job, generation);
}

std::string Survivors::words() const { return fmt::format("{}", fmt::join(ranks, ",")); }

std::string Survivors::text() const { return fmt::format("{}:{}", operation, words()); }

Result<Store*> SurvivorStore::find(const Lineage& lineage, int64_t timeout_ms, const StopFlag& stop) {
  if (lineage.heir == nullptr) return lineage.store;
  const std::string card = fmt::format("{}/card/{}", lineage.job_name(), lineage.rank);
  if (made_ != nullptr) {  // by an earlier round of this shrink
    const Code code = made_->try_get(card).status().code();
    if (made_->serves() || code == Code::kOk || code == Code::kTimeout) return made_.get();
    dead_.push_back(std::move(made_));
  } else {
    Result<std::unique_ptr<Store>> again = lineage.store->reconnect(timeout_ms, stop);
    // What answers at a dead server's address may be another job's: it must know this one.
    if (again.ok() && (*again)->try_get(card).ok()) {
      made_ = std::move(again).value();
      return made_.get();
    }
    if (!again.ok() && again.status().code() != Code::kPeerFailed) {
      return error(
          Code::kTimeout,
          "the rank that serves the store cannot be reached and is not known to be dead ({}): survivors on "
          "both "
          "sides of a parted network would go on as two jobs. A store outside of the ranks (a file store, "
          "torchrun's) decides such cases",
          again.status().message());
    }
  }
  CGX_ASSIGN_OR_RETURN(made_, find_successor(lineage, timeout_ms, stop));
  return made_.get();
}

Result<Survivors> agree_on_survivors(Store* store, const Lineage& lineage, uint64_t operation,
                                     int64_t timeout_ms, const StopFlag& stop) {
  return Agreeing(store, lineage, stop).run(operation, timeout_ms);
}

Result<std::string> WatchedStore::get(const std::string& key, int64_t timeout_ms) {
  const Deadline deadline(timeout_ms);
  for (;;) {
    const int64_t left_ms = deadline.left_ms();
    const bool watched = is_gone_ || stop_ != nullptr;
    Result<std::string> value = inner_->get(key, std::min(left_ms, watched ? kTurnMs : left_ms));
    if (value.ok() || value.status().code() != Code::kTimeout || left_ms == 0) return value;
    if (is_set(stop_)) return error(Code::kAborted, "given up while the survivors met");
    for (const int r : members_) {
      if (is_gone_ && is_gone_(r)) return error(Code::kPeerFailed, "rank {} died while the survivors met", r);
    }
  }
}

}  // namespace cgx
