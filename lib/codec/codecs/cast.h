// cast: fp16 or bf16, rounded to nearest even. A finite value never becomes Inf: above the largest
// finite half it saturates, and is counted.
#pragma once

#include <array>
#include <string>

#include "base/half.h"
#include "codec/codecs/params.h"

namespace cgx {

struct CastCoder {
  HalfType half;
};

CGX_HD uint16_t cast_encode(float x, const CastCoder& coder) {
  const uint32_t h = coder.half == HalfType::kFp16 ? f32_to_f16(x) : f32_to_bf16(x);
  const uint32_t inf = coder.half == HalfType::kFp16 ? 0x7c00u : 0x7f80u;
  const bool overflow = (h & 0x7fffu) == inf && is_finite_bits(float_bits(x));
  return static_cast<uint16_t>(overflow ? h - 1 : h);
}

CGX_HD float cast_decode(uint16_t code, const CastCoder& coder) {
  return coder.half == HalfType::kFp16 ? f16_to_f32(code) : bf16_to_f32(code);
}

struct Cast {
  static constexpr CodecKind kKind = CodecKind::kCast;
  static constexpr const char* kName = "cast";
  static constexpr const char* kSummary = "half precision, rounded to nearest even";
  static constexpr std::array<std::string_view, 2> kHalfNames = {"fp16", "bf16"};  // as enum HalfType
  static constexpr std::array<ParamRow, 1> kParams = {
      {{{"type", "fp16|bf16", "", "the half-precision type, written without its name: cast:fp16"},
        [](std::string_view v, CodecSpec& s) { return set_choice(kHalfNames, v, s.values.half); },
        [](const CodecSpec& s) { return std::string(kHalfNames[static_cast<size_t>(s.values.half)]); },
        true}}};
  static constexpr CodecSpec kInitial = {.kind = kKind, .values = {.kind = kKind}};

  static bool is_unbiased(const CodecSpec&) { return false; }
  static constexpr size_t unit(const ValueSpec&) { return kGroup; }
  static constexpr size_t unit_bytes(const ValueSpec&, size_t m) { return 2 * m; }

  // Element by element.
  using Code = uint16_t;
  using Coder = CastCoder;
  static constexpr int kCodeBits = 16;
  static constexpr bool kRandom = false;
  static Coder coder(const ValueSpec& spec) { return {spec.half}; }
  CGX_HD static Code encode(float x, const Coder& coder, uint32_t) { return cast_encode(x, coder); }
  CGX_HD static float decode(Code code, const Coder& coder) { return cast_decode(code, coder); }
  // Magnitudes (as bits) at which the encoder has something to count.
  static uint32_t count_from(const Coder& coder) {
    return coder.half == HalfType::kFp16 ? 0x477ff000u : 0x7f7f8000u;
  }
};

}  // namespace cgx
