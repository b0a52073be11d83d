// The transport over an outbox and an inbox. All waiting is one loop (shm_wait.cc).
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "transport/half.h"
#include "transport/shm_bell.h"
#include "transport/shm_door.h"
#include "transport/shm_failure.h"
#include "transport/shm_inbox.h"
#include "transport/shm_outbox.h"
#include "transport/shm_segment.h"
#include "transport/transport_config.h"

namespace cgx {

class ShmTransport final : public Half {
 public:
  // With a door, it can be a half.
  ShmTransport(OwnSegment own, ShmDoor door);
  ~ShmTransport() override;

  const char* name() const override { return "shm"; }
  int rank() const override { return rank_; }
  int size() const override { return size_; }

  // Maps the peers' segments and waits until they have mapped ours.
  Status join(const TransportConfig& config, uint64_t job_hash, const std::vector<std::string>& names);

  Result<uint8_t*> acquire(size_t bytes, const Wait& wait) override;
  bool is_shared() const override { return true; }
  Status send(uint8_t* message, size_t bytes, std::span<const int> peers) override;
  Status post(int peer, size_t bytes) override;
  Result<const uint8_t*> receive(int peer, size_t bytes, const Wait& wait) override;
  void release(const uint8_t* message) override;
  Status flush(const Wait& wait) override;
  void abort(const Status& reason) override;
  TransportStats stats() const override { return stats_; }
  bool gone(int peer) const override;

  Status fail(const Status& status, Code told, int origin, const std::string& words) override;
  Status advance(const Words& words, bool* moved) override;
  bool prepare_sleep(std::vector<pollfd>* fds) override;
  void end_sleep(std::span<const pollfd> fds) override;

 private:
  using Clock = std::chrono::steady_clock;

  struct Peer {
    int rank;
    PeerSegment segment;
    ShmDoor door;
  };

  bool is_peer(int peer) const { return peer >= 0 && peer < size_ && index_[static_cast<size_t>(peer)] >= 0; }
  Peer& peer_of(int rank) { return peers_[static_cast<size_t>(index_[static_cast<size_t>(rank)])]; }
  static void ring(const Peer& peer) { cgx::ring(peer.segment.bell(), peer.door); }
  void wake_all() const;
  Status fail(const Status& status);
  Status progress();
  uint64_t activity() const;
  Status look_at_peers(int awaited, bool check_lives, const Words& words);
  template <typename Ready, typename Describe>
  Status wait_until(const Wait& wait, int awaited, Ready ready, Describe describe);
  Status wait_for_room(const Wait& wait, size_t bytes, uint8_t** memory);
  Status wait_for_message(const Wait& wait, int peer, size_t bytes);
  Status wait_for_queues(const Wait& wait);
  Status wait_for_peers(const TransportConfig& config);
  template <typename Look>
  void nap(int milliseconds, const Look& look);
  std::string slow_peers() const;

  OwnSegment own_;
  ShmDoor door_;
  int rank_;
  int size_;
  ShmFailure failure_;
  ShmOutbox outbox_;
  ShmInbox inbox_;
  std::vector<Peer> peers_;
  std::vector<int> index_;  // in peers_, by rank; -1: is no peer
  bool may_spin_ = false;
  uint64_t seen_ = 0;              // activity() that has been looked at
  Clock::time_point next_look_{};  // whether the peers live, while the other half waits
  TransportStats stats_;
};

}  // namespace cgx
