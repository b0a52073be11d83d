// Any bytes as a block of any codec: decoded whole, added, and in part, on each CPU path, they give the same
// values or the same refusal. ASan sees reads and writes outside, as input and output have their exact sizes.
#include <cmath>
#include <cstring>
#include <memory>
#include <vector>

#include "codec/codec.h"
#include "fuzz.h"

namespace cgx {
namespace {

constexpr const char* kSpecs[] = {
    "none", "cast:fp16", "cast:bf16", "natural", "natural8", "natural8:bias=100", "maxmin:bits=1",
    "maxmin:bits=2,bucket=64", "maxmin:bits=3,bucket=128", "maxmin:bits=4", "maxmin:bits=4,bucket=0",
    "maxmin:bits=5,bucket=256", "maxmin:bits=6,bucket=1024", "maxmin:bits=7,bucket=32", "maxmin:bits=8",
    "dither:bits=2,norm=1", "dither:bits=4", "dither:bits=5,norm=2,levels=12,bucket=1024",
    "dither:bits=8,norm=2,bucket=0", "natdither:bits=2,norm=1,bucket=128", "natdither:bits=4",
    "natdither:bits=5,norm=2,bucket=32", "natdither:bits=8,norm=2,levels=100,bucket=0", "topk:ratio=0.01",
    "topk:ratio=0.3", "topk:ratio=0.3|natural", "topk:ratio=0.3|maxmin:bits=4,bucket=64", "topk:ratio=1",
    "randk:ratio=0.05", "randk:ratio=0.3|natural", "randk:ratio=0.5|maxmin:bits=3,bucket=0",
    // New ones go last: the corpus numbers them.
    "topk:ratio=0.01,indices=packed", "topk:ratio=0.3,indices=packed|natural"};
constexpr size_t kSpecCount = sizeof kSpecs / sizeof *kSpecs;
constexpr DType kTypes[] = {DType::kF32, DType::kF16, DType::kBF16};
constexpr size_t kMostElements = 2100;

struct Decoded {
  Code code;
  std::vector<float> values;
};

Decoded decode_at(const CodecSpec& spec, DType dtype, const uint8_t* block, size_t count, size_t begin,
                  size_t end, Into into) {
  std::vector<float> out(end - begin, 1.5f);
  const Status status = decode_part(spec, dtype, block, count, begin, end, into, out.data());
  FUZZ_CHECK(status.ok() || status.code() == Code::kCorrupt);
  return {status.code(), std::move(out)};
}

// The same bits.
bool same(const Decoded& a, const Decoded& b) {
  if (a.code != b.code || a.code != Code::kOk) return a.code == b.code;
  for (size_t i = 0; i < a.values.size(); ++i) {
    const bool both_nan = std::isnan(a.values[i]) && std::isnan(b.values[i]);
    if (!both_nan && std::memcmp(&a.values[i], &b.values[i], sizeof(float)) != 0) return false;
  }
  return true;
}

}  // namespace
}  // namespace cgx

// spec, type, count (2 bytes), a cut, then the block; what is missing of it is made of what is there.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace cgx;  // NOLINT(google-build-using-namespace)
  fuzz::Input input(data, size);
  const CodecSpec spec = *parse_spec(kSpecs[input.take<uint8_t>() % kSpecCount]);
  const DType dtype = kTypes[input.take<uint8_t>() % 3];
  const size_t count = input.take<uint16_t>() % (kMostElements + 1);
  const size_t cuts = input.take<uint8_t>();
  const size_t bytes = encoded_bytes(spec, dtype, count);
  FUZZ_CHECK(bytes <= count * dtype_bytes(dtype));
  const std::unique_ptr<uint8_t[]> block(new uint8_t[bytes]);
  const std::string_view rest = input.rest();
  for (size_t i = 0; i < bytes; ++i) {
    block[i] = rest.empty() ? static_cast<uint8_t>(cuts) : static_cast<uint8_t>(rest[i % rest.size()]);
  }
  // A part: of sparse codecs any, of others one that begins where a block may be cut.
  const size_t grain = is_sparse(spec) ? 1 : granule(spec);
  const size_t begin = grain == 0 ? 0 : (8 * cuts * grain) % (count + 1) / grain * grain;
  const size_t end = is_sparse(spec) ? begin + (37 * cuts) % (count - begin + 1) : count;
  Decoded first[4];
  bool is_first = true;
  for (const std::string_view path : cpu_paths()) {
    FUZZ_CHECK(force_cpu_path(path).ok());
    const Decoded now[4] = {decode_at(spec, dtype, block.get(), count, 0, count, Into::kAssign),
                            decode_at(spec, dtype, block.get(), count, 0, count, Into::kAdd),
                            decode_at(spec, dtype, block.get(), count, begin, end, Into::kAssign),
                            decode_at(spec, dtype, block.get(), count, begin, end, Into::kStream)};
    for (int i = 0; i < 4; ++i) {
      if (is_first) first[i] = now[i];
      FUZZ_CHECK(same(first[i], now[i]));
    }
    is_first = false;
    if (now[0].code != Code::kOk) continue;
    const auto stretch = now[0].values.begin() + static_cast<ptrdiff_t>(begin);
    const Decoded part = {Code::kOk, {stretch, stretch + static_cast<ptrdiff_t>(end - begin)}};
    FUZZ_CHECK(same(now[2], part) && same(now[3], part));
  }
  return 0;
}
