// The two symbols of libcgx_gloo.so. Whatever Gloo throws ends here at the latest.
#include <exception>
#include <utility>

#include "transport/gloo/gloo_transport.h"
#include "transport/module.h"

#define CGX_MODULE_API extern "C" __attribute__((visibility("default")))

namespace cgx {
namespace {

Result<std::unique_ptr<Transport>> open_transport(const TransportConfig& config) {
  GlooMesh mesh;
  if (config.size == 1) {
    mesh.sockets = {-1};
  } else {
    CGX_ASSIGN_OR_RETURN(mesh, connect_gloo(config));
  }
  return std::unique_ptr<Transport>(std::make_unique<GlooTransport>(config, std::move(mesh)));
}

}  // namespace
}  // namespace cgx

CGX_MODULE_API uint64_t cgx_module_abi() { return cgx::kModuleAbi; }

CGX_MODULE_API cgx::Transport* cgx_module_open(const cgx::TransportConfig* config, cgx::Status* status) {
  try {
    auto transport = cgx::open_transport(*config);
    if (transport.ok()) return transport->release();
    *status = transport.status();
  } catch (const std::exception& fault) {
    *status = cgx::error(cgx::Code::kResource, "gloo: {}", fault.what());
  }
  return nullptr;
}
