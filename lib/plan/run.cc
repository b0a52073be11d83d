#include "plan/run.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "base/float_env.h"
#include "base/stream_copy.h"
#include "codec/value_block.h"
#include "plan/builder.h"
#include "plan/parallel.h"
#include "plan/reduce.h"

namespace cgx {

namespace {

// Elements summed, encoded and decoded at a time: the sum and what is decoded of it stay in L1 or L2.
constexpr uint64_t kTile = 8192;
// Sparse blocks are cut nowhere, but their sum is made in parts: each visits all inputs while it is in L2.
constexpr uint64_t kSparseTile = 32768;
// Raw results of an output this large leave the cache before they are read again: they are copied past
// it, so that what they replace is not fetched. (Decoding past the cache measured slower.)
constexpr uint64_t kStreamBytes = 8 << 20;
// Elements that are worth the waking of another thread.
constexpr uint64_t kPerThread = 16384;

// Adds the time it lives to a total.
class Timer {
 public:
  explicit Timer(double& total) : total_(total), start_(Clock::now()) {}
  ~Timer() { total_ += std::chrono::duration<double>(Clock::now() - start_).count(); }
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

 private:
  using Clock = std::chrono::steady_clock;
  double& total_;
  Clock::time_point start_;
};

class Runner {
 public:
  explicit Runner(const RunArgs& args)
      : args_(args),
        layout_(*args.layout),
        dtype_(layout_.dtype()),
        element_bytes_(dtype_bytes(dtype_)),
        work_(*args.workspace),
        stats_(*args.stats),
        shared_(args.transport->is_shared()),
        copy_(shared_ ? stream_copy : plain_copy),
        copy_out_(streams_output() ? stream_copy : plain_copy) {}

  Status check() const;
  Status run();

 private:
  using Op = Step::Op;

  using Scratch = Workspace::Scratch;

  // One piece of a step's range, with all that is known of it.
  struct Part {
    const Segment& segment;
    const Piece& piece;
    uint64_t count;
    bool raw;  // its block is the elements themselves, and no residual is kept of it
    SegmentResidual residual;
  };

  // The encoding of elements `range` of a piece.
  struct Encoded {
    const uint8_t* block;
    Range range;
  };

  Status execute(const Step& step);
  Status acquire(const Step& step);
  Status send(const Step& step);
  Status receive(const Step& step);
  Status encode(const Step& step);
  Status reduce(const Step& step);
  Status decode(const Step& step);
  Status forward(const Step& step);

  template <typename Each>
  Status each_part(const Step& step, Each each);
  // Calls work(part, begin, end, scratch) for ranges of the piece's elements that together are all of it:
  // one, or one a thread. No two calls write the same bytes, and where the cuts lie cannot be seen in any.
  template <typename Work>
  Status split(const Part& part, Work work);
  // Where the encoding of a range is written: straight into the message, or, where peers read that, into a
  // draft that stays in this core's cache until publish() copies it.
  uint8_t* draft(const Step& step, const Part& part, Range range, Scratch& scratch);
  void publish(const Step& step, const Part& part, Range range, const uint8_t* draft);
  Status encode_range(const Step& step, const Part& part, Range range, Scratch& scratch);
  Status decode_range(const Step& step, const Part& part, Range range, Scratch& scratch);
  void reduce_raw_range(const Step& step, const Part& part, Range range, Scratch& scratch);
  Status reduce_range(const Step& step, const Part& part, Range range, Scratch& scratch);
  Status sum_tile(const Step& step, const Part& part, Range tile, Scratch& scratch, float* sum);
  Status sum_inputs(const Step& step, const Part& part, Range tile, Scratch& scratch, float* sum);
  Status add_own(const Step& step, const Part& part, Range tile, bool first, Scratch& scratch, float* sum);
  Status encode_tile(const Step& step, const Part& part, Range tile, Scratch& scratch, float* sum,
                     uint8_t* out);
  Status encode_sparse_half(const Part& part, float* sum, const BlockContext& context, Residual residual,
                            Scratch& scratch, uint8_t* block);
  Status store_tile(const Part& part, const Encoded& encoded, Range tile, Scratch& scratch);

  uint64_t tile_of(const Part& part) const;
  uint64_t bytes_before(const Part& part, uint64_t begin) const;
  void add(const RunStats& one, size_t parts);
  BlockContext context(const Step& step, const Part& part, uint64_t begin, Scratch& scratch) const;
  static const float* from(const float* residual, uint64_t at) { return residual ? residual + at : nullptr; }
  static float* from(float* residual, uint64_t at) { return residual ? residual + at : nullptr; }
  static float* reserve(std::vector<float>& floats, uint64_t count);

  const uint8_t* x(uint64_t element) const {
    return static_cast<const uint8_t*>(args_.x) + element * element_bytes_;
  }
  uint8_t* y(uint64_t element) const { return static_cast<uint8_t*>(args_.y) + element * element_bytes_; }
  uint8_t* block(uint32_t message, const Part& part) const {
    return work_.messages[message] + part.piece.wire_offset;
  }
  Wait wait(const Step& step) const { return {args_.timeout_ms, phase(step)}; }
  bool streams_output() const {
    return args_.x != args_.y && layout_.count() * element_bytes_ >= kStreamBytes;
  }
  const char* phase(const Step& step) const;
  Status corrupt(const Step& step, const Status& problem) const;

  const RunArgs& args_;
  const Layout& layout_;
  const DType dtype_;
  const size_t element_bytes_;
  Workspace& work_;
  RunStats& stats_;
  const bool shared_;    // messages lie in memory that peers read
  const Copy copy_;      // into messages
  const Copy copy_out_;  // raw elements into y
};

Status Runner::check() const {
  CGX_CHECK(args_.residuals.empty() || args_.residuals.size() == layout_.segments().size());
  const bool is_integer = !is_encodable(dtype_) && dtype_ != DType::kF64;
  if (is_integer && args_.scale != 1) {
    return error(Code::kUnsupported, "{} elements cannot be scaled by {}: they can be summed, not averaged",
                 dtype_name(dtype_), args_.scale);
  }
  if (args_.op == ReduceOp::kSum) return {};
  for (const Segment& segment : layout_.segments()) {
    if (segment.spec.kind == CodecKind::kNone) continue;
    return error(Code::kUnsupported,
                 "only sums can be compressed: min, max and product need the codec none, not {}",
                 to_string(segment.spec));
  }
  return {};
}

Status Runner::run() {
  CGX_RETURN_IF_ERROR(check());
  const FloatEnvironment environment;
  work_.messages.assign(args_.plan->messages.size(), nullptr);
  for (const Step& step : args_.plan->steps) CGX_RETURN_IF_ERROR(execute(step));
  stream_fence();
  const Timer timer(stats_.wait_seconds);
  return args_.transport->flush({args_.timeout_ms, "flush"});
}

Status Runner::execute(const Step& step) {
  switch (step.op) {
    case Op::kEncode:
      return encode(step);
    case Op::kSend:
      return send(step);
    case Op::kPost:
      return args_.transport->post(step.peers[0], args_.plan->messages[step.message].bytes);
    case Op::kReceive:
      return receive(step);
    case Op::kReduceEncode:
    case Op::kReduce:
      return reduce(step);
    case Op::kDecode:
      return decode(step);
    case Op::kForward:
      return forward(step);
    case Op::kRelease:
      args_.transport->release(work_.messages[step.message]);
      return {};
  }
  return error(Code::kInternal, "there is no step {}", static_cast<int>(step.op));
}

// What a message that a step fills or receives is for: to be summed by its owner, or a result.
const char* Runner::phase(const Step& step) const {
  const Step* end = args_.plan->steps.data() + args_.plan->steps.size();
  if (step.last || step.op == Op::kForward) return "gather";
  for (const Step* use = &step + 1; use != end; ++use) {
    if (use->op == Op::kDecode && use->message == step.message) return "gather";
    if (use->op == Op::kRelease && use->message == step.message) break;
    if (std::find(use->inputs.begin(), use->inputs.end(), step.message) == use->inputs.end()) continue;
    return use->op == Op::kReduceEncode ? "scatter" : "gather";
  }
  return "scatter";
}

Status Runner::acquire(const Step& step) {
  const Timer timer(stats_.wait_seconds);
  CGX_ASSIGN_OR_RETURN(work_.messages[step.message],
                       args_.transport->acquire(args_.plan->messages[step.message].bytes, wait(step)));
  return {};
}

Status Runner::send(const Step& step) {
  const Message& message = args_.plan->messages[step.message];
  stats_.raw_bytes += (message.end - message.begin) * element_bytes_ * step.peers.size();
  stats_.wire_bytes += message.bytes * step.peers.size();
  if (shared_) stream_fence();
  return args_.transport->send(work_.messages[step.message], message.bytes, step.peers);
}

Status Runner::receive(const Step& step) {
  const Timer timer(stats_.wait_seconds);
  CGX_ASSIGN_OR_RETURN(
      const uint8_t* message,
      args_.transport->receive(step.peers[0], args_.plan->messages[step.message].bytes, wait(step)));
  // Read only: nothing but kEncode, kReduceEncode and kForward writes, into messages of their own.
  work_.messages[step.message] = const_cast<uint8_t*>(message);
  return {};
}

template <typename Each>
Status Runner::each_part(const Step& step, Each each) {
  layout_.pieces(step.begin, step.end, &work_.pieces);
  for (const Piece& piece : work_.pieces) {
    const Segment& segment = layout_.segments()[piece.segment];
    SegmentResidual residual;
    if (!args_.residuals.empty()) residual = args_.residuals[piece.segment];
    residual.contribution_before = from(residual.contribution_before, piece.in_segment);
    residual.contribution_after = from(residual.contribution_after, piece.in_segment);
    residual.sum_before = from(residual.sum_before, piece.in_segment);
    residual.sum_after = from(residual.sum_after, piece.in_segment);
    const bool keeps = residual.contribution_before != nullptr || residual.contribution_after != nullptr ||
                       residual.sum_before != nullptr || residual.sum_after != nullptr;
    const uint64_t count = piece.end - piece.begin;
    const Part part{segment, piece, count, !keeps && is_raw(segment.spec, dtype_, count), residual};
    if (Status problem = each(part); !problem.ok()) {
      Status told = corrupt(step, problem);
      args_.transport->abort(told);
      return told;
    }
  }
  return {};
}

// A codec refused bytes that a peer sent.
Status Runner::corrupt(const Step& step, const Status& problem) const {
  std::string senders;
  for (const Step& past : args_.plan->steps) {
    if (past.op != Op::kReceive) continue;
    const bool read = past.message == step.message ||
                      std::find(step.inputs.begin(), step.inputs.end(), past.message) != step.inputs.end();
    if (read) senders += fmt::format("{}{}", senders.empty() ? " received from rank " : ", ", past.peers[0]);
  }
  return error(problem.code(), "elements [{}, {}){}: {}", step.begin, step.end, senders, problem.message());
}

template <typename Work>
Status Runner::split(const Part& part, Work work) {
  const uint64_t granule = part.raw ? kGroup : cgx::granule(part.segment.spec);
  const size_t threads = args_.parallel == nullptr ? 1 : args_.parallel->threads();
  const size_t parts = granule == 0 ? 1 : std::min<size_t>(threads, part.count / kPerThread);
  work_.scratch.resize(std::max(work_.scratch.size(), std::max<size_t>(parts, 1)));
  if (parts <= 1) {
    work_.scratch[0].stats = {};
    CGX_RETURN_IF_ERROR(work(Range{0, part.count}, work_.scratch[0]));
    add(work_.scratch[0].stats, 1);
    return {};
  }
  const auto cut = [&](size_t i) {
    const uint64_t at = part.count * i / parts;
    return i == parts ? part.count : (at + granule - 1) / granule * granule;
  };
  args_.parallel->run(parts, [&](size_t i) {
    Scratch& scratch = work_.scratch[i];
    scratch.stats = {};
    scratch.status = {};
    const Range range{std::min(cut(i), part.count), std::min(cut(i + 1), part.count)};
    if (!range.empty()) scratch.status = work(range, scratch);
    stream_fence();
  });
  for (size_t i = 0; i < parts; ++i) {
    CGX_RETURN_IF_ERROR(std::move(work_.scratch[i].status));
    add(work_.scratch[i].stats, parts);
  }
  return {};
}

// What a thread of `parts` counted; their times overlap.
void Runner::add(const RunStats& one, size_t parts) {
  stats_.counts.elements += one.counts.elements;
  stats_.counts.saturated += one.counts.saturated;
  stats_.counts.non_finite += one.counts.non_finite;
  stats_.encode_seconds += one.encode_seconds / static_cast<double>(parts);
  stats_.decode_seconds += one.decode_seconds / static_cast<double>(parts);
}

BlockContext Runner::context(const Step& step, const Part& part, uint64_t begin, Scratch& scratch) const {
  BlockContext context;
  context.key = args_.key;
  context.key.tensor = part.segment.tensor_id;
  context.key.stage = step.stage;
  context.first = part.piece.in_segment + begin;
  context.counts = &scratch.stats.counts;
  context.scratch = &scratch.sparse;
  return context;
}

Status Runner::encode(const Step& step) {
  CGX_RETURN_IF_ERROR(acquire(step));
  const Timer timer(stats_.encode_seconds);
  return each_part(step, [&](const Part& part) {
    return split(part, [&](Range range, Scratch& s) { return encode_range(step, part, range, s); });
  });
}

uint8_t* Runner::draft(const Step& step, const Part& part, Range range, Scratch& scratch) {
  if (!shared_) return block(step.message, part) + bytes_before(part, range.begin);
  const size_t bytes = bytes_before(part, range.end) - bytes_before(part, range.begin);
  if (scratch.draft.size() < bytes) scratch.draft.resize(bytes);
  return scratch.draft.data();
}

void Runner::publish(const Step& step, const Part& part, Range range, const uint8_t* draft) {
  if (!shared_) return;
  const uint64_t begin = bytes_before(part, range.begin);
  stream_copy(block(step.message, part) + begin, draft, bytes_before(part, range.end) - begin);
}

Status Runner::encode_range(const Step& step, const Part& part, Range range, Scratch& scratch) {
  const uint64_t count = range.end - range.begin;
  if (part.raw) {
    const uint64_t skip = range.begin * element_bytes_;
    copy_(block(step.message, part) + skip, x(part.piece.begin + range.begin), count * element_bytes_);
    return {};
  }
  uint8_t* out = draft(step, part, range, scratch);
  const Residual residual{from(part.residual.contribution_before, range.begin),
                          from(part.residual.contribution_after, range.begin)};
  CGX_RETURN_IF_ERROR(cgx::encode(part.segment.spec, dtype_, x(part.piece.begin + range.begin), count,
                                  context(step, part, range.begin, scratch), residual, out));
  publish(step, part, range, out);
  return {};
}

Status Runner::forward(const Step& step) {
  CGX_RETURN_IF_ERROR(acquire(step));
  const Timer timer(stats_.encode_seconds);
  copy_(work_.messages[step.message], work_.messages[step.inputs[0]],
        args_.plan->messages[step.message].bytes);
  return {};
}

Status Runner::decode(const Step& step) {
  const Timer timer(stats_.decode_seconds);
  return each_part(step, [&](const Part& part) {
    return split(part, [&](Range range, Scratch& s) { return decode_range(step, part, range, s); });
  });
}

Status Runner::decode_range(const Step& step, const Part& part, Range range, Scratch& scratch) {
  const uint8_t* in = block(step.message, part);
  if (part.raw) {
    copy_out_(y(part.piece.begin + range.begin), in + range.begin * element_bytes_,
              (range.end - range.begin) * element_bytes_);
    return {};
  }
  const uint64_t tile = dtype_ == DType::kF32 ? part.count : tile_of(part);
  for (uint64_t begin = range.begin; begin < range.end; begin += tile) {
    const Range stored{begin, std::min(begin + tile, range.end)};
    CGX_RETURN_IF_ERROR(store_tile(part, {in, {0, part.count}}, stored, scratch));
  }
  return {};
}

// y <- the tile's elements.
Status Runner::store_tile(const Part& part, const Encoded& encoded, Range tile, Scratch& scratch) {
  uint8_t* out = y(part.piece.begin + tile.begin);
  const uint64_t count = tile.end - tile.begin;
  const bool direct = dtype_ == DType::kF32;
  float* values = direct ? reinterpret_cast<float*>(out) : reserve(scratch.values, count);
  const uint64_t first = encoded.range.begin;
  CGX_RETURN_IF_ERROR(cgx::decode_part(part.segment.spec, dtype_, encoded.block, encoded.range.end - first,
                                       tile.begin - first, tile.end - first, Into::kAssign, values));
  if (!direct) store_rounded(dtype_, values, count, out);
  return {};
}

Status Runner::reduce(const Step& step) {
  if (step.op == Op::kReduceEncode) CGX_RETURN_IF_ERROR(acquire(step));
  return each_part(step, [&](const Part& part) {
    return split(part, [&](Range range, Scratch& scratch) {
      if (!part.raw) return reduce_range(step, part, range, scratch);
      const Timer timer(scratch.stats.decode_seconds);
      reduce_raw_range(step, part, range, scratch);
      return Status();
    });
  });
}

void Runner::reduce_raw_range(const Step& step, const Part& part, Range range, Scratch& scratch) {
  const uint64_t skip = range.begin * element_bytes_;
  scratch.inputs.clear();
  for (uint32_t input : step.inputs) {
    const uint8_t* elements = input == kOwnInput ? x(part.piece.begin) : block(input, part);
    scratch.inputs.push_back(elements + skip);
  }
  const bool into_y = step.op == Op::kReduce || step.last;
  RawSum sum{dtype_, args_.op, into_y ? args_.scale : 1, scratch.inputs, nullptr, nullptr};
  uint8_t* message = step.op == Op::kReduce ? nullptr : block(step.message, part) + skip;
  sum.out = into_y ? y(part.piece.begin) + skip : message;
  sum.copy = into_y ? message : nullptr;
  sum.write_copy = copy_;
  reduce_raw(sum, range.end - range.begin);
}

uint64_t Runner::tile_of(const Part& part) const {
  const uint64_t granule = cgx::granule(part.segment.spec);
  return granule == 0 ? part.count : granule * std::max<uint64_t>(1, kTile / granule);
}

// Where element `begin` of a piece's block is encoded; a multiple of the granule.
uint64_t Runner::bytes_before(const Part& part, uint64_t begin) const {
  return begin == 0 ? 0 : encoded_bytes(part.segment.spec, dtype_, begin);
}

// Sums, rounds and stores a tile at a time: the sum never leaves the cache.
Status Runner::reduce_range(const Step& step, const Part& part, Range range, Scratch& scratch) {
  const uint64_t length = tile_of(part);
  const bool into_y = step.op == Op::kReduce;
  const bool reads_x = std::find(step.inputs.begin(), step.inputs.end(), kOwnInput) != step.inputs.end();
  uint8_t* made = into_y ? nullptr : draft(step, part, range, scratch);
  for (uint64_t begin = range.begin; begin < range.end; begin += length) {
    const Range tile{begin, std::min(begin + length, range.end)};
    const uint64_t count = tile.end - tile.begin;
    uint8_t* into = y(part.piece.begin + begin);
    const bool direct = into_y && !reads_x && dtype_ == DType::kF32;
    float* sum = direct ? reinterpret_cast<float*>(into) : reserve(scratch.sum, count);
    {
      const Timer timer(scratch.stats.decode_seconds);
      CGX_RETURN_IF_ERROR(sum_tile(step, part, tile, scratch, sum));
      if ((into_y || step.last) && args_.scale != 1) scale_by(sum, args_.scale, count);
      if (into_y && !direct) store_rounded(dtype_, sum, count, into);
    }
    if (into_y) continue;
    const Timer timer(scratch.stats.encode_seconds);
    uint8_t* out = made + (bytes_before(part, begin) - bytes_before(part, range.begin));
    CGX_RETURN_IF_ERROR(encode_tile(step, part, tile, scratch, sum, out));
  }
  if (!into_y) publish(step, part, range, made);
  return {};
}

Status Runner::sum_tile(const Step& step, const Part& part, Range tile, Scratch& scratch, float* sum) {
  const CodecSpec& spec = part.segment.spec;
  const bool cuts = is_sparse(spec) && value_granule(spec.values) != 0;
  const uint64_t length = cuts ? kSparseTile : tile.end - tile.begin;
  for (uint64_t begin = tile.begin; begin < tile.end; begin += length) {
    const Range one{begin, std::min(begin + length, tile.end)};
    CGX_RETURN_IF_ERROR(sum_inputs(step, part, one, scratch, sum + (begin - tile.begin)));
  }
  return {};
}

Status Runner::sum_inputs(const Step& step, const Part& part, Range tile, Scratch& scratch, float* sum) {
  for (size_t i = 0; i < step.inputs.size(); ++i) {
    if (step.inputs[i] == kOwnInput) {
      CGX_RETURN_IF_ERROR(add_own(step, part, tile, i == 0, scratch, sum));
    } else {
      CGX_RETURN_IF_ERROR(cgx::decode_part(part.segment.spec, dtype_, block(step.inputs[i], part), part.count,
                                           tile.begin, tile.end, i == 0 ? Into::kAssign : Into::kAdd, sum));
    }
  }
  return {};
}

// Where the own elements go straight into the final sum they take their residual along, and nothing of
// them is lost; where the sum is a hop's, the encoding that follows sees to the residual.
Status Runner::add_own(const Step& step, const Part& part, Range tile, bool first, Scratch& scratch,
                       float* sum) {
  const uint64_t count = tile.end - tile.begin;
  const bool is_final = step.op == Op::kReduce || step.last;
  const float* before = is_final ? from(part.residual.contribution_before, tile.begin) : nullptr;
  float* after = is_final ? from(part.residual.contribution_after, tile.begin) : nullptr;
  const uint8_t* own = x(part.piece.begin + tile.begin);
  if (first) {
    load_elements({dtype_, own, before}, 0, count, sum);
  } else if (dtype_ == DType::kF32 && before == nullptr) {
    add_to(sum, reinterpret_cast<const float*>(own), count);
  } else {
    float* values = reserve(scratch.values, count);
    load_elements({dtype_, own, before}, 0, count, values);
    add_to(sum, values, count);
  }
  if (after != nullptr) std::fill_n(after, count, 0.0f);
  return {};
}

// What others decode goes to y in the same pass, where the codec can. `sum` is scratch afterwards.
Status Runner::encode_tile(const Step& step, const Part& part, Range tile, Scratch& scratch, float* sum,
                           uint8_t* out) {
  const uint64_t count = tile.end - tile.begin;
  const CodecSpec& spec = part.segment.spec;
  uint8_t* into = y(part.piece.begin + tile.begin);
  const bool gives_back = step.last && !is_sparse(spec);
  const bool is_f32 = dtype_ == DType::kF32;
  const SegmentResidual& r = part.residual;
  Residual residual =
      step.last ? Residual{from(r.sum_before, tile.begin), from(r.sum_after, tile.begin)}
                : Residual{from(r.contribution_before, tile.begin), from(r.contribution_after, tile.begin)};
  if (gives_back) residual.decoded = is_f32 ? reinterpret_cast<float*>(into) : sum;
  const BlockContext key = context(step, part, tile.begin, scratch);
  if (is_f32) {
    CGX_RETURN_IF_ERROR(cgx::encode(spec, dtype_, sum, count, key, residual, out));
  } else if (is_sparse(spec)) {
    CGX_RETURN_IF_ERROR(encode_sparse_half(part, sum, key, residual, scratch, out));
  } else {
    encode_values(spec.values, dtype_, {DType::kF32, sum, residual.before}, count, key,
                  {residual.after, residual.decoded}, out);
  }
  if (!step.last) return {};
  if (!gives_back) return store_tile(part, {out, tile}, tile, scratch);
  if (!is_f32) store_rounded(dtype_, sum, count, into);
  return {};
}

// Sparse blocks are made of elements in the tensor's own type: rounds the sum to it first, and counts
// that loss in the residual. `sum` is scratch afterwards.
Status Runner::encode_sparse_half(const Part& part, float* sum, const BlockContext& context,
                                  Residual residual, Scratch& scratch, uint8_t* block) {
  float* exact = reserve(scratch.values, part.count);
  load_elements({DType::kF32, sum, residual.before}, 0, part.count, exact);
  scratch.halves.resize(std::max<size_t>(scratch.halves.size(), part.count));
  store_rounded(dtype_, exact, part.count, scratch.halves.data());
  CGX_RETURN_IF_ERROR(cgx::encode(part.segment.spec, dtype_, scratch.halves.data(), part.count, context,
                                  {nullptr, residual.after}, block));
  if (residual.after == nullptr) return {};
  load_elements({dtype_, scratch.halves.data(), nullptr}, 0, part.count, sum);
  for (size_t i = 0; i < part.count; ++i) residual.after[i] += exact[i] - sum[i];
  return {};
}

float* Runner::reserve(std::vector<float>& floats, uint64_t count) {
  if (floats.size() < count) floats.resize(count);
  return floats.data();
}

}  // namespace

Status run(const RunArgs& args) { return Runner(args).run(); }

}  // namespace cgx
