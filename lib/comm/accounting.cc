// See accounting.h.
#include "comm/accounting.h"

namespace cgx {

Accounting account(const Layout& layout) {
  Accounting a;
  a.elements = layout.count();
  if (!is_encodable(layout.dtype())) {
    a.not_float = layout.count();
    return a;
  }
  for (const Segment& segment : layout.segments()) {
    uint64_t& place = segment.spec.kind == CodecKind::kNone                 ? a.raw
                      : is_raw(segment.spec, layout.dtype(), segment.count) ? a.too_small
                                                                            : a.compressed;
    place += segment.count;
  }
  return a;
}

}  // namespace cgx
