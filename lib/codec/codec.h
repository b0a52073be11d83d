// The codec interface: encode `count` elements into a block, decode a block into fp32. Pure functions
// of their arguments; all state (residuals, counters of operations) is the caller's.
//
// A block's size is a pure function of (spec, dtype, count) and never above the raw elements: where a
// codec's layout would not be smaller, the block *is* the raw elements. Blocks concatenate: cutting a
// tensor at multiples of granule() and encoding the pieces gives the same bytes as encoding it whole
// (not so for sparse codecs and bucket=0, whose granule is 0: such a block is never cut).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/dtype.h"
#include "base/random.h"
#include "base/status.h"
#include "codec/spec.h"

namespace cgx {

// What encoding saw; added to, never reset, by the functions below. Elements stored raw are counted
// and not looked at.
struct CodecCounts {
  uint64_t elements = 0;
  uint64_t saturated = 0;   // finite values above the codec's range, clipped to it
  uint64_t non_finite = 0;  // NaN and Inf given in; they come out non-finite
};

// Memory in which sparse codecs encode. Callers that encode often keep it, one for each thread.
struct SparseScratch {
  std::unique_ptr<float[]> values;
  std::unique_ptr<uint32_t[]> indices;
  size_t size = 0;  // of both
};

// Everything that decides a block's bytes beside the elements, and what encoding needs of its caller.
struct BlockContext {
  RandomKey key;
  uint64_t first = 0;  // index of the block's first element in its tensor; a multiple of kGroup
  CodecCounts* counts = nullptr;
  SparseScratch* scratch = nullptr;  // null: allocates its own where it needs any
  // fp32 that the caller reads next, as many as the elements: asked for while these, which are in a cache,
  // are encoded. Null: the elements themselves come from memory.
  const float* read_next = nullptr;
};

// Size of the block that encodes `count` elements, in bytes.
size_t encoded_bytes(const CodecSpec& spec, DType dtype, size_t count);
// True where encoded_bytes() is reached by storing the elements themselves.
bool is_raw(const CodecSpec& spec, DType dtype, size_t count);
// Elements at whose multiples a block may be cut; a multiple of kGroup; 0: nowhere.
size_t granule(const CodecSpec& spec);

bool is_unbiased(const CodecSpec& spec);
// Why error feedback makes no sense for this spec; ok() where it does.
Status check_error_feedback(const CodecSpec& spec);

// Where a residual is read and written while encoding: what is encoded is x + before, and after
// becomes (x + before) - decode(block), or 0 where that is not finite. Both hold `count` fp32 and may be the
// same memory. `decoded`, of dense codecs only, becomes decode(block), and may be x where that is fp32;
// `past_caches`: written as by Into::kStream.
struct Residual {
  const float* before = nullptr;
  float* after = nullptr;
  float* decoded = nullptr;
  bool past_caches = false;
};

// Encodes x[0, count) of type `dtype` (fp32, fp16 or bf16) into block[0, encoded_bytes()).
// Does not allocate for the dense codecs. `block` may have any alignment.
Status encode(const CodecSpec& spec, DType dtype, const void* x, size_t count, const BlockContext& context,
              Residual residual, uint8_t* block);

// kStream assigns with stores that go past the caches, where there are some: what they overwrite need not be
// fetched. For outputs that nobody reads soon; other threads must not be told before stream_fence().
enum class Into : uint8_t { kAssign, kAdd, kStream };

// Decodes a block of `count` elements into out[0, count). A total function: any bytes give a Status, and
// never a write outside `out` or a read outside the block.
Status decode(const CodecSpec& spec, DType dtype, const uint8_t* block, size_t count, Into into, float* out);
// Decodes elements [begin, end) of the same block; for dense codecs begin is a multiple of granule().
// `addend`: what kAdd adds to, if that is not in `out`.
Status decode_part(const CodecSpec& spec, DType dtype, const uint8_t* block, size_t count, size_t begin,
                   size_t end, Into into, float* out, const float* addend = nullptr);

// A parameter of a codec, as the registry describes it to users (cgx_codec_list, cgx.codecs()).
struct ParamInfo {
  const char* name;
  const char* range;    // "1..8", "stochastic|nearest"
  const char* initial;  // the default, as text; "" where it must be given
  const char* meaning;
};

// Forces a path of the run-time dispatch for tests and benchmarks: "scalar", "sse4", "avx2", "avx512",
// or "" for the best one this CPU has. Not thread-safe; an error names the paths there are.
Status force_cpu_path(std::string_view name);
std::vector<std::string_view> cpu_paths();

}  // namespace cgx
