// The C interface to what is seen of cgx from outside: the list of environment variables.
#include <nlohmann/json.hpp>

#include "base/variables.h"
#include "comm/capi_guard.h"

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
