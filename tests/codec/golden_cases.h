// The golden frames: which specs, on which input. The files in golden/ were written once by
// cgx_write_golden; a change that needs them rewritten changes the wire format.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "base/half.h"
#include "base/hd.h"
#include "codec/codec.h"

namespace cgx::golden {

struct Case {
  const char* spec;
  DType dtype = DType::kF32;
  size_t count = 1000;  // whole groups and a partial one
  bool specials = false;
};

inline const std::vector<Case>& cases() {
  static const std::vector<Case> kCases = {
      {"none", DType::kF32, 20},
      {"none", DType::kBF16, 20},
      {"cast:fp16"},
      {"cast:bf16"},
      {"cast:fp16", DType::kF32, 300, true},
      {"natural"},
      {"natural", DType::kF16, 300},
      {"natural", DType::kF32, 300, true},
      {"natural8"},
      {"natural8:bias=100", DType::kBF16, 300},
      {"natural8", DType::kF32, 300, true},
      {"maxmin:bits=1"},
      {"maxmin:bits=2,bucket=64"},
      {"maxmin:bits=3,bucket=128"},
      {"maxmin:bits=4"},
      {"maxmin:bits=4", DType::kF16},
      {"maxmin:bits=4", DType::kBF16},
      {"maxmin:bits=4", DType::kF32, 1000, true},
      {"maxmin:bits=4,rounding=nearest"},
      {"maxmin:bits=4,bucket=0", DType::kF32, 777},
      {"maxmin:bits=5,bucket=256"},
      {"maxmin:bits=6,bucket=1024", DType::kF32, 2100},
      {"maxmin:bits=7,bucket=32"},
      {"maxmin:bits=8"},
      {"dither:bits=2,norm=1"},
      {"dither:bits=4"},
      {"dither:bits=4", DType::kF16},
      {"dither:bits=4", DType::kF32, 1000, true},
      {"dither:bits=5,norm=2,levels=12,bucket=1024", DType::kF32, 2100},
      {"dither:bits=8,norm=2,bucket=0", DType::kF32, 777},
      {"natdither:bits=2,norm=1,bucket=128"},
      {"natdither:bits=4"},
      {"natdither:bits=4", DType::kBF16},
      {"natdither:bits=4", DType::kF32, 1000, true},
      {"natdither:bits=5,norm=2,bucket=32"},
      {"natdither:bits=8,norm=2,levels=100,bucket=0", DType::kF32, 777},
      {"topk:ratio=0.01"},
      {"topk:ratio=0.1", DType::kF16},
      {"topk:ratio=0.1", DType::kF32, 1000, true},
      {"topk:ratio=0.3|natural"},
      {"topk:ratio=0.3|maxmin:bits=4,bucket=64"},
      {"topk:ratio=0.01,indices=packed"},
      {"topk:ratio=0.3,indices=packed|natural", DType::kF32, 1000, true},
      {"topk:ratio=0.05,indices=packed", DType::kBF16, 9000},
      {"randk:ratio=0.05"},
      {"randk:ratio=0.3|natural", DType::kBF16},
      {"randk:ratio=0.5|maxmin:bits=3,bucket=0"},
  };
  return kCases;
}

// "maxmin-bits-4_bf16_1000_special.cgx"
inline std::string file_name(const Case& c) {
  std::string name = c.spec;
  std::replace_if(
      name.begin(), name.end(), [](char ch) { return ch == ':' || ch == '=' || ch == ',' || ch == '|'; },
      '-');
  return name + "_" + dtype_name(c.dtype) + "_" + std::to_string(c.count) + (c.specials ? "_special" : "") +
         ".cgx";
}

// The bits of element i: any sign and mantissa, magnitudes spread over 2^-20..2 as gradients' are, by
// integer arithmetic alone.
inline uint32_t element_bits(uint32_t i) {
  uint32_t h = (i + 1) * 0x9e3779b1u;
  h = (h ^ (h >> 15)) * 0x85ebca77u;
  h = (h ^ (h >> 13)) * 0xc2b2ae3du;
  h ^= h >> 16;
  const uint32_t exponent = 127 - static_cast<uint32_t>(__builtin_ctz(h | 0x100000u));
  return (h & 0x80000000u) | exponent << 23 | ((h >> 5) & 0x7fffffu);
}

// One special every 64 elements, each kind several times: zeros, subnormals, the largest, Inf and NaN.
// Non-finite ones stay in the first 256 elements, so that later buckets show finite extremes.
inline uint32_t special_bits(uint32_t i) {
  constexpr uint32_t kFinite[] = {0x00000000u, 0x80000000u, 0x00000001u, 0x807fffffu,
                                  0x7f7fffffu, 0xff7fffffu, 0x00800000u, 0x477ff000u};
  constexpr uint32_t kAll[] = {0x7f800000u, 0x00000000u, 0x7fc00000u, 0xff800000u};
  return i < 256 ? kAll[i / 64 % 4] : kFinite[i / 64 % 8];
}

inline std::vector<uint8_t> input(const Case& c) {
  std::vector<uint8_t> out(c.count * dtype_bytes(c.dtype));
  for (uint32_t i = 0; i < c.count; ++i) {
    const bool special = c.specials && i % 64 == 17;
    const uint32_t bits = special ? special_bits(i) : element_bits(i);
    const float x = bits_float(bits);
    const uint16_t half = c.dtype == DType::kF16 ? f32_to_f16(x) : f32_to_bf16(x);
    if (c.dtype == DType::kF32) {
      memcpy(out.data() + 4 * i, &bits, 4);
    } else {
      memcpy(out.data() + 2 * i, &half, 2);
    }
  }
  return out;
}

inline BlockContext context() {
  BlockContext context;
  context.key = {.seed = 0x0123456789abcdefu, .operation = 41, .tensor = 7, .rank = 3, .stage = 1};
  context.first = 512;
  return context;
}

}  // namespace cgx::golden
