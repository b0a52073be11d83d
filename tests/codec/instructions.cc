// What instructions.py counts: one encode and one decode of a mebibyte for each codec, each between two
// requests to callgrind, on the widest CPU path that callgrind runs. Prints that path.
#include <fmt/format.h>
#include <valgrind/callgrind.h>

#include <random>
#include <string>
#include <vector>

#include "codec/codec.h"

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
                              "dither:bits=4",
                              "dither:bits=4,norm=l2",
                              "dither:bits=8",
                              "natdither:bits=4",
                              "natdither:bits=8",
                              "natural",
                              "natural8",
                              "topk:ratio=0.01",
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
  count(text + " encode", [&] { return encode_with({}); });
  count(text + " decode", [&] { return decode_as(Into::kAssign); });
  count(text + " decode_add", [&] { return decode_as(Into::kAdd); });
  if (!check_error_feedback(*spec).ok()) return;
  count(text + " encode_feedback", [&] { return encode_with({residual.data(), residual.data()}); });
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
}
