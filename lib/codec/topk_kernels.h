// The loops that top-k selection spends its time in, compiled once for each CPU instruction set and
// chosen at run time.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/dtype.h"

namespace cgx {

// What is appended is written before it is known whether it stays: this many elements beyond the last.
inline constexpr size_t kKernelSlack = 16;

// A stretch of the input: element i is x[i], plus before[i] where `before` is not null. Halves have neither
// `before` nor `sum`.
struct Stretch {
  DType dtype;
  const void* x;
  const float* before;
  float* sum;      // becomes the elements where not null; may be `before`
  size_t count;    // elements
  uint32_t first;  // index of the first
  size_t usual;    // of 64 elements, up to so many (kKernelSlack at most) cost no mispredicted branch

  const float* floats() const { return static_cast<const float*>(x); }
  const uint16_t* halves() const { return static_cast<const uint16_t*>(x); }
};

// Of Inf. Halves are compared with bounds up to this one: above, widening does not keep the order of all
// NaNs.
inline constexpr uint32_t kLastHalfBound = 0x7f800000u;

struct TopKKernels {
  // Writes the elements whose magnitude keys are `bound` or more, and their indices, in order; returns
  // how many. There is room for so many values, and for kKernelSlack more indices: `usual` may be more.
  // REQUIRES: bound <= kLastHalfBound where elements are halves.
  size_t (*collect)(const Stretch& from, uint32_t bound, float* values, uint32_t* indices);
  // How many of x[0, count) have keys of `bound` or more.
  size_t (*count)(const float* x, size_t count, uint32_t bound);
  // The largest of their keys; 0 where there are none.
  uint32_t (*largest)(const float* x, size_t count);
  // Drops those of x[0, count) whose keys are below `bound`, and their indices; returns how many stay.
  size_t (*keep)(float* x, uint32_t* indices, size_t count, uint32_t bound);
  // Copies those of x[0, count) whose keys are in [low, high); returns how many. `out` has room for
  // kKernelSlack more.
  size_t (*between)(const float* x, size_t count, uint32_t low, uint32_t high, float* out);
};

// For the best instruction set of this CPU, or the forced one.
const TopKKernels& topk_kernels();

}  // namespace cgx
