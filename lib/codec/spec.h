// CodecSpec: what the user writes ("maxmin:bits=4,bucket=512", "topk:ratio=0.01|natural") as a value.
// Grammar: codec[:param=value,...][|inner codec][+ef]. Each codec's parameters, ranges and defaults are
// its row in codec_list.h. "auto[:error=0.03][+ef]" is no codec but leave to choose one: see candidates.h.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"

namespace cgx {

enum class CodecKind : uint8_t {
  kNone,       // raw elements
  kCast,       // fp16 or bf16, round to nearest even
  kMaxMin,     // bucketed, uniform levels between the bucket's min and max
  kDither,     // standard dithering (QSGD): uniform levels of |x| / norm
  kNatDither,  // natural dithering: power-of-two levels of |x| / norm (bits=4, norm=inf is LUQ)
  kNatural,    // natural compression: sign and exponent, 9 bits
  kNatural8,   // natural compression in a sign and a 7-bit exponent code
  kTopK,       // the k largest magnitudes
  kRandK,      // one uniformly drawn element from each of k strata, scaled up
  kAuto,       // no codec: a collective's policy puts one in its place before anything is encoded
};

enum class Rounding : uint8_t { kStochastic, kNearest };
enum class Norm : uint8_t { kInf, kL1, kL2 };
enum class HalfType : uint8_t { kFp16, kBf16 };
enum class IndexCoding : uint8_t { kPlain, kPacked };

// How numbers are written: a codec that is not a sparsifier. Fields that a codec does not name keep
// these defaults, so that == compares what matters.
struct ValueSpec {
  CodecKind kind = CodecKind::kNone;
  HalfType half = HalfType::kFp16;            // cast
  uint8_t bits = 0;                           // maxmin, dither, natdither
  Rounding rounding = Rounding::kStochastic;  // maxmin
  Norm norm = Norm::kInf;                     // dither, natdither
  uint16_t levels = 0;                        // dither, natdither: the papers' u or s, never 0 there
  int16_t bias = 0;                           // natural8: code k stands for 2^(k - bias)
  uint32_t bucket = 0;                        // elements sharing metadata; 0: the whole block

  bool operator==(const ValueSpec&) const = default;
};

struct CodecSpec {
  CodecKind kind = CodecKind::kNone;          // kTopK, kRandK, or values.kind
  double ratio = 0;                           // topk, randk: share of the elements kept, (0, 1]
  IndexCoding indices = IndexCoding::kPlain;  // topk: how it says which are kept
  ValueSpec values;
  bool error_feedback = false;  // "+ef": collectives keep what each rounding lost and add it next time
  double error = 0;             // auto: the largest NMSE of one rounding that the caller allows

  bool operator==(const CodecSpec&) const = default;
};

// Parses and validates. Errors name the spec, the parameter, its value and its range.
Result<CodecSpec> parse_spec(std::string_view text);
// The canonical text: every parameter spelled out, but plain indices, which older texts do not name;
// parse_spec(to_string(s)) == s.
std::string to_string(const CodecSpec& spec);

inline bool is_auto(const CodecSpec& spec) { return spec.kind == CodecKind::kAuto; }

inline bool is_sparse(const CodecSpec& spec) {
  return spec.kind == CodecKind::kTopK || spec.kind == CodecKind::kRandK;
}

}  // namespace cgx
