// Host/device arithmetic: the only operations codec definitions may use on floating-point values.
// Each is one IEEE-754 operation, rounded to nearest even, never contracted: on the device through
// the __f*_rn intrinsics, on the host because the build bans contraction (cmake/numerics.cmake).
#pragma once

#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#define CGX_HD __host__ __device__ __forceinline__
#else
#define CGX_HD inline __attribute__((always_inline))
#endif

namespace cgx {

CGX_HD uint32_t float_bits(float x) {
#ifdef __CUDA_ARCH__
  return __float_as_uint(x);
#else
  return __builtin_bit_cast(uint32_t, x);
#endif
}

CGX_HD float bits_float(uint32_t u) {
#ifdef __CUDA_ARCH__
  return __uint_as_float(u);
#else
  return __builtin_bit_cast(float, u);
#endif
}

#ifdef __CUDA_ARCH__
CGX_HD float fadd(float a, float b) { return __fadd_rn(a, b); }
CGX_HD float fsub(float a, float b) { return __fsub_rn(a, b); }
CGX_HD float fmul(float a, float b) { return __fmul_rn(a, b); }
CGX_HD float fdiv(float a, float b) { return __fdiv_rn(a, b); }
CGX_HD double dadd(double a, double b) { return __dadd_rn(a, b); }
CGX_HD double dmul(double a, double b) { return __dmul_rn(a, b); }
CGX_HD double dsqrt(double a) { return __dsqrt_rn(a); }
#else
CGX_HD float fadd(float a, float b) { return a + b; }
CGX_HD float fsub(float a, float b) { return a - b; }
CGX_HD float fmul(float a, float b) { return a * b; }
CGX_HD float fdiv(float a, float b) { return a / b; }
CGX_HD double dadd(double a, double b) { return a + b; }
CGX_HD double dmul(double a, double b) { return a * b; }
CGX_HD double dsqrt(double a) { return __builtin_sqrt(a); }
#endif

CGX_HD bool is_finite_bits(uint32_t u) { return (u & 0x7f800000u) != 0x7f800000u; }

// Monotone map of non-NaN floats onto unsigned integers (-0 < +0): min and max fold on these, so
// their result does not depend on the order of comparison.
CGX_HD uint32_t sort_key(uint32_t u) { return u ^ ((0u - (u >> 31)) | 0x80000000u); }
CGX_HD uint32_t from_sort_key(uint32_t k) { return (k & 0x80000000u) ? (k & 0x7fffffffu) : ~k; }

}  // namespace cgx
