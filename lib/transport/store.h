// Where ranks meet: a small key-value store. Used at start-up (addresses, names of segments) and to
// explain failures, never on the path of a collective.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/deadline.h"
#include "base/status.h"

namespace cgx {

class Store;

// Where a rank will serve a store, should the one that the ranks met in end with the process that serves it.
// It listens from the start: who is refused there knows that this rank is dead. It answers from serve() on.
class StoreHeir {
 public:
  virtual ~StoreHeir() = default;
  // For connect_to_heir() on other ranks. One line.
  virtual std::string address() const = 0;
  // Once. The store is empty.
  virtual Result<std::unique_ptr<Store>> serve() = 0;
};

class Store {
 public:
  virtual ~Store() = default;
  // Sets a key. Keys are set once by one rank.
  virtual Status set(const std::string& key, const std::string& value) = 0;
  // Waits until the key is set. kTimeout names the key.
  virtual Result<std::string> get(const std::string& key, int64_t timeout_ms) = 0;
  // kTimeout at once where it is not set yet.
  virtual Result<std::string> try_get(const std::string& key) { return get(key, 0); }
  // For people who wait for ranks that do not come: whom the store has turned away last and why, or "".
  virtual std::string last_refusal() const { return ""; }

  // Null where the store outlives the ranks. Else it ends with the process of the rank that serves it, and
  // this is an heir for this rank.
  virtual Result<std::unique_ptr<StoreHeir>> make_heir() { return std::unique_ptr<StoreHeir>(); }
  // True in the process that serves it to the others.
  virtual bool serves() const { return false; }
  // Another connection to the same store. kPeerFailed: nobody serves it any more, its process has ended.
  // `stop` ends the wait for it, and each of its own waits, as the timeout does.
  virtual Result<std::unique_ptr<Store>> reconnect(int64_t timeout_ms, const StopFlag& stop);
};

// Ranks as threads of one process (tests): share one object.
std::unique_ptr<Store> make_memory_store();
// A directory that all ranks see (made if missing): one file a key, renamed into place.
Result<std::unique_ptr<Store>> make_file_store(const std::string& directory);
// Rank 0 listens on host:port and answers the others. The server lives as long as its store.
struct TcpStoreConfig {
  std::string host;
  uint16_t port = 0;
  int rank = 0;
  int64_t timeout_ms = 0;
  std::string secret = {};  // "": whoever speaks the protocol is a client
};
Result<std::unique_ptr<Store>> make_tcp_store(const TcpStoreConfig& config);
// Waits for the rank of that address to serve. kPeerFailed: it is dead.
Result<std::unique_ptr<Store>> connect_to_heir(const std::string& address, int64_t timeout_ms,
                                               const std::string& secret, const StopFlag& stop);
// Values carry an HMAC-SHA256 of key and value: one that was set without this secret is kMismatch. Does not
// own `store`. What a store holds is set and read through such a one on all ranks, or on none.
std::unique_ptr<Store> make_signed_store(Store* store, std::string secret);
// Of a value as it lies in the store under it, behind this mark and 32 bytes: a rank without a secret that
// reads one can say so. (Here for the Gloo module, which has no use for OpenSSL.)
inline constexpr std::string_view kSignedMark = "cgx-hmac-sha256:";
inline bool is_signed_value(std::string_view value) {
  return value.starts_with(kSignedMark) && value.size() >= kSignedMark.size() + 32;
}

}  // namespace cgx
