// The C interface to codecs, and the lists of codecs and algorithms.
#include <nlohmann/json.hpp>

#include "codec/codec.h"
#include "codec/codec_row.h"
#include "comm/capi_guard.h"
#include "plan/algorithm_list.h"

using cgx::Code;
using cgx::DType;
using cgx::error;
using cgx::HandleKind;
using cgx::Result;
using cgx::Status;
using cgx::capi::guard;
using cgx::capi::read_dtype;
using cgx::capi::require;

namespace {

// Elements beyond which the random numbers' 32-bit counter would wrap.
constexpr uint64_t kMaxCount = uint64_t{1} << 36;

Status check_codec(const cgx_codec* codec) { return check_handle(codec, HandleKind::kCodec, "codec"); }

// Blocks have a codec; "auto" is one only after a collective has chosen.
Status check_chosen(const cgx_codec* codec) {
  CGX_RETURN_IF_ERROR(check_codec(codec));
  if (!is_auto(codec->spec)) return Status();
  return error(Code::kInvalidArgument,
               "codec \"{}\": collectives choose what it stands for, and it has no bytes of its own: name a "
               "codec here",
               codec->text);
}

Result<DType> read_encodable(const cgx_dtype& given, uint64_t count) {
  CGX_ASSIGN_OR_RETURN(const DType dtype, read_dtype(given));
  if (!is_encodable(dtype)) {
    return error(Code::kUnsupported, "codecs take fp32, fp16 and bf16, not {}", dtype_name(dtype));
  }
  if (count > kMaxCount) return error(Code::kUnsupported, "count {} is above {}", count, kMaxCount);
  return dtype;
}

Result<cgx::RandomKey> read_key(const cgx_random_key* given) {
  cgx::RandomKey key;
  if (given == nullptr) return key;
  if (given->rank > UINT16_MAX)
    return error(Code::kInvalidArgument, "key->rank is {}, above 65535", given->rank);
  key.seed = given->seed;
  key.operation = given->operation;
  key.tensor = given->tensor;
  key.rank = static_cast<uint16_t>(given->rank);
  return key;
}

nlohmann::json describe(const cgx::CodecRow& row) {
  nlohmann::json params = nlohmann::json::array();
  for (const cgx::ParamRow& param : row.params) {
    params.push_back({{"name", param.info.name},
                      {"range", param.info.range},
                      {"default", param.info.initial},
                      {"meaning", param.info.meaning}});
  }
  return {{"name", row.name},
          {"summary", row.summary},
          {"unbiased", row.is_unbiased(row.initial)},
          {"params", std::move(params)}};
}

Status encode_block(const cgx_codec& codec, cgx_dtype dtype, const void* x, uint64_t count,
                    const cgx_random_key* key, cgx::Residual residual, void* block, uint64_t capacity) {
  CGX_ASSIGN_OR_RETURN(const DType type, read_encodable(dtype, count));
  cgx::BlockContext context;
  CGX_ASSIGN_OR_RETURN(context.key, read_key(key));
  const uint64_t bytes = encoded_bytes(codec.spec, type, count);
  if (capacity < bytes) {
    return error(Code::kInvalidArgument, "capacity is {} bytes, but {} elements of {} with \"{}\" take {}",
                 capacity, count, dtype_name(type), codec.text, bytes);
  }
  if (count == 0) return {};
  CGX_RETURN_IF_ERROR(require(x, "x"));
  CGX_RETURN_IF_ERROR(require(block, "block"));
  // Kept for the thread's next call, as pages that are new are slow, unless it is much.
  constexpr size_t kKept = size_t{1} << 20;  // elements, of 8 bytes
  thread_local cgx::SparseScratch scratch;
  context.scratch = &scratch;
  const Status status = encode(codec.spec, type, x, count, context, residual, static_cast<uint8_t*>(block));
  if (scratch.size > kKept) scratch = {};
  return status;
}

Status decode_block(const cgx_codec* codec, cgx_dtype dtype, const void* block, uint64_t bytes,
                    uint64_t count, cgx::Into into, float* out) {
  CGX_RETURN_IF_ERROR(check_chosen(codec));
  CGX_ASSIGN_OR_RETURN(const DType type, read_encodable(dtype, count));
  const uint64_t expected = encoded_bytes(codec->spec, type, count);
  if (bytes != expected) {
    return error(Code::kCorrupt, "a block of {} elements of {} with \"{}\" has {} bytes, not {}", count,
                 dtype_name(type), codec->text, expected, bytes);
  }
  if (count == 0) return {};
  CGX_RETURN_IF_ERROR(require(block, "block"));
  CGX_RETURN_IF_ERROR(require(out, "out"));
  return decode(codec->spec, type, static_cast<const uint8_t*>(block), count, into, out);
}

}  // namespace

cgx_status cgx_codec_create(const char* spec, cgx_codec** codec) {
  return guard([&]() -> Status {
    CGX_RETURN_IF_ERROR(require(spec, "spec"));
    CGX_RETURN_IF_ERROR(require(codec, "codec"));
    CGX_ASSIGN_OR_RETURN(const cgx::CodecSpec parsed, cgx::parse_spec(spec));
    auto made = std::make_unique<cgx_codec>(cgx_codec{parsed, to_string(parsed)});
    add_handle(made.get(), HandleKind::kCodec);
    *codec = made.release();
    return Status();
  });
}

void cgx_codec_destroy(cgx_codec* codec) {
  if (remove_handle(codec, HandleKind::kCodec)) delete codec;
}

const char* cgx_codec_spec(const cgx_codec* codec) {
  return guard([&] { return check_codec(codec); }) == CGX_OK ? codec->text.c_str() : nullptr;
}

int cgx_codec_unbiased(const cgx_codec* codec) {
  return guard([&] { return check_codec(codec); }) == CGX_OK && is_unbiased(codec->spec) ? 1 : 0;
}

cgx_status cgx_codec_encoded_bytes(const cgx_codec* codec, cgx_dtype dtype, uint64_t count, uint64_t* bytes) {
  return guard([&]() -> Status {
    CGX_RETURN_IF_ERROR(check_chosen(codec));
    CGX_RETURN_IF_ERROR(require(bytes, "bytes"));
    CGX_ASSIGN_OR_RETURN(const DType type, read_encodable(dtype, count));
    *bytes = encoded_bytes(codec->spec, type, count);
    return Status();
  });
}

cgx_status cgx_codec_encode(const cgx_codec* codec, cgx_dtype dtype, const void* x, uint64_t count,
                            const cgx_random_key* key, void* block, uint64_t capacity) {
  return guard([&]() -> Status {
    CGX_RETURN_IF_ERROR(check_chosen(codec));
    if (codec->spec.error_feedback) {
      return error(
          Code::kInvalidArgument,
          "codec \"{}\": error feedback needs residuals, which a communicator keeps, or give them to "
          "cgx_codec_encode_feedback(): drop \"+ef\" here",
          codec->text);
    }
    return encode_block(*codec, dtype, x, count, key, {}, block, capacity);
  });
}

cgx_status cgx_codec_encode_feedback(const cgx_codec* codec, cgx_dtype dtype, const void* x, uint64_t count,
                                     const cgx_random_key* key, float* residual, void* block,
                                     uint64_t capacity) {
  return guard([&]() -> Status {
    CGX_RETURN_IF_ERROR(check_chosen(codec));
    CGX_RETURN_IF_ERROR(check_error_feedback(codec->spec));
    if (count != 0) CGX_RETURN_IF_ERROR(require(residual, "residual"));
    return encode_block(*codec, dtype, x, count, key, {residual, residual}, block, capacity);
  });
}

cgx_status cgx_codec_decode(const cgx_codec* codec, cgx_dtype dtype, const void* block, uint64_t bytes,
                            uint64_t count, float* out) {
  return guard([&] { return decode_block(codec, dtype, block, bytes, count, cgx::Into::kAssign, out); });
}

cgx_status cgx_codec_decode_add(const cgx_codec* codec, cgx_dtype dtype, const void* block, uint64_t bytes,
                                uint64_t count, float* out) {
  return guard([&] { return decode_block(codec, dtype, block, bytes, count, cgx::Into::kAdd, out); });
}

const char* cgx_codec_list(void) {
  static const std::string kList = [] {
    nlohmann::json list = nlohmann::json::array();
    for (const cgx::CodecRow& row : cgx::codec_rows()) list.push_back(describe(row));
    return list.dump();
  }();
  return kList.c_str();
}

const char* cgx_algorithm_list(void) {
  static const std::string kList = [] {
    nlohmann::json list = nlohmann::json::array();
    for (const cgx::Algorithm& row : cgx::algorithms()) {
      list.push_back({{"name", row.name}, {"summary", row.summary}});
    }
    return list.dump();
  }();
  return kList.c_str();
}

cgx_status cgx_set_cpu_path(const char* name) {
  return guard([&]() -> Status {
    CGX_RETURN_IF_ERROR(require(name, "name"));
    return cgx::force_cpu_path(name);
  });
}
