// Watches the connections of a transport from a thread of its own, through duplicates of Gloo's sockets.
// Gloo alone would not do: a wait of its own that times out closes every connection, so deadlines cannot
// move with progress; and an operation that is half on the wire is not woken when its peer dies.
#pragma once

#include <gloo/transport/unbound_buffer.h>

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/deadline.h"
#include "base/status.h"
#include "transport/store.h"

namespace cgx {

// What the transport's thread waits for.
struct GlooWaiting {
  gloo::transport::UnboundBuffer* buffer;
  bool sending;
  int peer;
  int64_t timeout_ms;
  std::string_view phase;
};

enum class GlooVerdict { kNone, kTimedOut, kPeerClosed, kFailed };

class GlooWatch {
 public:
  // `sockets`: a duplicate of the connection to each rank, owned; -1 for the own rank.
  GlooWatch(int rank, const std::vector<int>& sockets, Store* store, std::string job);
  ~GlooWatch();
  GlooWatch(const GlooWatch&) = delete;
  GlooWatch& operator=(const GlooWatch&) = delete;

  // Fails the transport, once; wakes its thread, tells the peers why and disconnects. Any thread.
  // Returns the failure, which is an earlier one if there was one.
  Status fail(Status status);
  // Ok as long as nothing has failed. Any thread.
  Status failure() const;

  // Around a wait for waiting.buffer: until end(), the watch aborts that wait when its deadline has
  // passed without progress of any peer, when its peer has closed, and when the transport has failed.
  void begin(const GlooWaiting& waiting);
  GlooVerdict end();

 private:
  struct Link {
    int socket = -1;
    bool closed = false;                 // by the peer
    std::optional<Deadline> drained_by;  // since when nothing is left to read
  };

  void run();
  bool tell();
  void look_at_closed(int peer);
  void look_at_waiting();
  bool is_drained(Link& link);
  uint64_t progress() const;
  void stop_waiting(GlooVerdict verdict);

  const int rank_;
  Store* const store_;
  const std::string job_;
  std::vector<Link> links_;  // used by the thread only; the sockets by ~GlooWatch, too
  int wake_ = -1;

  mutable std::mutex mutex_;  // guards all below
  Status failure_;
  bool told_ = false;
  bool stopping_ = false;
  std::optional<GlooWaiting> waiting_;
  std::optional<uint64_t> seen_progress_;  // of this wait
  Deadline deadline_{0};
  GlooVerdict verdict_ = GlooVerdict::kNone;

  std::thread thread_;  // last: it uses all of the above
};

}  // namespace cgx
