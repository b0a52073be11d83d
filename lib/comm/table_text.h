// What became of each tensor, as JSON: an array of objects, one a tensor, in the order of their ids.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "comm/ledger.h"

namespace cgx {

std::string table_text(const std::map<uint32_t, TensorRow>& rows,
                       const std::function<double(uint32_t tensor)>& residual_norm);

}  // namespace cgx
