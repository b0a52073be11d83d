// The transport over sockets. Everything is done by the thread that calls: send() gives the sockets what they
// take, and a call that waits moves whatever can be moved to and from every peer until its own condition
// holds (tcp_wait.cc). While the caller computes, the kernel's buffers keep the link busy. A failure is told
// over the control connections, which nothing can block.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "transport/half.h"
#include "transport/tcp_connect.h"
#include "transport/tcp_control.h"
#include "transport/tcp_pool.h"
#include "transport/tcp_stream.h"
#include "transport/transport_config.h"

namespace cgx {

class TcpTransport final : public Half {
 public:
  TcpTransport(const TransportConfig& config, TcpMesh mesh);
  ~TcpTransport() override;

  Status init();

  // Collective, before anything else.
  Status agree_on_round_trips(const TransportConfig& config, int64_t timeout_ms);

  const char* name() const override { return "tcp"; }
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  std::vector<int> hosts() const override { return hosts_; }

  Result<uint8_t*> acquire(size_t bytes, const Wait& wait) override;
  Status send(uint8_t* message, size_t bytes, std::span<const int> peers) override;
  Status post(int peer, size_t bytes) override;
  Result<const uint8_t*> receive(int peer, size_t bytes, const Wait& wait) override;
  void release(const uint8_t* message) override;
  Status flush(const Wait& wait) override;
  void abort(const Status& reason) override;
  TransportStats stats() const override { return stats_; }
  Links links() const override {
    return {round_trip_us_, peers_.empty() ? 1 : static_cast<uint32_t>(peers_[0]->streams.size()), false};
  }
  bool gone(int peer) const override {
    return is_peer(peer) && by_rank_[static_cast<size_t>(peer)]->control.ended();
  }

  Status fail(const Status& status, Code told, int origin, const std::string& words) override;
  Status advance(const Words& words, bool* moved) override;
  bool prepare_sleep(std::vector<pollfd>* fds) override;
  void end_sleep(std::span<const pollfd> fds) override;

 private:
  using Clock = std::chrono::steady_clock;

  struct Peer {
    Peer(int number, TcpLink link, int own_rank, TcpPool* pool);
    TcpStream& stream_of(uint64_t number) { return streams[number % streams.size()]; }
    bool has_queued() const;

    int rank;
    TcpControl control;
    std::vector<TcpStream> streams;
    std::vector<bool> ended;  // streams on which no more will come
    uint64_t sent = 0, posted = 0, received = 0;
    Clock::time_point pushed_at{};
    Clock::time_point lost_at{};  // since when its control connection is gone
  };

  // What a call waits for.
  struct Doing {
    enum class Kind : uint8_t { kAcquire, kReceive, kFlush, kElsewhere };
    Kind kind;
    const Wait& wait;
    size_t bytes = 0;
    int peer = -1;                     // kReceive
    const Words* elsewhere = nullptr;  // kElsewhere: what the other half waits for
  };

  struct Slot {
    Peer* peer;
    size_t stream;
    short ready;  // what poll() said
  };

  bool is_peer(int peer) const { return peer >= 0 && peer < size_ && by_rank_[static_cast<size_t>(peer)]; }
  Peer& peer_of(int rank) { return *by_rank_[static_cast<size_t>(rank)]; }
  bool failed() const { return failed_.load(std::memory_order_acquire); }
  Status failure() const;
  Status fail(const Status& status);

  bool done(const Doing& doing);
  std::string words(const Doing& doing) const;
  Status wait_for(const Doing& doing);
  Status move_ready(const Doing& doing, bool* moved);
  Status push(Peer& peer, size_t stream, const Doing& doing, bool* moved);
  Status pull(Peer& peer, size_t stream, const Doing& doing, bool* moved);
  Status push_all(const Doing& doing);
  Status look_at_controls(const Doing& doing);
  Status look_at_lost(const Doing& doing);
  Status ended(Peer& peer, size_t stream, const Doing& doing, int fault);
  Status lost(const Peer& peer, const Doing& doing, int fault);
  void learn_round_trips();
  void sample_later(Clock::time_point now);
  bool acknowledged_more(Clock::time_point now);
  uint64_t acknowledged() const;

  const int rank_;
  const int size_;
  const std::vector<int> hosts_;
  const bool may_spin_;
  TcpPool pool_;
  std::vector<std::unique_ptr<Peer>> peers_;  // in rank order
  std::vector<Peer*> by_rank_;                // null: is no peer
  std::vector<Slot> slots_;                   // every stream
  short signals_ready_ = 0;                   // what poll() said of signals_
  bool polled_ = false;                       // and nothing has been done with what it said
  TcpSocket wake_;                            // an eventfd: abort() was called
  TcpSocket signals_;                         // an epoll of wake_ and the control connections
  const char* phase_ = "";                    // of the last acquire(), for errors of the send() that follows
  uint64_t acked_ = 0;                        // acknowledged() at the last sample
  bool sampled_ = false;                      // there was one since the wait began
  Clock::time_point next_sample_{};
  std::vector<pollfd> elsewhere_;  // of advance()
  TransportStats stats_;
  int64_t round_trip_us_ = 0;  // the longest, once all have agreed

  mutable std::mutex mutex_;  // guards failure_, and that it is told once
  Status failure_;
  std::atomic<bool> failed_ = false;
};

}  // namespace cgx
