// See shm_flush.h.
#include "transport/shm_flush.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

namespace cgx {

#if defined(__x86_64__)

bool flushing_pays() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__get_cpuid(0, &eax, &ebx, &ecx, &edx) == 0) return false;
  const bool amd = ebx == signature_AMD_ebx && ecx == signature_AMD_ecx && edx == signature_AMD_edx;
  return amd && __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && (ebx & bit_CLFLUSHOPT) != 0;
}

__attribute__((target("clflushopt"))) void flush_lines(const uint8_t* memory, size_t bytes) {
  for (size_t i = 0; i < bytes; i += 64) _mm_clflushopt(const_cast<uint8_t*>(memory + i));
}

#else

bool flushing_pays() { return false; }
void flush_lines(const uint8_t*, size_t) {}

#endif

}  // namespace cgx
