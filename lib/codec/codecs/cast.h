// cast: fp16 or bf16, rounded to nearest even. A finite value never becomes Inf: above the largest
// finite half it saturates, and is counted.
#include <array>
#include <string>

#include "base/half.h"
#include "codec/codecs/params.h"

CGX_BEGIN_CODEC

struct CastCoder {
  HalfType half;
};

template <typename F>
CGX_HD auto cast_encode(F x, const CastCoder& coder) {
  using U = decltype(float_bits(x));
  const U h = coder.half == HalfType::kFp16 ? U(f32_to_f16(x)) : U(f32_to_bf16(x));
  const uint32_t inf = coder.half == HalfType::kFp16 ? 0x7c00u : 0x7f80u;
  const U saturated = select((h & 0x7fffu) == inf, h - 1u, h);
  return select(is_finite_bits(float_bits(x)), saturated, h);
}

// Of magnitudes below those that Cast::count_from() tells.
template <typename F>
CGX_HD auto cast_encode_plain(F x, const CastCoder& coder) {
  using U = decltype(float_bits(x));
  if (coder.half == HalfType::kFp16) return U(f32_to_f16(x));
  const U u = float_bits(x);
  return (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
}

template <typename U>
CGX_HD auto cast_decode(U code, const CastCoder& coder) {
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
  template <typename F, typename R>
  CGX_HD static auto encode(F x, const Coder& coder, R) {
    return cast_encode(x, coder);
  }
  template <typename F>
  CGX_HD static auto encode_plain(F x, const Coder& coder) {
    return cast_encode_plain(x, coder);
  }
  template <typename U>
  CGX_HD static auto decode(U code, const Coder& coder) {
    return cast_decode(code, coder);
  }
  // Magnitudes (as bits) at which the encoder has something to count.
  static uint32_t count_from(const Coder& coder) {
    return coder.half == HalfType::kFp16 ? 0x477ff000u : 0x7f7f8000u;
  }
};

CGX_END_CODEC
