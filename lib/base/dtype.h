// Element types. The values are those of cgx_dtype in cgx.h.
#pragma once

#include <cstddef>
#include <cstdint>

namespace cgx {

enum class DType : int32_t {
  kF32 = 0,
  kF16 = 1,
  kBF16 = 2,
  kF64 = 3,
  kI8 = 4,
  kU8 = 5,
  kI16 = 6,
  kI32 = 7,
  kI64 = 8,
};
inline constexpr int kDTypeCount = 9;

constexpr size_t dtype_bytes(DType t) {
  switch (t) {
    case DType::kF64:
    case DType::kI64:
      return 8;
    case DType::kF32:
    case DType::kI32:
      return 4;
    case DType::kF16:
    case DType::kBF16:
    case DType::kI16:
      return 2;
    case DType::kI8:
    case DType::kU8:
      return 1;
  }
  return 0;
}

constexpr const char* dtype_name(DType t) {
  constexpr const char* kNames[] = {"fp32",  "fp16",  "bf16",  "fp64", "int8",
                                    "uint8", "int16", "int32", "int64"};
  return kNames[static_cast<int32_t>(t)];
}

// Codecs take these; everything else crosses the wire raw.
constexpr bool is_encodable(DType t) { return t == DType::kF32 || t == DType::kF16 || t == DType::kBF16; }

}  // namespace cgx
