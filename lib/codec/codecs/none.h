// none: the elements themselves, in the tensor's own type.
#pragma once

#include <cstddef>

#include "codec/codec_row.h"
#include "codec/spec.h"

namespace cgx {

struct None {
  static constexpr CodecKind kKind = CodecKind::kNone;
  static constexpr const char* kName = "none";
  static constexpr const char* kSummary = "uncompressed: the elements in the tensor's own type";
  static constexpr std::span<const ParamRow> kParams = {};
  static constexpr CodecSpec kInitial = {};

  static Status check_error_feedback(const CodecSpec&) {
    return error(Code::kInvalidArgument, "none loses nothing, so there is no error to feed back: drop +ef");
  }
  static bool is_unbiased(const CodecSpec&) { return true; }
  static constexpr size_t unit(const ValueSpec&) { return 256; }
  // Never smaller than the raw elements, so every unit is raw and no arithmetic is needed.
  static constexpr size_t unit_bytes(const ValueSpec&, size_t m) { return 8 * m; }
};

}  // namespace cgx
