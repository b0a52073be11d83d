// Any bytes as a frame: refused, or it holds what it says, decodes or is refused then, and is written again
// as it was.
#include <algorithm>
#include <vector>

#include "base/crc32c.h"
#include "codec/codec.h"
#include "codec/frame.h"
#include "fuzz.h"

namespace {

// Decodes what a frame holds, as a reader of files would.
void use(const cgx::Frame& frame) {
  using namespace cgx;  // NOLINT(google-build-using-namespace)
  FUZZ_CHECK(frame.block.size() == encoded_bytes(frame.spec, frame.dtype, frame.count));
  if (!is_encodable(frame.dtype)) return;
  std::vector<float> out(std::min<uint64_t>(frame.count, 4096));
  static_cast<void>(decode_part(frame.spec, frame.dtype, frame.block.data(), frame.count, 0, out.size(),
                                Into::kAssign, out.data()));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace cgx;  // NOLINT(google-build-using-namespace)
  std::vector<uint8_t> bytes(data, data + size);
  for (const bool sign : {false, true}) {
    // A fuzzer finds no checksums: in the second round they are made to fit.
    if (sign && size >= 32) {
      const size_t spec_bytes = std::min<size_t>(size - 32, static_cast<size_t>(bytes[6] | bytes[7] << 8));
      const uint32_t block = crc32c(0, bytes.data() + 32 + spec_bytes, size - 32 - spec_bytes);
      std::memcpy(bytes.data() + 24, &block, 4);
      const uint32_t header = crc32c(crc32c(0, bytes.data(), 28), bytes.data() + 32, spec_bytes);
      std::memcpy(bytes.data() + 28, &header, 4);
    }
    const Result<Frame> frame = read_frame(bytes);
    if (!frame.ok()) {
      FUZZ_CHECK(frame.status().code() == Code::kCorrupt || frame.status().code() == Code::kUnsupported);
      continue;
    }
    use(*frame);
    const std::vector<uint8_t> again = write_frame(*frame);
    const Result<Frame> same = read_frame(again);
    FUZZ_CHECK(same.ok() && same->spec == frame->spec && same->count == frame->count);
  }
  return 0;
}
