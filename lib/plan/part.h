// The arithmetic of a step on one piece of its range: what is read from and written to the tensors and the
// blocks of messages. Knows no transport; run.cc decides when and on which thread.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <vector>

#include "base/stream_copy.h"
#include "codec/codec.h"
#include "plan/builder.h"
#include "plan/run.h"

namespace cgx {

// Adds the time it lives to a total.
class Timer {
 public:
  using Clock = std::chrono::steady_clock;
  explicit Timer(double& total) : total_(total), start_(Clock::now()) {}
  ~Timer() { total_ += std::chrono::duration<double>(Clock::now() - start_).count(); }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

 private:
  double& total_;
  Clock::time_point start_;
};

// What all steps of a run share.
struct Arena {
  explicit Arena(const RunArgs& args);
  const uint8_t* x(uint64_t element) const {
    return static_cast<const uint8_t*>(args.x) + element * element_bytes;
  }
  uint8_t* y(uint64_t element) const { return static_cast<uint8_t*>(args.y) + element * element_bytes; }

  const RunArgs& args;
  const DType dtype;
  const size_t element_bytes;
  const Copy into_shared;   // what fills memory that peers read
  bool shared = false;      // the message being written lies there
  const bool is_large;      // y, so that it need not be in any cache when the run ends
  const bool replaces_own;  // in place: what a sum replaces has just been read
  Copy into_message() const { return shared ? into_shared : plain_copy; }
  // Raw elements and sums into y.
  bool past_caches() const { return is_large && !replaces_own; }
};

// How a piece is encoded at one level, and where its block lies in a message of that level.
struct Coding {
  const CodecSpec* spec = nullptr;
  uint64_t wire_offset = 0;
};

// One piece of a step's range, with all that is known of it.
struct Part {
  const Step& step;
  const Segment& segment;
  const Piece& piece;
  uint64_t count;
  std::array<Coding, 2> codings;  // by level; the second only where the step has such messages
  uint64_t granule;               // a multiple of all granules in use; 0: it cannot be cut
  bool raw;                       // its blocks are the elements themselves, and no residual is kept of it
  SegmentResidual residual;
};

// A range of a part's elements, all of them or one thread's share. The shares of a part write different
// bytes, and where they are cut cannot be seen in any.
class PartWork {
 public:
  PartWork(const Arena& arena, const Part& part, Range range, Workspace::Scratch& scratch)
      : arena_(arena), part_(part), step_(part.step), range_(range), scratch_(scratch) {}

  Status encode();
  Status decode();
  // Counts the time of encoding in scratch.stats: the rest of what a reduction takes is summing.
  Status reduce();

 private:
  // The encoding of elements `range` of the piece.
  struct Encoded {
    const uint8_t* block;
    Range range;
  };

  // Where the range's encoding is written: straight into the message, or, where peers read that, into a
  // draft that stays in this core's cache until publish() copies it.
  uint8_t* draft();
  void publish(const uint8_t* draft);

  void reduce_raw();
  Status sum(Range tile, float* sum, bool in_parts);
  void store_sum(const float* sum, uint64_t count, bool past_caches, uint8_t* out) const;
  Status sum_inputs(Range tile, float* sum);
  Status add_own(Range tile, bool first, float* sum);
  Status encode_sum(Range tile, float* sum, uint8_t* out);
  Status encode_sparse_half(float* sum, const BlockContext& context, Residual residual, uint8_t* block);
  // y <- the tile's elements.
  Status store(const Encoded& encoded, Range tile);
  // The same of the whole range; learns how outputs are written.
  Status decode_timed(const Encoded& encoded);

  bool is_f32() const { return arena_.dtype == DType::kF32; }
  // How elements that are decoded from the step's message are written to y.
  TwoWays& large_outputs() const;
  bool streams() const { return arena_.is_large && is_f32() && large_outputs().way() == 0; }
  uint8_t* y(uint64_t at) const { return arena_.y(part_.piece.begin + at); }
  const uint8_t* x(uint64_t at) const { return arena_.x(part_.piece.begin + at); }
  const Coding& coding(uint32_t message) const {
    return part_.codings[static_cast<size_t>(arena_.args.plan->messages[message].level)];
  }
  const CodecSpec& spec(uint32_t message) const { return *coding(message).spec; }
  uint8_t* block(uint32_t message) const {
    return arena_.args.workspace->messages[message] + coding(message).wire_offset;
  }
  uint64_t tile_length() const;
  bool sums_in_parts() const;
  uint64_t bytes_before(uint64_t at) const;
  BlockContext context(uint64_t at) const;

  const Arena& arena_;
  const Part& part_;
  const Step& step_;
  const Range range_;
  Workspace::Scratch& scratch_;
};

// A residual from element `at` on; null stays null.
inline const float* from(const float* residual, uint64_t at) { return residual ? residual + at : nullptr; }
inline float* from(float* residual, uint64_t at) { return residual ? residual + at : nullptr; }

}  // namespace cgx
