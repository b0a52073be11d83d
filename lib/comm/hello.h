// Desynchronised calls become errors instead of garbage: each collective begins with a message of fixed
// size to every peer that says what is being called, and no message of a peer is looked at before its
// hello was found equal to ours. Own messages go ahead meanwhile, so that it costs no round trip.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

#include "base/status.h"
#include "transport/store.h"
#include "transport/transport.h"

namespace cgx {

// As on the wire (little-endian; another byte order shows in `magic`).
struct Hello {
  static constexpr uint32_t kMagic = 0x48584743;  // "CGXH"

  uint32_t magic = kMagic;
  uint32_t version = 0;      // of the library
  uint64_t operation = 0;    // collectives of this communicator so far
  uint64_t fingerprint = 0;  // of everything that must be equal
  char text[232] = {};       // for people: what is being called, NUL-terminated, may be cut

  void set_text(const std::string& words);
  std::string call() const;  // "allreduce #12 (sum, count=1000 fp32 ...)"
};
static_assert(sizeof(Hello) == 256 && std::is_trivially_copyable_v<Hello>);

// kMismatch, naming both sides, where `theirs` is not equal to `own`.
Status compare_hellos(const Hello& own, int own_rank, const Hello& theirs, int their_rank);

// A rank that found a difference leaves word of it in the store before it aborts its transport; one that
// then sees only that a peer failed finds the reason there: kMismatch, or ok where there is none. Not
// every transport carries the kind of a failure, and some peers learn of it before they read the hellos.
void publish_mismatch(Store* store, const std::string& job, int rank, const Status& mismatch);
Status find_mismatch(Store* store, const std::string& job, int rank, int size);

// A transport for one collective over `inner`: begin() says hello, the first receive() checks all
// peers' hellos. Messages are posted only then, as a desynchronised peer would send other sizes.
class HelloTransport final : public Transport {
 public:
  explicit HelloTransport(Transport* inner) : inner_(inner) {}

  Status begin(const Hello& own, int64_t timeout_ms);
  // Checks the hellos if no receive() has yet: a plan may have nothing to receive.
  Status verify();

  const char* name() const override { return inner_->name(); }
  int rank() const override { return inner_->rank(); }
  int size() const override { return inner_->size(); }
  std::vector<int> hosts() const override { return inner_->hosts(); }
  Result<uint8_t*> acquire(size_t bytes, const Wait& wait) override { return inner_->acquire(bytes, wait); }
  Result<Lent> acquire_for(std::span<const int> peers, size_t bytes, const Wait& wait) override {
    return inner_->acquire_for(peers, bytes, wait);
  }
  bool is_shared() const override { return inner_->is_shared(); }
  Links links() const override { return inner_->links(); }
  Status send(uint8_t* message, size_t bytes, std::span<const int> peers) override {
    return inner_->send(message, bytes, peers);
  }
  Status post(int peer, size_t bytes) override;
  Result<const uint8_t*> receive(int peer, size_t bytes, const Wait& wait) override;
  void release(const uint8_t* message) override { inner_->release(message); }
  Status flush(const Wait& wait) override { return inner_->flush(wait); }
  void abort(const Status& reason) override { inner_->abort(reason); }
  TransportStats stats() const override { return inner_->stats(); }

 private:
  struct Posted {
    int peer;
    size_t bytes;
  };

  Transport* inner_;
  Hello own_;
  int64_t timeout_ms_ = 0;
  bool verified_ = true;
  std::vector<Posted> held_;  // posts until the hellos are checked
};

}  // namespace cgx
