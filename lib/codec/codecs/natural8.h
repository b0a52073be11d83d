// natural8: natural compression in a byte: a sign and a 7-bit code of the exponent. Code 0 is zero, k
// = 1..126 stands for 2^(k - bias), 127 for what is not finite. Below the smallest a coin with the right
// probability decides, so it stays unbiased; above the largest it saturates and is counted.
#pragma once

#include <array>
#include <string>

#include "base/hd.h"
#include "codec/codecs/params.h"
#include "codec/wire.h"

namespace cgx {

struct Natural8Coder {
  uint32_t offset;    // from a code to its exponent field, 127 - bias
  float to_smallest;  // 2^(bias - 1): x in units of the smallest power
};

CGX_HD Natural8Coder natural8_coder(int32_t bias) {
  return {static_cast<uint32_t>(127 - bias), bits_float(static_cast<uint32_t>(bias + 126) << 23)};
}

CGX_HD uint32_t natural8_encode(float x, const Natural8Coder& coder, uint32_t draw) {
  const uint32_t u = float_bits(x);
  const uint32_t magnitude = u & 0x7fffffffu;
  const uint32_t random = draw >> 9;
  const bool below = (magnitude >> 23) < coder.offset + 1;
  const float coin =
      fmul(fmul(bits_float(below ? magnitude : 0u), coder.to_smallest), 0x1p23f);  // below 2^23
  const uint32_t low = (static_cast<uint32_t>(static_cast<int32_t>(coin)) + random) >> 23;
  const uint32_t high = ((magnitude + random) >> 23) - coder.offset;
  uint32_t code = below ? low : high;
  code = code < 126 ? code : 126;
  code = is_finite_bits(u) ? code : 127;
  return code | ((u >> 31) << 7);
}

CGX_HD float natural8_decode(uint32_t code, const Natural8Coder& coder) {
  const uint32_t k = code & 127;
  uint32_t exponent = k == 0 ? 0 : k + coder.offset;
  exponent = k == 127 ? 255 : exponent;
  return bits_float((exponent << 23) | ((code >> 7) << 31));
}

struct Natural8 {
  static constexpr CodecKind kKind = CodecKind::kNatural8;
  static constexpr const char* kName = "natural8";
  static constexpr const char* kSummary = "natural compression in a byte: sign and a 7-bit exponent code";
  static constexpr std::array<ParamRow, 1> kParams = {
      {{{"bias", "-1..127", "110", "code k stands for 2^(k-bias): the range is 2^(1-bias) to 2^(126-bias)"},
        [](std::string_view v, CodecSpec& s) {
          const auto bias = parse_integer(v);
          if (!bias || *bias < -1 || *bias > 127) return false;
          s.values.bias = static_cast<int16_t>(*bias);
          return true;
        },
        [](const CodecSpec& s) { return fmt::to_string(s.values.bias); }}}};
  static constexpr CodecSpec kInitial = {.kind = kKind, .values = {.kind = kKind, .bias = 110}};

  static bool is_unbiased(const CodecSpec&) { return true; }
  static constexpr size_t unit(const ValueSpec&) { return kGroup; }
  static constexpr size_t unit_bytes(const ValueSpec&, size_t m) { return m; }

  // Element by element.
  using Code = uint8_t;
  using Coder = Natural8Coder;
  static constexpr int kCodeBits = 8;
  static constexpr bool kRandom = true;
  static Coder coder(const ValueSpec& spec) { return natural8_coder(spec.bias); }
  CGX_HD static Code encode(float x, const Coder& coder, uint32_t draw) {
    return static_cast<Code>(natural8_encode(x, coder, draw));
  }
  CGX_HD static float decode(Code code, const Coder& coder) { return natural8_decode(code, coder); }
  // Magnitudes (as bits) from which the encoder has something to count: above 2^(126 - bias).
  static uint32_t count_from(const Coder& coder) { return ((126 + coder.offset) << 23) + 1; }
};

}  // namespace cgx
