// The contract over two halves (half.h), either of which may be missing. What is to be sent lies where its
// receivers take it from. If some are near and some far, it lies in the sockets' memory, which stays in
// this core's caches, and send() copies it into shared memory: one copy, as shared memory costs anyway
// (lib/plan encodes into a draft and copies that).
#include "transport/mixed.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/stream_copy.h"
#include "transport/half.h"
#include "transport/hosts.h"
#include "transport/rendezvous.h"
#include "transport/shm.h"
#include "transport/tcp.h"

namespace cgx {
namespace {

class MixedTransport final : public Transport {
 public:
  MixedTransport(const TransportConfig& config, std::unique_ptr<Half> near, std::unique_ptr<Half> far);

  const char* name() const override { return "mixed"; }
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  std::vector<int> hosts() const override { return hosts_; }

  Result<uint8_t*> acquire(size_t bytes, const Wait& wait) override;
  Result<Lent> acquire_for(std::span<const int> peers, size_t bytes, const Wait& wait) override;
  bool is_shared() const override { return near_ != nullptr; }
  Status send(uint8_t* message, size_t bytes, std::span<const int> peers) override;
  Status post(int peer, size_t bytes) override { return half_of(peer).post(peer, bytes); }
  Result<const uint8_t*> receive(int peer, size_t bytes, const Wait& wait) override;
  void release(const uint8_t* message) override;
  Status flush(const Wait& wait) override;
  void abort(const Status& reason) override { (near_ ? near_ : far_)->abort(reason); }
  TransportStats stats() const override;
  Links links() const override {
    Links links = far_ ? far_->links() : Links();
    links.shared_inside = count_hosts(hosts_) < size_;
    return links;
  }
  bool gone(int peer) const override { return peer != rank_ && half_of(peer).gone(peer); }

 private:
  // A message of this rank or another one that the caller holds.
  struct Held {
    const uint8_t* message;
    Half* half;  // whose memory it is
    uint8_t* twin = nullptr;
    Half* twin_half = nullptr;  // the other one, for its receivers
    bool copied = false;        // to the twin
  };

  bool is_near(int peer) const {
    return hosts_[static_cast<size_t>(peer)] == hosts_[static_cast<size_t>(rank_)];
  }
  Half& half_of(int peer) const {
    CGX_CHECK(peer >= 0 && peer < size_ && peer != rank_);
    return is_near(peer) ? *near_ : *far_;
  }
  Held& find(const uint8_t* message);
  Status send_by(Half& half, Held& held, size_t bytes, std::span<const int> peers);

  const int rank_;
  const int size_;
  const std::vector<int> hosts_;
  std::unique_ptr<Half> near_, far_;
  std::vector<Held> held_;
  std::vector<int> everybody_, near_peers_, far_peers_;
  Wait wait_;  // of the last acquire(), for a send() to ranks that it was not told of
};

MixedTransport::MixedTransport(const TransportConfig& config, std::unique_ptr<Half> near,
                               std::unique_ptr<Half> far)
    : rank_(config.rank),
      size_(config.size),
      hosts_(config.hosts),
      near_(std::move(near)),
      far_(std::move(far)) {
  for (int peer = 0; peer < size_; ++peer) {
    if (peer != rank_) everybody_.push_back(peer);
  }
  if (near_ == nullptr || far_ == nullptr) return;
  near_->pair_with(far_.get());
  far_->pair_with(near_.get());
}

Result<uint8_t*> MixedTransport::acquire(size_t bytes, const Wait& wait) {
  CGX_ASSIGN_OR_RETURN(const Lent lent, acquire_for(everybody_, bytes, wait));
  return lent.memory;
}

Result<Transport::Lent> MixedTransport::acquire_for(std::span<const int> peers, size_t bytes,
                                                    const Wait& wait) {
  const auto near_peer = [&](int peer) { return is_near(peer); };
  const bool all_near = std::all_of(peers.begin(), peers.end(), near_peer);
  const bool far = far_ != nullptr && (near_ == nullptr || !all_near);
  const bool near = near_ != nullptr && (!far || std::any_of(peers.begin(), peers.end(), near_peer));
  wait_ = wait;
  Held held{};
  if (near && far) {
    CGX_ASSIGN_OR_RETURN(held.twin, near_->acquire(bytes, wait));
    held.twin_half = near_.get();
  }
  held.half = far ? far_.get() : near_.get();
  const Result<uint8_t*> memory = held.half->acquire(bytes, wait);
  if (!memory.ok()) {
    if (held.twin != nullptr) near_->release(held.twin);
    return memory.status();
  }
  held.message = *memory;
  held_.push_back(held);
  return Lent{*memory, !far};
}

// There are as many as are alive: a pipeline's few, and most often it is one of the last.
MixedTransport::Held& MixedTransport::find(const uint8_t* message) {
  const auto found =
      std::find_if(held_.rbegin(), held_.rend(), [&](const Held& held) { return held.message == message; });
  CGX_CHECK(found != held_.rend());
  return *found;
}

Status MixedTransport::send_by(Half& half, Held& held, size_t bytes, std::span<const int> peers) {
  if (peers.empty()) return {};
  if (&half == held.half) return half.send(const_cast<uint8_t*>(held.message), bytes, peers);
  if (held.twin == nullptr) {
    CGX_ASSIGN_OR_RETURN(held.twin, half.acquire(bytes, wait_));
    held.twin_half = &half;
  }
  if (!held.copied) {
    (half.is_shared() ? stream_copy : plain_copy)(held.twin, held.message, bytes);
    if (half.is_shared()) stream_fence();
    held.copied = true;
  }
  return half.send(held.twin, bytes, peers);
}

Status MixedTransport::send(uint8_t* message, size_t bytes, std::span<const int> peers) {
  Held& held = find(message);
  near_peers_.clear();
  far_peers_.clear();
  for (const int peer : peers) (is_near(peer) ? near_peers_ : far_peers_).push_back(peer);
  // The long way first.
  if (far_ != nullptr) CGX_RETURN_IF_ERROR(send_by(*far_, held, bytes, far_peers_));
  return near_ == nullptr ? Status() : send_by(*near_, held, bytes, near_peers_);
}

Result<const uint8_t*> MixedTransport::receive(int peer, size_t bytes, const Wait& wait) {
  Half& half = half_of(peer);
  CGX_ASSIGN_OR_RETURN(const uint8_t* message, half.receive(peer, bytes, wait));
  held_.push_back({message, &half});
  return message;
}

void MixedTransport::release(const uint8_t* message) {
  Held& held = find(message);
  if (held.twin != nullptr) held.twin_half->release(held.twin);
  held.half->release(held.message);
  held_.erase(held_.begin() + (&held - held_.data()));
}

Status MixedTransport::flush(const Wait& wait) {
  if (near_ != nullptr) CGX_RETURN_IF_ERROR(near_->flush(wait));
  return far_ == nullptr ? Status() : far_->flush(wait);
}

TransportStats MixedTransport::stats() const {
  TransportStats sum;
  for (const Half* half : {near_.get(), far_.get()}) {
    if (half == nullptr) continue;
    const TransportStats one = half->stats();
    sum.sent_bytes += one.sent_bytes;
    sum.received_bytes += one.received_bytes;
    sum.sent_messages += one.sent_messages;
    sum.received_messages += one.received_messages;
  }
  return sum;
}

struct Halves {
  std::unique_ptr<Half> near, far;
};

// The ranks of several hosts meet in all of this, also those that have no peer on their own host.
Result<Halves> open_halves(const TransportConfig& config, int hosts) {
  TransportConfig near = config;
  TransportConfig far = config;
  for (int peer = 0; peer < config.size; ++peer) {
    if (peer == config.rank) continue;
    const bool shares =
        config.hosts[static_cast<size_t>(peer)] == config.hosts[static_cast<size_t>(config.rank)];
    (shares ? near : far).peers.push_back(peer);
  }
  Halves halves;
  if (hosts < config.size || config.size == 1) {
    if (near.peers.empty() && config.size > 1) {
      CGX_RETURN_IF_ERROR(skip_shm(near));
    } else {
      CGX_ASSIGN_OR_RETURN(halves.near, open_shm_half(near));
    }
  }
  if (hosts > 1) {
    CGX_ASSIGN_OR_RETURN(halves.far, open_tcp_half(far));
  }
  return halves;
}

}  // namespace

Result<std::unique_ptr<Transport>> open_mixed(const TransportConfig& given) {
  TransportConfig config = given;
  if (config.hosts.empty()) {
    CGX_ASSIGN_OR_RETURN(config.hosts, meet_hosts(config));
  }
  Result<Halves> halves = open_halves(config, count_hosts(config.hosts));
  if (!halves.ok()) {
    // Those whose part of it went well wait for this rank in the other part.
    publish_failure(config.store, config.job, config.rank, halves.status());
    return halves.status();
  }
  return std::unique_ptr<Transport>(
      std::make_unique<MixedTransport>(config, std::move(halves->near), std::move(halves->far)));
}

}  // namespace cgx
