// What became of each element of a collective, for the statistics: a pure function of the layout.
#pragma once

#include <cstdint>

#include "codec/layout.h"

namespace cgx {

struct Accounting {
  uint64_t elements = 0;
  uint64_t compressed = 0;  // their codec made their segment smaller
  uint64_t raw = 0;         // asked for uncompressed
  uint64_t too_small = 0;   // their segment's block would not have been smaller
  uint64_t not_float = 0;   // integers and fp64
  uint64_t not_sum = 0;     // a codec was asked for a minimum, maximum or product
};

Accounting account(const Layout& layout);

}  // namespace cgx
