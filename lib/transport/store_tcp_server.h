// The serving side of the tcp store: one thread, one poll() loop, all keys in memory. Bytes of clients
// are hostile: a connection that breaks the protocol, or says nothing, is closed and costs no more.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"

namespace cgx {

class StoreServer {
 public:
  // Answers on descriptors of listen_for_store(), which are its own from then on.
  static Result<std::unique_ptr<StoreServer>> start(std::vector<int> listeners, std::string secret);
  // Serves until every client has disconnected, 2 s at most: a rank that is still starting is not cut off.
  ~StoreServer();
  StoreServer(const StoreServer&) = delete;
  StoreServer& operator=(const StoreServer&) = delete;

  // The numeric address by which this process reaches its own server, whatever `host` means elsewhere.
  const std::string& own_host() const { return own_host_; }

  // "who says it is rank 1 was refused by the store: its secret ... (10.0.0.2:4711)", of the last; "" if none
  // was.
  std::string last_refusal() const;

 private:
  class Loop;
  StoreServer(std::unique_ptr<Loop> loop, std::string own_host);
  std::unique_ptr<Loop> loop_;
  std::string own_host_;
};

}  // namespace cgx
