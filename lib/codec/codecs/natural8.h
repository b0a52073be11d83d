// natural8: natural compression in a byte: a sign and a 7-bit code of the exponent. Code 0 is zero, k
// = 1..126 stands for 2^(k - bias), 127 for what is not finite. Below the smallest a coin with the right
// probability decides, so it stays unbiased; above the largest it saturates and is counted.
#include <array>
#include <string>

#include "base/hd.h"
#include "codec/codecs/params.h"
#include "codec/wire.h"

CGX_BEGIN_CODEC

struct Natural8Coder {
  uint32_t offset;    // from a code to its exponent field, 127 - bias
  float to_smallest;  // 2^(bias - 1): x in units of the smallest power
};

CGX_HD Natural8Coder natural8_coder(int32_t bias) {
  return {static_cast<uint32_t>(127 - bias), bits_float(static_cast<uint32_t>(bias + 126) << 23)};
}

// Inside the range the magnitude's own bits are a fixed-point number of exponents; below it x is, in units of
// the smallest power, less than 1.
template <typename F, typename R>
CGX_HD auto natural8_encode(F x, const Natural8Coder& coder, R draw) {
  const auto u = float_bits(x);
  const auto magnitude = u & 0x7fffffffu;
  const auto inside = smaller(magnitude, (126 + coder.offset) << 23) - (coder.offset << 23);
  const auto fixed = select_whole(magnitude < ((coder.offset + 1) << 23),
                                  fmul(fmul(bits_float(magnitude), coder.to_smallest), 0x1p23f), inside);
  const auto code = select(is_finite_bits(u), round_with(draw, fixed), decltype(fixed)(127u));
  return code | ((u >> 24) & 0x80u);
}

// Of codes 1 to 126: the exponent, which is a byte's work.
template <typename B>
CGX_HD auto natural8_exponent(B code, const Natural8Coder& coder) {
  return (code & 127u) + coder.offset;
}

template <typename U>
CGX_HD auto natural8_decode(U code, const Natural8Coder& coder) {
  const U k = code & 127u;
  const U exponent = select(k == 0u, U(0u), k + coder.offset);
  return bits_float((select(k == 127u, U(255u), exponent) << 23) | ((code >> 7) << 31));
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
  template <typename F, typename R>
  CGX_HD static auto encode(F x, const Coder& coder, R draw) {
    return natural8_encode(x, coder, draw);
  }
  // Elements that round well inside the range are as natural has them.
  CGX_HD static ExponentRange exponents(const Coder& coder) {
    return {static_cast<uint8_t>(coder.offset + 2), static_cast<uint8_t>(coder.offset + 125),
            static_cast<uint8_t>(coder.offset)};
  }
  template <typename U>
  CGX_HD static auto decode(U code, const Coder& coder) {
    return natural8_decode(code, coder);
  }
  // Its exponent, for codes kPlainFirst to kPlainLast under kPlainMask.
  template <typename B>
  CGX_HD static auto exponent(B code, const Coder& coder) {
    return natural8_exponent(code, coder);
  }
  static constexpr uint8_t kPlainMask = 0x7f, kPlainFirst = 1, kPlainLast = 126;
  // Magnitudes (as bits) from which the encoder has something to count: above 2^(126 - bias).
  static uint32_t count_from(const Coder& coder) { return ((126 + coder.offset) << 23) + 1; }
};

CGX_END_CODEC
