// Bad weather between ranks: this test's own send and receive calls stand in front of the C library's. They
// give short counts, EINTR and EAGAIN at random, flip a bit, or end the connection in the middle of a
// message.
#pragma once

#include <atomic>
#include <cstdint>

namespace cgx::test {

struct Weather {
  std::atomic<uint32_t> storm{0};          // of 100 calls, how many go wrong without harm
  std::atomic<int64_t> flip_after{-1};     // bytes received until a bit is flipped; -1: none is
  std::atomic<int64_t> break_after{-1};    // bytes sent until the connection ends; -1: it does not
  std::atomic<bool> break_by_reset{true};  // RST, else FIN
  std::atomic<uint64_t> calls{0};
  std::atomic<uint64_t> disturbed{0};
  std::atomic<bool> struck{false};  // what was to happen once has happened
};
Weather& weather();

}  // namespace cgx::test
