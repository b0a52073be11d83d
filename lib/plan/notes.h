// What a run notes of each tensor, where somebody asked to see it: time, counts, and what the encoding of
// this rank's own elements lost. Notes read the clock a piece at a time and, for errors, decode what was
// sent.
#pragma once

#include <cstdint>
#include <vector>

#include "base/dtype.h"
#include "base/status.h"
#include "codec/codec.h"

namespace cgx {

struct SegmentNotes {
  CodecCounts counts;
  double encode_seconds = 0, decode_seconds = 0, wait_seconds = 0;
  // Of what was sent against the input, over finite elements: sums of squares and the scalar product.
  uint64_t compared = 0;
  double input_squares = 0, sent_squares = 0, error_squares = 0, product = 0;

  void add(const SegmentNotes& one);
};

struct RunNotes {
  bool errors = false;  // also what was lost
  std::vector<SegmentNotes> segments;
  std::vector<float> input, sent;  // scratch of compare()
};

// `count` elements at x, and the block that was made of them.
struct Comparison {
  const CodecSpec* spec;
  DType dtype;
  const void* x;
  const uint8_t* block;
  uint64_t count;
};
Status compare(const Comparison& comparison, RunNotes* notes, SegmentNotes* into);

}  // namespace cgx
