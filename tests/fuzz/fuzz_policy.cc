// Any text as a policy file, and as the card that a rank leaves in the store: refused, or read and written
// again.
#include <string>

#include "comm/agreement.h"
#include "comm/policy_text.h"
#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace cgx;  // NOLINT(google-build-using-namespace)
  const std::string text(reinterpret_cast<const char*>(data), size);
  const Result<Card> card = parse_card(text, 1);
  if (card.ok()) FUZZ_CHECK(parse_card(to_text(*card), 1).ok());
  const Result<Policy> policy = parse_policy(text, "fuzz");
  if (policy.ok()) FUZZ_CHECK(parse_policy(to_json(*policy), "fuzz").ok());
  return 0;
}
