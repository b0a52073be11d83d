// Top-k: keeps the k elements of largest magnitude as (index, value) pairs; the rest decode to zero.
// The order is total, so the choice is the same on every machine: by the bits of |x| read as an
// integer (NaN above Inf above every finite value: never hidden), then the lower index first.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/hd.h"
#include "codec/codecs/params.h"

namespace cgx {

// How many of `count` elements a ratio keeps: ceil(ratio * count), at least one. A ratio written in
// decimal is off by up to 2^-53 of itself, the product by another; taking 2^-50 off keeps ceil() from
// turning that into one element more (0.07 of 100 is 7).
// REQUIRES: 0 < ratio <= 1, 0 < count <= 2^32.
CGX_HD uint64_t kept_count(double ratio, uint64_t count) {
  const double share = dmul(dmul(ratio, static_cast<double>(count)), 1 - 0x1p-50);
  uint64_t k = static_cast<uint64_t>(share);
  if (static_cast<double>(k) < share) ++k;
  return k < 1 ? 1 : k > count ? count : k;
}

// What magnitudes are ordered by.
CGX_HD uint32_t magnitude_key(uint32_t float_bits) { return float_bits & 0x7fffffffu; }

// The parameter of sparse codecs.
inline bool set_ratio(std::string_view value, CodecSpec& spec) {
  const auto ratio = parse_number(value);
  if (!ratio || !(*ratio > 0 && *ratio <= 1)) return false;
  spec.ratio = *ratio;
  return true;
}
inline std::string get_ratio(const CodecSpec& spec) { return print_number(spec.ratio); }
inline constexpr ParamRow kRatioRow = {
    {"ratio", "above 0, at most 1", "0.01", "share of the elements kept; at least one is"},
    set_ratio,
    get_ratio};

inline constexpr std::array<std::string_view, 2> kIndexNames = {"plain", "packed"};  // as enum IndexCoding
inline bool set_indices(std::string_view value, CodecSpec& spec) {
  return set_choice(kIndexNames, value, spec.indices);
}
inline std::string get_indices(const CodecSpec& spec) {
  return spec.indices == IndexCoding::kPacked ? "packed" : "";
}

struct TopK {
  static constexpr CodecKind kKind = CodecKind::kTopK;
  static constexpr const char* kName = "topk";
  static constexpr const char* kSummary = "the k elements of largest magnitude, exactly";
  static constexpr std::array<ParamRow, 2> kParams = {
      kRatioRow, ParamRow{{"indices", "plain|packed", "plain",
                           "which elements: 32 bits each, or Elias-Fano, about 2 + log2(1/ratio) bits"},
                          set_indices,
                          get_indices}};
  static constexpr CodecSpec kInitial = {.kind = kKind, .ratio = 0.01, .values = {}};

  static bool is_unbiased(const CodecSpec&) { return false; }
  static Status check_error_feedback(const CodecSpec& spec);
  static size_t layout_bytes(const CodecSpec& spec, DType dtype, size_t count);
  static Status encode(const EncodeArgs& args);
  static Status decode(const DecodeArgs& args);
};

}  // namespace cgx
