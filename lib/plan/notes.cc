// See notes.h.
#include "plan/notes.h"

#include <cmath>

#include "codec/value_block.h"

namespace cgx {

void SegmentNotes::add(const SegmentNotes& one) {
  counts.elements += one.counts.elements;
  counts.saturated += one.counts.saturated;
  counts.non_finite += one.counts.non_finite;
  encode_seconds += one.encode_seconds;
  decode_seconds += one.decode_seconds;
  wait_seconds += one.wait_seconds;
  compared += one.compared;
  input_squares += one.input_squares;
  sent_squares += one.sent_squares;
  error_squares += one.error_squares;
  product += one.product;
}

Status compare(const Comparison& c, RunNotes* notes, SegmentNotes* into) {
  if (notes->input.size() < c.count) {
    notes->input.resize(c.count);
    notes->sent.resize(c.count);
  }
  load_elements({c.dtype, c.x, nullptr}, 0, c.count, notes->input.data());
  CGX_RETURN_IF_ERROR(
      decode_part(*c.spec, c.dtype, c.block, c.count, 0, c.count, Into::kAssign, notes->sent.data()));
  SegmentNotes sums;
  for (uint64_t i = 0; i < c.count; ++i) {
    const double x = static_cast<double>(notes->input[i]);
    const double q = static_cast<double>(notes->sent[i]);
    if (!std::isfinite(x) || !std::isfinite(q)) continue;
    ++sums.compared;
    sums.input_squares += x * x;
    sums.sent_squares += q * q;
    sums.error_squares += (q - x) * (q - x);
    sums.product += x * q;
  }
  into->add(sums);
  return {};
}

}  // namespace cgx
