// The C interface to what is seen of cgx from outside: the table of tensors, the list of variables.
#include <nlohmann/json.hpp>

#include "base/variables.h"
#include "comm/capi_guard.h"

using cgx::HandleKind;
using cgx::Status;
using cgx::capi::guard;

cgx_status cgx_comm_observe(cgx_comm* comm, uint32_t every) {
  return guard([&]() -> Status {
    CGX_RETURN_IF_ERROR(check_handle(comm, HandleKind::kComm, "comm"));
    comm->communicator->observe(every);
    return Status();
  });
}

cgx_status cgx_comm_table(const cgx_comm* comm, char* text, uint64_t capacity, uint64_t* bytes) {
  return guard([&]() -> Status {
    CGX_RETURN_IF_ERROR(check_handle(comm, HandleKind::kComm, "comm"));
    CGX_RETURN_IF_ERROR(cgx::capi::require(bytes, "bytes"));
    CGX_ASSIGN_OR_RETURN(const std::string table, comm->communicator->table());
    *bytes = table.size() + 1;
    if (capacity < *bytes) return Status();
    CGX_RETURN_IF_ERROR(cgx::capi::require(text, "text"));
    std::memcpy(text, table.c_str(), *bytes);
    return Status();
  });
}

const char* cgx_variable_list(void) {
  static const std::string* const kText = [] {
    auto list = nlohmann::ordered_json::array();
    for (const cgx::config::Variable& v : cgx::config::variables()) {
      list.push_back(
          {{"name", v.name}, {"default", v.otherwise}, {"meaning", v.meaning}, {"reader", v.reader}});
    }
    return new std::string(list.dump());
  }();
  return kText->c_str();
}
