// The order of turns within a round.
#pragma once

#include <cstddef>

namespace cgx::bench {

// Who comes at `place` in `round`, of `count`. Over as many rounds as there are contenders (twice as many
// where their number is odd) each is equally often at every place and right behind each other one: what
// somebody leaves in caches, sockets and schedulers is nobody's in particular. Williams, "Experimental
// designs balanced for the estimation of residual effects of treatments", 1949.
inline size_t whose_turn(size_t place, size_t round, size_t count) {
  const size_t zigzag = place % 2 == 0 ? count - place / 2 : (place + 1) / 2;  // 0, 1, -1, 2, -2, ...
  const bool mirrored = count % 2 == 1 && round % 2 == 1;
  return ((mirrored ? 2 * count - zigzag : zigzag) + round) % count;
}

}  // namespace cgx::bench
