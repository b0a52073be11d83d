// What "auto" chooses among: codecs that keep every element, at any scale of the data (so neither fp16 nor
// natural8, whose ranges are short), with the relative error of one rounding.
//
// The error is the NMSE |x - decode(encode(x))|^2 / |x|^2 of normally distributed elements:
//   max-min, bucket 512: an element's variance is step^2 E[f (1 - f)] with f its place between two levels,
//   all but
//     uniform, so step^2 / 6; step = range / (2^bits - 1), and E[range^2] of 512 normal elements is 37.4
//     sigma^2. So 37.4 / (6 (2^bits - 1)^2): 9.6e-5, 1.6e-3, 0.0277 and 0.69 at 8, 6, 4 and 2 bits.
//   natural: m (1 - m) / (1 + m)^2 of an element's square for the mantissa m; at most 1/8, 0.0817 for normal
//   elements. bf16: to nearest in 8 significant bits; at most 2^-18 of an element's square.
// Heavier tails widen the range of a max-min bucket and its error with it; natural and bf16 keep their
// bounds.
#pragma once

#include <span>
#include <vector>

#include "codec/spec.h"

namespace cgx {

struct Candidate {
  CodecSpec spec;
  double error;  // NMSE
};

// Those within `error`, exact first. The first is always none.
std::vector<Candidate> candidates_within(double error);
// All of them.
std::vector<Candidate> candidates();

}  // namespace cgx
