// Sleeping until a peer has something for us, without missing it: the sleeper first says that it will
// sleep and then looks once more; a peer first writes and then asks whether anyone sleeps. Both are
// sequentially consistent, so that one of the two sees the other. The futex is shared between processes.
#pragma once

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <climits>
#include <cstdint>

#include "transport/shm_door.h"
#include "transport/shm_layout.h"

namespace cgx {

// How a rank sleeps, as its bell says.
inline constexpr uint32_t kAwake = 0;
inline constexpr uint32_t kOnBell = 1;  // on the futex
inline constexpr uint32_t kAtDoor = 2;  // in poll(), on the FIFO too

inline void wake(ShmBell& bell) {
  bell.rung.fetch_add(1, std::memory_order_seq_cst);
  syscall(SYS_futex, &bell.rung, FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
}

// Wherever the owner of both sleeps.
inline void wake(ShmBell& bell, const ShmDoor& door) {
  wake(bell);
  door.knock();
}

// After writing what the owner of `bell` may wait for.
inline void ring(ShmBell& bell, const ShmDoor& door) {
  if (bell.sleeping.load(std::memory_order_seq_cst) == kAwake) return;
  const uint32_t how = bell.sleeping.exchange(kAwake, std::memory_order_seq_cst);
  if (how == kOnBell) wake(bell);
  if (how == kAtDoor) door.knock();
}

// Sleeps until rung, or `milliseconds`, unless look() finds something first.
template <typename Look>
void sleep_unless(ShmBell& bell, int milliseconds, Look look) {
  const uint32_t rung = bell.rung.load(std::memory_order_seq_cst);
  bell.sleeping.store(kOnBell, std::memory_order_seq_cst);
  if (!look()) {
    const timespec slice = {milliseconds / 1000, milliseconds % 1000 * 1000000L};
    syscall(SYS_futex, &bell.rung, FUTEX_WAIT, rung, &slice, nullptr, 0);
  }
  bell.sleeping.store(kAwake, std::memory_order_seq_cst);
}

inline void pause_briefly() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace cgx
