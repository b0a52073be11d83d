// Executes one rank's plan: the only place where plans, codecs and messages meet. Knows no algorithm
// and no transport by name; keeps nothing but the workspace it is given.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "base/dtype.h"
#include "base/random.h"
#include "base/status.h"
#include "base/two_ways.h"
#include "codec/layout.h"
#include "plan/plan.h"
#include "transport/transport.h"

namespace cgx {

enum class ReduceOp : uint8_t { kSum, kMin, kMax, kProd };

// Error feedback of one segment, indexed by element of the segment; null where it has none. The
// contribution's residual belongs to this rank's own gradient, the sum's to the sums it owns. `after`
// is committed by the caller if the collective succeeds.
struct SegmentResidual {
  const float* contribution_before = nullptr;
  float* contribution_after = nullptr;
  const float* sum_before = nullptr;
  float* sum_after = nullptr;
};

// For RunArgs::shared_writes. What is learned of a plan that runs twice as long at times is not exact, so one
// way must be a tenth quicker than the other: ordinary stores where the tensor is large, stores past the
// caches where its reader waits for memory longer than for the bytes.
inline TwoWays shared_writes_of(const Layout& layout) {
  constexpr uint64_t kLittle = 16 << 10;
  return TwoWays(layout.count() * dtype_bytes(layout.dtype()) <= kLittle ? 1.1 : 0.9);
}

class Parallel;   // parallel.h
class Trace;      // base/trace.h
struct RunNotes;  // notes.h

struct RunStats {
  CodecCounts counts;
  uint64_t raw_bytes = 0;   // of sent messages, had they been raw
  uint64_t wire_bytes = 0;  // of sent messages, once per receiver
  double encode_seconds = 0, decode_seconds = 0, wait_seconds = 0;
  int64_t begin_ns = 0, end_ns = 0;  // of the first and of the last thing that was timed; of one run only
};

// Kept between runs, so that none allocates (decoding more than an eighth of all elements from a sparse block
// aside).
struct Workspace {
  // Of one thread: a few tiles, or as much as the longest block that cannot be cut.
  struct Scratch {
    std::vector<float> sum;
    std::vector<float> values;
    std::vector<uint16_t> halves;
    SparseScratch sparse;
    std::vector<uint8_t> draft;  // of a block, before it is copied into shared memory
    // How decoded elements are written: past the caches, or by ordinary stores. Of each codec that was
    // decoded, as what one takes says nothing of another.
    std::vector<std::pair<CodecSpec, TwoWays>> large_outputs;
    std::vector<const void*> inputs;
    RunStats stats;
    Status status;
  };
  std::vector<Scratch> scratch;
  std::vector<uint8_t*> messages;  // of the plan, where they lie now
  std::vector<Piece> pieces;       // of the step that runs
  std::vector<Piece> inner_pieces;
};

struct RunArgs {
  const Plan* plan = nullptr;
  const Layout* layout = nullptr;
  Transport* transport = nullptr;
  const void* x = nullptr;
  void* y = nullptr;
  ReduceOp op = ReduceOp::kSum;
  double scale = 1;                            // folded into the last rounding; rounded to fp32 but for fp64
  RandomKey key;                               // tensor and stage are filled in per piece and step
  std::span<const SegmentResidual> residuals;  // one a segment, or empty
  int64_t timeout_ms = 0;
  Workspace* workspace = nullptr;
  Parallel* parallel = nullptr;  // null: one thread. The bytes are the same
  // How messages are written that peers read: past the caches (way 0), or by ordinary stores. Learns what the
  // run takes; null: past the caches.
  TwoWays* shared_writes = nullptr;
  RunStats* stats = nullptr;  // fresh
  RunNotes* notes = nullptr;  // null: nobody asked
  Trace* trace = nullptr;     // likewise
};

// After an error y and the residuals' `after` are undefined, and the transport is failed.
Status run(const RunArgs& args);

}  // namespace cgx
