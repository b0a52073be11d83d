// Which algorithm, codecs and slices a collective runs with: a pure function of what is asked, the layout and
// the profile. The same arguments give the same choice on every rank.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/status.h"
#include "plan/cost.h"
#include "plan/plan.h"

namespace cgx {

inline constexpr uint64_t kDefaultSliceBytes = 256 << 10;

// The row of that name, null for "auto" or ""; kInvalidArgument names those there are.
Result<const Algorithm*> named_algorithm(std::string_view name);

// What the caller left open is chosen, what it named is kept.
struct Wish {
  const Algorithm* algorithm = nullptr;  // null: chosen by cost
  uint64_t slice_bytes = 0;              // 0: chosen by cost
  CodecSpec inner_codec = {};            // of messages inside a host
  // Of the slices that others must be worth it to be taken in their place: as long_slice_bytes() has it.
  uint64_t longest_usual = kDefaultSliceBytes;
};

struct Selection {
  Layout layout;  // with a codec in the place of every "auto"
  const Algorithm* algorithm = nullptr;
  uint64_t slice_bytes = 0;
  double seconds = 0;  // predicted
};

// The longest slice up to `longest` that transports have memory for, and never less than the default: for
// where nothing was measured and messages cost more than their bytes.
uint64_t long_slice_bytes(const Layout& layout, uint64_t longest);

Selection select(const Wish& wish, const Layout& layout, const Profile& profile);

// Why, for people: "hierarchical: 4 ranks on 2 hosts, predicted 410.2 us (scatter_gather 705.1, ring 790.4)".
std::string explain(const Selection& selection, const Wish& wish, const Profile& profile);

}  // namespace cgx
