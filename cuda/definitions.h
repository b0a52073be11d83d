// Launches the plain kernels of definitions.cu on the current device's default stream.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/random.h"
#include "codec/spec.h"

namespace cgx::cuda {

// Encodes whole units (and a last partial one) of `count` elements at x, both in device memory, as the
// CPU drivers do, byte for byte. Element i draws random number first + i. Returns a cudaError_t.
int encode_units(const ValueSpec& spec, const float* x, size_t count, const RandomKey& key, uint64_t first,
                 uint8_t* out);
int decode_units(const ValueSpec& spec, const uint8_t* in, size_t count, float* out);

}  // namespace cgx::cuda
