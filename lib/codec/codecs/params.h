// Parameters that several codecs share, and those that need more than a line to parse.
#pragma once

#include <fmt/format.h>

#include <array>
#include <bit>
#include <string>
#include <string_view>

#include "codec/codec_row.h"
#include "codec/spec.h"
#include "codec/wire.h"

namespace cgx {

template <int kLow, int kHigh>
bool set_bits(std::string_view value, CodecSpec& spec) {
  const auto bits = parse_integer(value);
  if (!bits || *bits < kLow || *bits > kHigh) return false;
  spec.values.bits = static_cast<uint8_t>(*bits);
  return true;
}
inline std::string get_bits(const CodecSpec& spec) { return fmt::to_string(spec.values.bits); }

inline bool set_bucket(std::string_view value, CodecSpec& spec) {
  const auto bucket = parse_integer(value);
  if (!bucket || *bucket < 0 || *bucket > 65536) return false;
  if (*bucket != 0 && (*bucket < kLeastBucket || !std::has_single_bit(static_cast<uint64_t>(*bucket))))
    return false;
  spec.values.bucket = static_cast<uint32_t>(*bucket);
  return true;
}
inline std::string get_bucket(const CodecSpec& spec) { return fmt::to_string(spec.values.bucket); }

// The name of one of an enumeration's values, in the order of its declaration.
template <typename Enum, size_t N>
bool set_choice(const std::array<std::string_view, N>& names, std::string_view value, Enum& to) {
  for (size_t i = 0; i < N; ++i) {
    if (names[i] == value) {
      to = static_cast<Enum>(i);
      return true;
    }
  }
  return false;
}

inline constexpr std::array<std::string_view, 3> kNormNames = {"inf", "1", "2"};  // as enum Norm
inline bool set_norm(std::string_view value, CodecSpec& spec) {
  return set_choice(kNormNames, value, spec.values.norm);
}
inline std::string get_norm(const CodecSpec& spec) {
  return std::string(kNormNames[static_cast<size_t>(spec.values.norm)]);
}

inline bool set_levels(std::string_view value, CodecSpec& spec) {
  const auto levels = parse_integer(value);
  if (!levels || *levels < 1 || *levels > 127) return false;
  spec.values.levels = static_cast<uint16_t>(*levels);
  return true;
}
inline std::string get_levels(const CodecSpec& spec) { return fmt::to_string(spec.values.levels); }

// The levels that a code of `bits` holds beside zero and the sign.
constexpr uint32_t most_levels(uint32_t bits) { return (1u << (bits - 1)) - 1; }

// levels defaults to all that the width holds, and may not be more.
inline Status finish_levels(CodecSpec& spec) {
  const uint32_t most = most_levels(spec.values.bits);
  if (spec.values.levels == 0) spec.values.levels = static_cast<uint16_t>(most);
  if (spec.values.levels <= most) return {};
  return error(Code::kInvalidArgument, "levels must be 1 to {} at bits={}, not {}", most, spec.values.bits,
               spec.values.levels);
}

inline constexpr ParamInfo kBucketInfo = {"bucket", "a power of two 32..65536, or 0", "512",
                                          "elements that share metadata; 0: the whole tensor"};
inline constexpr ParamInfo kNormInfo = {"norm", "inf|1|2", "inf",
                                        "the norm of a bucket that scales its levels"};
inline constexpr ParamInfo kLevelsInfo = {"levels", "1..127 and at most 2^(bits-1)-1", "2^(bits-1)-1",
                                          "levels beside zero: u of D_sta, s of D_nat"};
inline constexpr ParamInfo kCodeBitsInfo = {"bits", "2..8", "4", "width of a code, sign included"};

}  // namespace cgx
