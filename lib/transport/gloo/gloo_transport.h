// Messages between hosts over Gloo's unbound buffers: one send and one receive a message, numbered per
// pair, so that a receive can be posted long before. Gloo's exceptions end here.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "transport/gloo/gloo_connect.h"
#include "transport/gloo/gloo_pool.h"
#include "transport/gloo/gloo_watch.h"
#include "transport/transport.h"

namespace cgx {

class GlooTransport final : public Transport {
 public:
  GlooTransport(const TransportConfig& config, GlooMesh mesh);
  ~GlooTransport() override;

  const char* name() const override { return "gloo"; }
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

 private:
  struct Posted {
    GlooBlock* block;
    size_t bytes;
    uint64_t number;
    std::string fault;  // not empty: the connection was gone already, receive() says so
  };
  struct Unsent {
    GlooBlock* block;
    int peer;
    size_t bytes;
  };
  struct Link {
    uint64_t sent = 0, posted = 0;  // messages so far
    std::deque<Posted> receives;
  };

  Link& link(int peer) { return links_[static_cast<size_t>(peer)]; }
  bool is_peer(int peer) const { return peer >= 0 && peer < size_ && peer != rank_; }
  Status finish_oldest_send(const Wait& wait);
  Status wait_for(GlooBlock* block, bool sending, int peer, size_t bytes, const Wait& wait);
  Status lost(const std::string& fault, bool sending, int peer, size_t bytes, std::string_view phase);
  Status check_header(const Posted& posted, int peer, const Wait& wait);

  const int rank_;
  const int size_;
  const std::vector<int> hosts_;
  Store* const store_;
  const std::string job_;
  TransportStats stats_;
  std::shared_ptr<gloo::transport::Context> context_;  // null with a single rank
  GlooPool pool_;  // before context_ in destruction: its buffers refer to it
  std::vector<Link> links_;
  std::deque<Unsent> unsent_;  // not known to have completed, oldest first
  size_t unsent_bytes_ = 0;
  std::string phase_;  // of the last acquire(), for errors of the send() that follows
  GlooWatch watch_;
};

}  // namespace cgx
