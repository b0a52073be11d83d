// What instructions.py counts: one encode and one decode of a mebibyte for each codec, each between two
// requests to callgrind, on the widest CPU path that callgrind runs. Prints that path.
#include <fmt/format.h>
#include <valgrind/callgrind.h>

#include <algorithm>
#include <iterator>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "base/half.h"
#include "codec/codec.h"
#include "codec/codec_row.h"

namespace cgx {
namespace {

constexpr size_t kCount = (1 << 20) / sizeof(float);

const char* const kSpecs[] = {"none",
                              "cast:fp16",
                              "cast:bf16",
                              "maxmin:bits=1",
                              "maxmin:bits=2",
                              "maxmin:bits=3",
                              "maxmin:bits=4",
                              "maxmin:bits=8",
                              "maxmin:bits=4,bucket=128",
                              "dither:bits=4",
                              "dither:bits=4,norm=l2",
                              "dither:bits=8",
                              "natdither:bits=4",
                              "natdither:bits=8",
                              "natural",
                              "natural8",
                              "topk:ratio=0.01",
                              "topk:ratio=0.01,indices=packed",
                              "randk:ratio=0.01"};

// Counts one call of f; the call before it has allocated and bound what is done once.
template <typename F>
void count(const std::string& name, F f) {
  for (const bool counted : {false, true}) {
    if (counted) CALLGRIND_TOGGLE_COLLECT;
    const Status status = f();
    if (counted) CALLGRIND_TOGGLE_COLLECT;
    if (!status.ok()) fmt::print(stderr, "{}: {}\n", name, status.message());
  }
  CALLGRIND_DUMP_STATS_AT(name.c_str());
}

void count_codec(const std::string& text, const std::vector<float>& x) {
  const auto spec = parse_spec(text);
  if (!spec.ok()) return fmt::print(stderr, "{}\n", spec.status().message());
  std::vector<uint8_t> block(encoded_bytes(*spec, DType::kF32, kCount));
  std::vector<float> out(kCount), residual(kCount);
  SparseScratch scratch;
  BlockContext context;
  context.scratch = &scratch;
  const auto encode_with = [&](Residual r) {
    return encode(*spec, DType::kF32, x.data(), kCount, context, r, block.data());
  };
  const auto decode_as = [&](Into into) {
    return decode(*spec, DType::kF32, block.data(), kCount, into, out.data());
  };
  std::vector<uint16_t> halves(kCount);
  for (size_t i = 0; i < kCount; ++i) halves[i] = static_cast<uint16_t>(f32_to_bf16(x[i]));
  std::vector<uint8_t> block_of_halves(encoded_bytes(*spec, DType::kBF16, kCount));
  count(text + " encode", [&] { return encode_with({}); });
  count(text + " encode bf16", [&] {
    return encode(*spec, DType::kBF16, halves.data(), kCount, context, {}, block_of_halves.data());
  });
  count(text + " decode", [&] { return decode_as(Into::kAssign); });
  count(text + " decode_add", [&] { return decode_as(Into::kAdd); });
  if (!check_error_feedback(*spec).ok()) return;
  count(text + " encode_feedback", [&] { return encode_with({residual.data(), residual.data()}); });
}

// How many codecs of the list are not among those that are counted.
int missing_codecs() {
  int missing = 0;
  for (const CodecRow& row : codec_rows()) {
    const auto is_of_row = [&](const char* text) { return std::string_view(text).starts_with(row.name); };
    if (std::any_of(std::begin(kSpecs), std::end(kSpecs), is_of_row)) continue;
    fmt::print(stderr, "{} is not counted: kSpecs needs a line for it\n", row.name);
    ++missing;
  }
  return missing;
}

}  // namespace
}  // namespace cgx

int main() {
  const auto paths = cgx::cpu_paths();
  fmt::print("{}\n", paths.back());
  std::vector<float> x(cgx::kCount);
  std::mt19937 engine(1);
  std::normal_distribution<float> normal;
  for (float& v : x) v = normal(engine);
  for (const char* spec : cgx::kSpecs) cgx::count_codec(spec, x);
  return cgx::missing_codecs();
}
