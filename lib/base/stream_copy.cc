#include "base/stream_copy.h"

#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace cgx {

void plain_copy(void* to, const void* from, size_t bytes) { std::memcpy(to, from, bytes); }

#if defined(__SSE2__)

void stream_copy(void* to, const void* from, size_t bytes) {
  auto* out = static_cast<uint8_t*>(to);
  const auto* in = static_cast<const uint8_t*>(from);
  const size_t head = (kLineBytes - reinterpret_cast<uintptr_t>(out) % kLineBytes) % kLineBytes;
  if (bytes < head + kLineBytes) {
    std::memcpy(out, in, bytes);
    return;
  }
  std::memcpy(out, in, head);
  size_t i = head;
  for (; i + kLineBytes <= bytes; i += kLineBytes) {
    for (size_t j = i; j < i + kLineBytes; j += 16) {
      const __m128i four = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in + j));
      _mm_stream_si128(reinterpret_cast<__m128i*>(out + j), four);
    }
  }
  std::memcpy(out + i, in + i, bytes - i);
}

void stream_fence() { _mm_sfence(); }

#else

void stream_copy(void* to, const void* from, size_t bytes) { plain_copy(to, from, bytes); }
void stream_fence() {}

#endif

}  // namespace cgx
