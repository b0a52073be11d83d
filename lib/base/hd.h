// Host/device arithmetic: the only operations codec definitions may use on floating-point values.
// Each is one IEEE-754 operation, rounded to nearest even, never contracted: on the device through
// the __f*_rn intrinsics, on the host because the build bans contraction (cmake/numerics.cmake). A definition
// that is a template over its words and uses only these and the operators of integers is also compiled
// for vectors of elements, for which codec/simd/lanes-inl.h overloads them.
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

// Toward zero. REQUIRES: 0 <= x < 2^31.
CGX_HD uint32_t whole_part(float x) { return static_cast<uint32_t>(static_cast<int32_t>(x)); }
// REQUIRES: u < 2^31.
CGX_HD float to_float(uint32_t u) { return static_cast<float>(static_cast<int32_t>(u)); }

CGX_HD uint32_t select(bool condition, uint32_t yes, uint32_t no) { return condition ? yes : no; }
CGX_HD float select(bool condition, float yes, float no) { return condition ? yes : no; }
// whole_part(x) where the condition holds; there only, x is within its range.
CGX_HD uint32_t select_whole(bool condition, float x, uint32_t no) { return condition ? whole_part(x) : no; }
CGX_HD uint32_t smaller(uint32_t a, uint32_t b) { return a < b ? a : b; }
CGX_HD uint32_t larger(uint32_t a, uint32_t b) { return a > b ? a : b; }
// As two's complement.
CGX_HD bool less_signed(uint32_t a, uint32_t b) { return static_cast<int32_t>(a) < static_cast<int32_t>(b); }
CGX_HD uint32_t larger_signed(uint32_t a, uint32_t b) {
  return static_cast<int32_t>(a) > static_cast<int32_t>(b) ? a : b;
}

// The whole part of a number in fixed point with 23 fraction bits, plus one with the fraction's probability.
// REQUIRES: fixed <= 255 * 2^23.
CGX_HD uint32_t round_with(uint32_t draw, uint32_t fixed) { return (fixed + (draw >> 9)) >> 23; }

CGX_HD bool is_finite_bits(uint32_t u) { return (u & 0x7f800000u) != 0x7f800000u; }

// Monotone map of non-NaN floats onto unsigned integers (-0 < +0): min and max fold on these, so
// their result does not depend on the order of comparison.
CGX_HD uint32_t sort_key(uint32_t u) { return u ^ ((0u - (u >> 31)) | 0x80000000u); }
CGX_HD uint32_t from_sort_key(uint32_t k) { return (k & 0x80000000u) ? (k & 0x7fffffffu) : ~k; }

}  // namespace cgx
