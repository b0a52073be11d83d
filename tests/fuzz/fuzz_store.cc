// Any bytes from a client of the tcp store, in any pieces, with and without a secret: requests come out
// within their bounds, nobody without the secret is greeted, and a session never holds more than one request.
#include <algorithm>
#include <string>

#include "fuzz.h"
#include "transport/store_tcp_session.h"

namespace {

void run(const std::string& secret, cgx::fuzz::Input input) {
  using namespace cgx;  // NOLINT(google-build-using-namespace)
  const uint64_t nonce[2] = {1, 2};
  StoreSession session(secret, nonce);
  const size_t piece = 1 + input.take<uint8_t>();
  StoreRequest request;
  for (;;) {
    const std::string_view part = input.take(std::min(piece, session.wants()));
    if (part.empty()) return;
    session.feed(part);
    for (bool more = true; more;) {
      switch (session.next(&request)) {
        case StoreSession::Step::kBroken:
          return;
        case StoreSession::Step::kMore:
          more = false;
          break;
        case StoreSession::Step::kTook:
          break;
        case StoreSession::Step::kRequest:
          FUZZ_CHECK(secret.empty());
          FUZZ_CHECK(request.key.size() <= store_tcp::kMaxKey &&
                     request.value.size() <= store_tcp::kMaxValue);
          session.reply(store_tcp::Answer::kOk, request.key);
      }
    }
    session.out.clear();
    FUZZ_CHECK(session.wants() > 0);
    FUZZ_CHECK(session.held_bytes() <
               sizeof(store_tcp::RequestHeader) + store_tcp::kMaxKey + store_tcp::kMaxValue);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const cgx::fuzz::Input input(data, size);
  run("", input);
  run("0123456789abcdef", input);
  return 0;
}
