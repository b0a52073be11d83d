// A tensor's layout: which span is which segment (a layer), how each is encoded, and where the blocks
// of a range of elements lie in a message. A message is the blocks of the pieces (segment ∩ range) in
// order, each starting at a multiple of kBlockAlign.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/dtype.h"
#include "codec/codec.h"

namespace cgx {

inline constexpr size_t kBlockAlign = 16;

struct Segment {
  uint64_t offset = 0;  // elements
  uint64_t count = 0;
  CodecSpec spec;
  uint32_t tensor_id = 0;  // keys random numbers and residuals; unique in a layout

  bool operator==(const Segment&) const = default;
};

// One segment's part of a range.
struct Piece {
  uint32_t segment;  // index into Layout::segments()
  uint64_t begin;    // in the tensor
  uint64_t end;
  uint64_t in_segment;   // begin - segment.offset
  uint64_t wire_offset;  // of its block in the message
  uint64_t wire_bytes;
};

class Layout {
 public:
  // Segments must be sorted, not empty, cover [0, count) without gap or overlap, with distinct
  // tensor ids. count == 0 has no segments. Integers and fp64 take only `none`.
  static Result<Layout> make(DType dtype, uint64_t count, std::vector<Segment> segments);
  // One segment for the whole tensor.
  static Result<Layout> uniform(DType dtype, uint64_t count, const CodecSpec& spec, uint32_t tensor_id);

  DType dtype() const { return dtype_; }
  uint64_t count() const { return count_; }
  const std::vector<Segment>& segments() const { return segments_; }

  // The pieces of [begin, end) with their places in the message. Both ends must be cuts.
  std::vector<Piece> pieces(uint64_t begin, uint64_t end) const;
  void pieces(uint64_t begin, uint64_t end, std::vector<Piece>* out) const;  // replaces what is in `out`
  uint64_t wire_bytes(uint64_t begin, uint64_t end) const;

  // The smallest place >= at where the tensor may be cut between ranks: a segment's end, or a multiple
  // of the segment's granule from its start (of kGroup where the granule is 0: each part is a block).
  uint64_t chunk_cut(uint64_t at) const;
  // The same within a chunk that starts at `chunk_begin`, for pipelined slices: a block whose granule
  // is 0 is never cut further.
  uint64_t slice_cut(uint64_t at, uint64_t chunk_begin, uint64_t chunk_end) const;

  bool any_error_feedback() const;
  // Some segment's codec is still to be chosen: until then nothing above that depends on codecs may be asked.
  bool any_auto() const;
  // A hash over everything above that ranks must agree on, and the words for an error message.
  uint64_t fingerprint() const;
  std::string describe() const;  // "count=1000 fp32, 3 segments: maxmin:bits=4,..., none, ..."

  bool operator==(const Layout&) const = default;

 private:
  DType dtype_ = DType::kF32;
  uint64_t count_ = 0;
  std::vector<Segment> segments_;
};

}  // namespace cgx
