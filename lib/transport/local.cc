// All ranks of a job share one hub: one lock, one condition variable a rank, one queue a pair. The hub
// is made by rank 0 once every rank has shown up in the store, and is freed by the last that leaves.
#include "transport/local.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "transport/buffer_pool.h"
#include "transport/rendezvous.h"

namespace cgx {
namespace {

using Clock = std::chrono::steady_clock;

struct LocalMessage {
  uint8_t* memory;
  size_t bytes;
  bool held;                   // by its sender
  std::vector<int> receivers;  // that have not released it
};

struct LocalRank {
  explicit LocalRank(int size) : buffers(static_cast<size_t>(16 * size)), inbox(static_cast<size_t>(size)) {}
  BufferPool buffers;
  std::vector<LocalMessage> messages;  // sent or acquired by this rank, not yet free
  struct Arrival {
    const uint8_t* memory;
    size_t bytes;
  };
  std::vector<std::deque<Arrival>> inbox;  // by sender
  std::condition_variable changed;         // something that this rank may wait for
  Status failure;
  Code told = Code::kPeerFailed;  // what the failure is to the others
  bool relayed = false;           // another rank reported it first
  bool joined = false;
  bool closed = false;
};

struct LocalHub {
  explicit LocalHub(int size) : references(size) {
    for (int i = 0; i < size; ++i) ranks.push_back(std::make_unique<LocalRank>(size));
  }
  void notify_all() {
    for (auto& rank : ranks) rank->changed.notify_all();
  }
  std::mutex mutex;
  std::vector<std::unique_ptr<LocalRank>> ranks;
  uint64_t progress = 0;  // sends and releases of all ranks
  int references;
};

// The hubs of this process, by a number that can be told through a store.
class Hubs {
 public:
  static Hubs& instance() {
    static Hubs hubs;
    return hubs;
  }
  uint64_t add(LocalHub* hub) {
    const std::lock_guard lock(mutex_);
    hubs_.emplace(++last_, hub);
    return last_;
  }
  // Null if there is none.
  LocalHub* find(uint64_t number) {
    const std::lock_guard lock(mutex_);
    const auto found = hubs_.find(number);
    return found == hubs_.end() ? nullptr : found->second;
  }
  void remove(const LocalHub* hub) {
    const std::lock_guard lock(mutex_);
    std::erase_if(hubs_, [&](const auto& entry) { return entry.second == hub; });
  }

 private:
  std::mutex mutex_;
  std::map<uint64_t, LocalHub*> hubs_;
  uint64_t last_ = 0;
};

class LocalTransport final : public Transport {
 public:
  LocalTransport(LocalHub* hub, int rank)
      : hub_(hub), rank_(rank), posted_(hub->ranks.size()), self_(*hub->ranks[static_cast<size_t>(rank)]) {}
  ~LocalTransport() override;

  const char* name() const override { return "local"; }
  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(hub_->ranks.size()); }

  Status join(int64_t timeout_ms);
  Result<uint8_t*> acquire(size_t bytes, const Wait& wait) override;
  Status send(uint8_t* message, size_t bytes, std::span<const int> peers) override;
  Status post(int peer, size_t bytes) override;
  Result<const uint8_t*> receive(int peer, size_t bytes, const Wait& wait) override;
  void release(const uint8_t* message) override;
  Status flush(const Wait&) override {
    const std::lock_guard lock(hub_->mutex);
    return self_.failure;
  }
  void abort(const Status& reason) override;
  TransportStats stats() const override { return stats_; }
  bool gone(int peer) const override {
    const std::lock_guard lock(hub_->mutex);
    return is_peer(peer) && at(peer).closed;
  }

 private:
  using Lock = std::unique_lock<std::mutex>;
  struct Held {
    const uint8_t* memory;
    int sender;
  };

  LocalRank& at(int rank) const { return *hub_->ranks[static_cast<size_t>(rank)]; }
  bool is_peer(int peer) const { return peer >= 0 && peer < size() && peer != rank_; }
  Status fail(Status status);
  Status reported_failure();
  template <typename Ready, typename Describe>
  Status wait_until(Lock& lock, int64_t timeout_ms, int peer, Ready ready, Describe describe);
  void drop_receiver(LocalRank& sender, const uint8_t* message);
  void drop_if_free(LocalRank& owner, size_t index);

  LocalHub* hub_;
  int rank_;
  std::vector<std::deque<size_t>> posted_;
  std::vector<Held> held_;
  LocalRank& self_;
  TransportStats stats_;
};

// The hub lives on: peers may still read this rank's messages.
LocalTransport::~LocalTransport() {
  bool last = false;
  {
    const std::lock_guard lock(hub_->mutex);
    for (const Held& held : held_) drop_receiver(at(held.sender), held.memory);
    for (int peer = 0; peer < size(); ++peer) {
      for (const auto& arrival : self_.inbox[static_cast<size_t>(peer)])
        drop_receiver(at(peer), arrival.memory);
    }
    self_.closed = true;
    hub_->notify_all();
    last = --hub_->references == 0;
  }
  if (!last) return;
  Hubs::instance().remove(hub_);
  delete hub_;
}

// With the lock held: this rank is failed from now on, and the others hear of it.
Status LocalTransport::fail(Status status) {
  if (self_.failure.ok()) {
    self_.failure = std::move(status);
    ++hub_->progress;
    hub_->notify_all();
  }
  return self_.failure;
}

Status LocalTransport::reported_failure() {
  for (int peer = 0; peer < size(); ++peer) {
    const LocalRank& other = at(peer);
    if (peer == rank_ || other.failure.ok() || other.relayed) continue;
    self_.relayed = true;
    return error(other.told, "rank {} reported: {}", peer, other.failure.message());
  }
  return {};
}

// Waits for ready(). describe() says what for, and closing of `peer` (unless -1) makes that hopeless.
template <typename Ready, typename Describe>
Status LocalTransport::wait_until(Lock& lock, int64_t timeout_ms, int peer, Ready ready, Describe describe) {
  uint64_t seen = hub_->progress;
  auto deadline = Clock::now() + std::chrono::milliseconds(timeout_ms);
  for (;;) {
    if (!self_.failure.ok()) return self_.failure;
    if (ready()) return {};
    if (Status reported = reported_failure(); !reported.ok()) return fail(std::move(reported));
    if (peer >= 0 && at(peer).closed) {
      return fail(error(Code::kPeerFailed, "rank {} closed its communicator while rank {} was {}", peer,
                        rank_, describe()));
    }
    if (hub_->progress != seen) {
      seen = hub_->progress;
      deadline = Clock::now() + std::chrono::milliseconds(timeout_ms);
    } else if (Clock::now() >= deadline) {
      return fail(
          error(Code::kTimeout, "rank {}: no progress for {} ms while {}", rank_, timeout_ms, describe()));
    }
    self_.changed.wait_until(lock, deadline);
  }
}

Status LocalTransport::join(int64_t timeout_ms) {
  Lock lock(hub_->mutex);
  self_.joined = true;
  hub_->notify_all();
  const auto missing = [&] {
    std::string ranks;
    for (int i = 0; i < size(); ++i) {
      if (!at(i).joined) ranks += fmt::format("{}{}", ranks.empty() ? "" : ", ", i);
    }
    return ranks;
  };
  return wait_until(
      lock, timeout_ms, -1, [&] { return missing().empty(); },
      [&] { return fmt::format("waiting for rank {} to join", missing()); });
}

Result<uint8_t*> LocalTransport::acquire(size_t bytes, const Wait& wait) {
  if (bytes == 0) return error(Code::kInvalidArgument, "a message must have at least one byte");
  Lock lock(hub_->mutex);
  const size_t limit = 16 * std::max<size_t>(1, hub_->ranks.size() - 1);
  const auto slow_peers = [&] {
    std::string ranks;
    for (int peer = 0; peer < size(); ++peer) {
      const bool slow = std::any_of(self_.messages.begin(), self_.messages.end(), [&](const LocalMessage& m) {
        return std::find(m.receivers.begin(), m.receivers.end(), peer) != m.receivers.end();
      });
      if (slow) ranks += fmt::format("{}{}", ranks.empty() ? "" : ", ", peer);
    }
    return ranks.empty() ? std::string("none") : ranks;
  };
  CGX_RETURN_IF_ERROR(wait_until(
      lock, wait.timeout_ms, -1, [&] { return self_.messages.size() < limit; },
      [&] {
        return fmt::format("waiting for rank {} to release messages (phase {}): all {} are in use",
                           slow_peers(), wait.phase, limit);
      }));
  uint8_t* memory = self_.buffers.take(bytes);
  if (memory == nullptr) {
    return fail(error(Code::kResource, "no memory for a message of {} bytes (phase {})", bytes, wait.phase));
  }
  self_.messages.push_back({memory, bytes, true, {}});
  return memory;
}

Status LocalTransport::send(uint8_t* message, size_t bytes, std::span<const int> peers) {
  const std::lock_guard lock(hub_->mutex);
  if (!self_.failure.ok()) return self_.failure;
  const auto found = std::find_if(self_.messages.begin(), self_.messages.end(),
                                  [&](const LocalMessage& m) { return m.memory == message && m.held; });
  CGX_CHECK(found != self_.messages.end() && bytes > 0 && bytes <= found->bytes);
  for (const int peer : peers) {
    CGX_CHECK(is_peer(peer));
    found->receivers.push_back(peer);
    at(peer).inbox[static_cast<size_t>(rank_)].push_back({message, bytes});
    at(peer).changed.notify_all();
    stats_.sent_bytes += bytes;
    ++stats_.sent_messages;
  }
  ++hub_->progress;
  return {};
}

Status LocalTransport::post(int peer, size_t bytes) {
  CGX_CHECK(is_peer(peer) && bytes > 0);
  const std::lock_guard lock(hub_->mutex);
  if (!self_.failure.ok()) return self_.failure;
  posted_[static_cast<size_t>(peer)].push_back(bytes);
  return {};
}

Result<const uint8_t*> LocalTransport::receive(int peer, size_t bytes, const Wait& wait) {
  CGX_CHECK(is_peer(peer));
  Lock lock(hub_->mutex);
  auto& posted = posted_[static_cast<size_t>(peer)];
  CGX_CHECK(!posted.empty() && posted.front() == bytes);
  auto& inbox = self_.inbox[static_cast<size_t>(peer)];
  CGX_RETURN_IF_ERROR(wait_until(
      lock, wait.timeout_ms, peer, [&] { return !inbox.empty(); },
      [&] { return fmt::format("receiving {} bytes from rank {} (phase {})", bytes, peer, wait.phase); }));
  const LocalRank::Arrival arrival = inbox.front();
  inbox.pop_front();
  posted.pop_front();
  held_.push_back({arrival.memory, peer});
  if (arrival.bytes != bytes) {
    self_.told = Code::kMismatch;
    return fail(error(Code::kMismatch, "rank {} sent {} bytes where rank {} expected {} (phase {})", peer,
                      arrival.bytes, rank_, bytes, wait.phase));
  }
  stats_.received_bytes += bytes;
  ++stats_.received_messages;
  return arrival.memory;
}

void LocalTransport::drop_if_free(LocalRank& owner, size_t index) {
  const LocalMessage& message = owner.messages[index];
  if (message.held || !message.receivers.empty()) return;
  owner.buffers.give(message.memory);
  owner.messages.erase(owner.messages.begin() + static_cast<std::ptrdiff_t>(index));
  ++hub_->progress;
  owner.changed.notify_all();
}

void LocalTransport::drop_receiver(LocalRank& sender, const uint8_t* message) {
  for (size_t i = 0; i < sender.messages.size(); ++i) {
    auto& receivers = sender.messages[i].receivers;
    if (sender.messages[i].memory != message) continue;
    receivers.erase(std::find(receivers.begin(), receivers.end(), rank_));
    return drop_if_free(sender, i);
  }
}

void LocalTransport::release(const uint8_t* message) {
  const std::lock_guard lock(hub_->mutex);
  const auto held =
      std::find_if(held_.begin(), held_.end(), [&](const Held& h) { return h.memory == message; });
  if (held != held_.end()) {
    LocalRank& sender = at(held->sender);
    held_.erase(held);
    return drop_receiver(sender, message);
  }
  for (size_t i = 0; i < self_.messages.size(); ++i) {
    if (self_.messages[i].memory != message) continue;
    self_.messages[i].held = false;
    return drop_if_free(self_, i);
  }
}

void LocalTransport::abort(const Status& reason) {
  const std::lock_guard lock(hub_->mutex);
  // A mismatch is as much the peers' as ours: they may name it so.
  if (self_.failure.ok() && reason.code() == Code::kMismatch) self_.told = Code::kMismatch;
  const Status ignored = fail(error(Code::kAborted, "aborted: {}", reason.message()));
  static_cast<void>(ignored);
}

// The hub is made only when every rank has shown up, so that a rank that never comes leaves nothing behind.
Result<LocalHub*> find_hub(const TransportConfig& config) {
  const std::string own = std::to_string(getpid());
  CGX_ASSIGN_OR_RETURN(
      const std::vector<std::string> pids,
      meet(config.store, {config.rank, config.size, config.job, "local", config.timeout_ms}, own));
  for (int peer = 0; peer < config.size; ++peer) {
    const std::string& pid = pids[static_cast<size_t>(peer)];
    if (pid == own) continue;
    return error(Code::kInvalidArgument,
                 "the local transport joins threads of one process, but rank {} is process {} and rank {} is "
                 "process {}: use shm or gloo",
                 config.rank, own, peer, pid);
  }
  const std::string key = config.job + "/local/hub";
  if (config.rank == 0) {
    auto hub = std::make_unique<LocalHub>(config.size);
    const uint64_t number = Hubs::instance().add(hub.get());
    if (Status told = config.store->set(key, std::to_string(number)); !told.ok()) {
      Hubs::instance().remove(hub.get());
      return told;
    }
    return hub.release();
  }
  CGX_ASSIGN_OR_RETURN(const std::string number, config.store->get(key, config.timeout_ms));
  LocalHub* hub = Hubs::instance().find(std::strtoull(number.c_str(), nullptr, 10));
  if (hub == nullptr || hub->ranks.size() != static_cast<size_t>(config.size)) {
    return error(Code::kCorrupt,
                 "the store's {} is \"{}\", which rank 0 has not made: was the store used before?", key,
                 number.substr(0, 40));
  }
  return hub;
}

}  // namespace

Result<std::unique_ptr<Transport>> open_local(const TransportConfig& config) {
  CGX_ASSIGN_OR_RETURN(LocalHub * hub, find_hub(config));
  auto transport = std::make_unique<LocalTransport>(hub, config.rank);
  CGX_RETURN_IF_ERROR(transport->join(config.timeout_ms));
  return std::unique_ptr<Transport>(std::move(transport));
}

}  // namespace cgx
