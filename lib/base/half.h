// fp16 and bf16 to fp32 and back, by bits and branch-free, rounded to nearest even: the same on every
// CPU and on the GPU, whether or not it has instructions for them. NaN stays NaN (quiet, the payload's
// top bits kept, as x86's F16C does); what is too large for fp16 becomes Inf.
#pragma once

#include <cstdint>

#include "base/hd.h"

namespace cgx {

CGX_HD uint16_t f32_to_f16(float x) {
  const uint32_t u = float_bits(x);
  const uint32_t magnitude = u & 0x7fffffffu;
  // Normal results: rebias the exponent, then round off 13 bits. A carry into the exponent is right.
  const uint32_t normal = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  // Subnormal results: adding 0.5 aligns the value to fp16's quantum 2^-24, rounded by the addition.
  const uint32_t tiny =
      float_bits(fadd(bits_float(magnitude < 0x38800000u ? magnitude : 0u), 0.5f)) - 0x3f000000u;
  const uint32_t nan = 0x7e00u | ((magnitude >> 13) & 0x1ffu);
  uint32_t h = magnitude < 0x38800000u ? tiny : normal;
  h = magnitude >= 0x47800000u ? 0x7c00u : h;  // 65536 and above
  h = magnitude > 0x7f800000u ? nan : h;
  return static_cast<uint16_t>(h | ((u >> 16) & 0x8000u));
}

CGX_HD float f16_to_f32(uint32_t h) {
  const uint32_t magnitude = h & 0x7fffu;
  const uint32_t sign = (h & 0x8000u) << 16;
  const uint32_t shifted = magnitude << 13;
  // A subnormal is its bits times 2^-24: put beside 2^-14 as a float, 2^-14 taken away again (exact).
  const uint32_t below = magnitude < 0x400u ? 0xffffffffu : 0u;
  const uint32_t base = 0x38800000u & below;
  const uint32_t finite =
      float_bits(fsub(bits_float(shifted + 0x38000000u + (0x00800000u & below)), bits_float(base)));
  const uint32_t quiet = magnitude > 0x7c00u ? 0x00400000u : 0u;
  const uint32_t special = shifted | 0x7f800000u | quiet;
  return bits_float((magnitude >= 0x7c00u ? special : finite) | sign);
}

CGX_HD uint16_t f32_to_bf16(float x) {
  const uint32_t u = float_bits(x);
  const uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  const uint32_t nan = (u >> 16) | 0x40u;
  return static_cast<uint16_t>((u & 0x7fffffffu) > 0x7f800000u ? nan : rounded);
}

CGX_HD float bf16_to_f32(uint32_t h) { return bits_float(h << 16); }

}  // namespace cgx
