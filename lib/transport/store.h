// Where ranks meet: a small key-value store. Used at start-up (addresses, names of segments) and to
// explain failures, never on the path of a collective.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/status.h"

namespace cgx {

class Store {
 public:
  virtual ~Store() = default;
  // Sets a key. Keys are set once by one rank.
  virtual Status set(const std::string& key, const std::string& value) = 0;
  // Waits until the key is set. kTimeout names the key.
  virtual Result<std::string> get(const std::string& key, int64_t timeout_ms) = 0;
  // kTimeout at once where it is not set yet.
  virtual Result<std::string> try_get(const std::string& key) { return get(key, 0); }
};

// Ranks as threads of one process (tests): share one object.
std::unique_ptr<Store> make_memory_store();
// A directory that all ranks see (made if missing): one file a key, renamed into place.
Result<std::unique_ptr<Store>> make_file_store(const std::string& directory);
// Rank 0 (`serve`) listens on host:port and answers the others. The server lives as long as its store.
Result<std::unique_ptr<Store>> make_tcp_store(const std::string& host, uint16_t port, bool serve,
                                              int64_t timeout_ms);
// Puts `prefix` before every key; does not own `store`.
std::unique_ptr<Store> make_prefix_store(Store* store, std::string prefix);

}  // namespace cgx
