// Sums of raw elements: what `none` costs. Element by element in the order of the inputs, in the
// elements' own type (fp16 and bf16 in fp32, rounded once when stored), at the speed of memory.
#pragma once

#include <cstddef>
#include <span>

#include "base/dtype.h"
#include "base/stream_copy.h"
#include "plan/run.h"

namespace cgx {

struct RawSum {
  DType dtype;
  ReduceOp op;
  double scale;                         // not 1 only for floating-point types, in the type of their sums
  std::span<const void* const> inputs;  // at least one
  void* out;
  void* copy;  // a second place for the result, or null
  Copy write_out = plain_copy;
  Copy write_copy = plain_copy;
};

// out[i] = (inputs[0][i] op inputs[1][i] op ...) * scale for i < count. `out` and `copy` may be one of
// the inputs. A NaN is never lost by min or max. Integers wrap.
void reduce_raw(const RawSum& sum, size_t count);

void add_to(float* acc, const float* in, size_t count);
void scale_by(float* acc, float scale, size_t count);
// Rounds fp32 to nearest even into `dtype` (fp32, fp16 or bf16).
void store_rounded(DType dtype, const float* from, size_t count, void* out);

}  // namespace cgx
