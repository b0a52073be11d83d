// Any text as a codec's spec: refused, or its canonical text means the same.
#include <string>

#include "codec/codec.h"
#include "codec/spec.h"
#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace cgx;  // NOLINT(google-build-using-namespace)
  const Result<CodecSpec> spec = parse_spec({reinterpret_cast<const char*>(data), size});
  if (!spec.ok()) {
    FUZZ_CHECK(!spec.status().message().empty());
    return 0;
  }
  const std::string text = to_string(*spec);
  const Result<CodecSpec> again = parse_spec(text);
  FUZZ_CHECK(again.ok() && *again == *spec && to_string(*again) == text);
  if (is_auto(*spec)) return 0;
  for (const size_t count : {0, 1, 255, 100000}) {
    FUZZ_CHECK(encoded_bytes(*spec, DType::kF32, count) <= 4 * count);
  }
  return 0;
}
