// What the registry knows of a codec: the words and ranges users see, its sizes, and how it runs. Rows
// are made from the codec's own file in codecs/ by codec_list.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "codec/codec.h"
#include "codec/spec.h"

namespace cgx {

// One parameter: its description, and its place in a CodecSpec.
struct ParamRow {
  ParamInfo info;
  bool (*set)(std::string_view value, CodecSpec& spec);  // false: malformed or out of range
  std::string (*get)(const CodecSpec& spec);             // "": goes without saying
  bool bare = false;                                     // written without its name, as in cast:fp16
};

struct EncodeArgs {
  const CodecSpec& spec;
  DType dtype;
  const void* x;
  size_t count;
  const BlockContext& context;
  Residual residual;
  uint8_t* block;
};

struct DecodeArgs {
  const CodecSpec& spec;
  DType dtype;
  const uint8_t* block;
  size_t count;
  size_t begin;  // elements [begin, end) are wanted
  size_t end;
  Into into;
  float* out;
};

struct CodecRow {
  CodecKind kind;
  const char* name;
  const char* summary;
  std::span<const ParamRow> params;
  CodecSpec initial;  // every parameter at its default
  // Fills what follows from other parameters and checks them together; null where nothing does.
  Status (*finish)(CodecSpec& spec);
  bool (*is_unbiased)(const CodecSpec& spec);
  // Why error feedback makes no sense for this spec; null or ok() where it does.
  Status (*check_error_feedback)(const CodecSpec& spec);

  // A dense codec: elements of a unit (0: the whole block is one) and bytes of a unit of m of them.
  size_t (*unit)(const ValueSpec& spec);
  size_t (*unit_bytes)(const ValueSpec& spec, size_t m);

  // A sparse codec (null for dense ones). layout_bytes() may exceed the raw size: the caller stores
  // raw elements then, and calls neither encode() nor decode().
  size_t (*layout_bytes)(const CodecSpec& spec, DType dtype, size_t count);
  Status (*encode)(const EncodeArgs& args);
  Status (*decode)(const DecodeArgs& args);
};

std::span<const CodecRow> codec_rows();
const CodecRow& codec_row(CodecKind kind);

// Whole-text numbers; nothing where the text is anything else.
std::optional<int64_t> parse_integer(std::string_view text);
std::optional<double> parse_number(std::string_view text);
// The shortest text that parse_number() reads back as the same value.
std::string print_number(double value);

}  // namespace cgx
