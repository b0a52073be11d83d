// Connects every pair of ranks through Gloo.
#pragma once

#include <gloo/transport/context.h>

#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "transport/transport_config.h"

namespace cgx {

struct GlooMesh {
  std::shared_ptr<gloo::transport::Context> context;
  std::vector<int> sockets;  // a duplicate of the connection to each rank; -1 for the own rank
};

// REQUIRES: config.size > 1
Result<GlooMesh> connect_gloo(const TransportConfig& config);

// While it lives SIGPIPE cannot end the process: Gloo writes to sockets whose peer may be gone.
class SigpipeGuard {
 public:
  SigpipeGuard();
  ~SigpipeGuard();
  SigpipeGuard(const SigpipeGuard&) = delete;
  SigpipeGuard& operator=(const SigpipeGuard&) = delete;

 private:
  bool was_blocked_;
};

// Without the "[file:line]" that Gloo puts first.
std::string gloo_reason(const char* what);

}  // namespace cgx
