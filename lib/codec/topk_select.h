// Finds the k elements of largest magnitude (order: codecs/topk.h), exactly, in about one pass.
//
// A sample brackets the k-th magnitude from below; one pass collects the few elements above the
// bracket with their indices, and among these the exact threshold is found by counting. Where the
// sample misled (a value repeated very often, bad luck) histograms of the whole input find it:
// slower, the same result.
#pragma once

#include <cstddef>
#include <cstdint>

#include "codec/value_block.h"

namespace cgx {

// What was kept, in the scratch memory of the call.
struct Kept {
  const float* values;      // k, in order of index
  const uint32_t* indices;  // k, strictly increasing
};

// `sum`, where not null, becomes the elements as fp32 (it may be `from.before`).
// REQUIRES: 0 < k <= count <= 2^32.
Result<Kept> select_topk(const Elements& from, size_t count, size_t k, float* sum, SparseScratch& scratch);

}  // namespace cgx
