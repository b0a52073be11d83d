// See environment.h.
#include "comm/environment.h"

#include "base/config.h"

namespace cgx {

Status rank_from_environment(CommunicatorConfig* config) {
  if (config->rank != -1 && config->size != -1) return Status();
  if (config->rank != -1 || config->size != -1) {
    return error(Code::kInvalidArgument,
                 "rank {} and size {}: give both, or -1 for both to read the environment", config->rank,
                 config->size);
  }
  CGX_ASSIGN_OR_RETURN(const config::RankAndSize found, config::rank_and_size());
  config->rank = found.rank;
  config->size = found.size;
  return Status();
}

Result<std::string> secret_or_environment(const char* given) {
  if (given == nullptr || *given == '\0') return config::secret();
  CGX_RETURN_IF_ERROR(config::check_secret(given));
  return std::string(given);
}

Result<std::unique_ptr<Store>> store_from_environment(const CommunicatorConfig& config) {
  if (config.size == 1) return make_memory_store();  // nobody to meet
  CGX_ASSIGN_OR_RETURN(const config::StoreAddress address, config::store_address());
  if (address.kind == config::StoreAddress::Kind::kFile) return make_file_store(address.directory);
  return make_tcp_store({address.host, address.port, config.rank, config.timeout_ms, config.secret});
}

}  // namespace cgx
