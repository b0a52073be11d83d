// Copying into memory that another core reads next: past this core's own caches where the CPU has stores
// for that. Lines that a peer holds then need not be fetched back before they are written, which on
// cores without a common cache is most of the time of a copy (docs/BENCHMARKS.md).
#pragma once

#include <cstddef>
#include <cstdint>

namespace cgx {

inline constexpr size_t kLineBytes = 64;  // of the caches
inline bool is_line_aligned(const void* at) { return reinterpret_cast<uintptr_t>(at) % kLineBytes == 0; }

using Copy = void (*)(void* to, const void* from, size_t bytes);

// memcpy, as a function that can be pointed at.
void plain_copy(void* to, const void* from, size_t bytes);
// memcpy; other threads and processes must not be told of it before stream_fence().
void stream_copy(void* to, const void* from, size_t bytes);
void stream_fence();

}  // namespace cgx
