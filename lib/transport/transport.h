// A transport moves messages between the ranks of one communicator: FIFO per pair, no tags. It owns the
// memory of messages, so that shared memory needs no copy: a sender encodes into the mapped segment and
// a receiver decodes from it. One thread uses a transport at a time; only abort() may come from another.
//
// Every call that can block has a Wait: a deadline on *progress* (any byte of any peer moves it), and
// words for the error, which always names the peer. After an error the transport is failed: every
// later call returns the same error, and peers are told (their calls fail, naming this rank).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"

namespace cgx {

struct Wait {
  int64_t timeout_ms = 0;  // > 0
  const char* phase = "";  // "scatter", "gather": printed in errors
};

struct TransportStats {
  uint64_t sent_bytes = 0;  // payload given to send(), counted once per receiver
  uint64_t received_bytes = 0;
  uint64_t sent_messages = 0;
  uint64_t received_messages = 0;
};

class Transport {
 public:
  virtual ~Transport() = default;
  Transport() = default;
  Transport(const Transport&) = delete;
  Transport& operator=(const Transport&) = delete;

  virtual const char* name() const = 0;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  // The host of each rank, numbered from 0 in the order of their lowest ranks; the same on all ranks.
  virtual std::vector<int> hosts() const { return std::vector<int>(static_cast<size_t>(size()), 0); }

  // Memory to write a message of `bytes` into (64-byte aligned, bytes > 0). Blocks while the
  // transport's bounded memory is held by peers that have not released earlier messages.
  virtual Result<uint8_t*> acquire(size_t bytes, const Wait& wait) = 0;
  // True where that memory is what peers read: best written once, in order.
  virtual bool is_shared() const { return false; }
  struct Lent {
    uint8_t* memory;
    bool shared;  // as is_shared(), of this message
  };
  // acquire() for a message to these peers, where they are known: to others it may cost a copy.
  virtual Result<Lent> acquire_for(std::span<const int> peers, size_t bytes, const Wait& wait) {
    static_cast<void>(peers);
    CGX_ASSIGN_OR_RETURN(uint8_t * memory, acquire(bytes, wait));
    return Lent{memory, is_shared()};
  }
  // Sends a message written into acquire()d memory to each of `peers`. Does not wait for them. The
  // sender may still read the message until it calls release(message), which it must.
  virtual Status send(uint8_t* message, size_t bytes, std::span<const int> peers) = 0;
  // Announces the next message from `peer`, so that it can be received ahead of receive().
  virtual Status post(int peer, size_t bytes) = 0;
  // Waits for the oldest posted message of `peer`; readable until release().
  virtual Result<const uint8_t*> receive(int peer, size_t bytes, const Wait& wait) = 0;
  // Gives back a message that receive() or acquire() gave. Order does not matter.
  virtual void release(const uint8_t* message) = 0;
  // Waits until every sent message has left this rank's hands (its memory may be reused by peers'
  // leave): nothing of this collective is still to be pushed by this rank.
  virtual Status flush(const Wait& wait) = 0;

  // Fails this transport and tells the peers `reason`. Any thread, any time, returns at once. A call
  // that blocks in another thread returns kAborted soon.
  virtual void abort(const Status& reason) = 0;
  virtual TransportStats stats() const = 0;
  // What lies between ranks; the same on all of them.
  struct Links {
    int64_t round_trip_us = 0;   // the longest of all pairs of hosts; 0: not known
    uint32_t streams = 1;        // messages of a pair that are on their way side by side
    bool shared_inside = false;  // those between ranks of a host lie in shared memory, which is bounded

    bool operator==(const Links&) const = default;
  };
  virtual Links links() const { return {}; }

  // True where `peer` is known to have ended or left, without waiting. False says nothing. Works on a failed
  // transport too, where it tells the dead from those that were only told of a failure.
  virtual bool gone(int /*peer*/) const { return false; }
};

}  // namespace cgx
