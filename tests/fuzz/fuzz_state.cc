// Any bytes as the saved state of rank 1 of 2: refused, or what was read is written and read again as it was.
#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "base/crc32c.h"
#include "comm/policy_text.h"
#include "comm/state.h"
#include "fuzz.h"

namespace {

constexpr size_t kHeader = 64, kCrc = 4;

// Fields of the header, and the checksum behind all, made to fit: no fuzzer finds them.
void sign(std::vector<uint8_t>& bytes) {
  if (bytes.size() < kHeader + kCrc) return;
  const auto put = [&](size_t at, auto value) { std::memcpy(bytes.data() + at, &value, sizeof value); };
  std::memcpy(bytes.data(), "CGXSTATE", 8);
  put(8, uint32_t{1});   // format
  put(16, uint32_t{1});  // rank
  put(20, uint32_t{2});  // size
  put(40, uint64_t{bytes.size()});
  put(48, uint32_t{bytes[48]} & 1);  // flags
  put(bytes.size() - kCrc, cgx::crc32c(0, bytes.data(), bytes.size() - kCrc));
}

std::vector<uint8_t> written(const cgx::State& state) {
  cgx::StateView view{1, 2, state.seed, state.operation, state.policy_for_all, "", state.feedback.owed()};
  if (state.profile) {
    cgx::Policy policy;
    policy.profile = *state.profile;
    policy.transport = "tcp";
    view.policy = cgx::to_json(policy);
  }
  std::vector<uint8_t> bytes(cgx::state_bytes(view));
  FUZZ_CHECK(cgx::write_state(view, bytes).ok());
  return bytes;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace cgx;  // NOLINT(google-build-using-namespace)
  std::vector<uint8_t> bytes(data, data + size);
  for (const bool made_to_fit : {false, true}) {
    if (made_to_fit) sign(bytes);
    const Result<State> state = read_state(bytes, 1, 2);
    if (!state.ok()) {
      const Code code = state.status().code();
      FUZZ_CHECK(code == Code::kCorrupt || code == Code::kUnsupported || code == Code::kInvalidArgument);
      continue;
    }
    const std::vector<uint8_t> first = written(*state);
    const Result<State> again = read_state(first, 1, 2);
    FUZZ_CHECK(again.ok());
    FUZZ_CHECK(written(*again) == first);
  }
  return 0;
}
