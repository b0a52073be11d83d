#include "plan/run.h"

#include <algorithm>
#include <chrono>
#include <new>
#include <optional>

#include "base/float_env.h"
#include "base/trace.h"
#include "plan/notes.h"
#include "plan/parallel.h"
#include "plan/part.h"

namespace cgx {

namespace {

// Elements that are worth the waking of another thread.
constexpr uint64_t kPerThread = 16384;

class Runner {
 public:
  // Adds the time it lives to one of the totals (null: to none), and shows it in the trace.
  class Span;

  explicit Runner(const RunArgs& args)
      : args_(args), layout_(*args.layout), arena_(args), work_(*args.workspace), stats_(*args.stats) {}

  Status check() const;
  Status run();

 private:
  using Op = Step::Op;

  Status execute(const Step& step);
  Status flush();
  void learn_shared_writes();
  Status acquire(const Step& step);
  Status send(const Step& step);
  Status receive(const Step& step);
  Status forward(const Step& step);
  Status encode(const Step& step);
  Status decode(const Step& step);
  Status reduce(const Step& step);

  // Does `work` for every piece of the step's range, on as many threads as there are and it is worth.
  using Work = Status (PartWork::*)();
  Status each_part(const Step& step, Work work);
  Part part_of(const Step& step, size_t index) const;
  bool uses(const Step& step, Level level) const;
  Status split(const Part& part, Work work);
  void add(const RunStats& one, size_t parts);

  Wait wait(const Step& step) const { return {args_.timeout_ms, phase(step)}; }
  // What the step's message is for: see phases.h.
  const char* phase(const Step& step) const {
    return args_.plan->phases[static_cast<size_t>(&step - args_.plan->steps.data())];
  }
  std::span<const int> receivers(const Step& step) const;
  Status corrupt(const Step& step, const Status& problem) const;

  void trace(const char* name, const Step& step, int64_t begin_ns, int64_t end_ns) const;
  // The end of the span before, where nothing that takes time came between: a clock is not free.
  int64_t begin_of_span() const {
    return span_just_ended_ && args_.trace == nullptr ? stats_.end_ns : trace_now_ns();
  }
  // For who asked (args.notes): a piece's share of what its step took, and what its encoding lost.
  class PieceNote;
  void note_wait(const Step& step, double seconds);
  Status note_errors(const Step& step);

  const RunArgs& args_;
  const Layout& layout_;
  Arena arena_;
  Workspace& work_;
  RunStats& stats_;
  bool span_just_ended_ = false;
  bool wrote_shared_ = false;  // some message
  std::optional<double> first_wait_seconds_;
};

class Runner::Span {
 public:
  using Total = double RunStats::*;
  Span(Runner& runner, const char* name, const Step& step, Total total)
      : runner_(runner), name_(name), step_(step), total_(total), begin_ns_(runner.begin_of_span()) {}
  Span(const Span&) = delete;
  Span& operator=(const Span&) = delete;
  ~Span() {
    const int64_t end_ns = trace_now_ns();
    if (total_ != nullptr) runner_.stats_.*total_ += 1e-9 * static_cast<double>(end_ns - begin_ns_);
    if (runner_.args_.trace != nullptr) runner_.trace(name_, step_, begin_ns_, end_ns);
    if (total_ == nullptr) return;  // maybe on another thread
    if (runner_.stats_.begin_ns == 0) runner_.stats_.begin_ns = begin_ns_;
    runner_.stats_.end_ns = end_ns;
    runner_.span_just_ended_ = true;
  }

 private:
  Runner& runner_;
  const char* name_;
  const Step& step_;
  const Total total_;
  const int64_t begin_ns_;
};

void Runner::trace(const char* name, const Step& step, int64_t begin_ns, int64_t end_ns) const {
  TraceSpan span;
  span.name = name;
  span.begin_ns = begin_ns;
  span.end_ns = end_ns;
  span.operation = args_.key.operation;
  span.rank = args_.key.rank;
  span.begin = step.begin;
  span.end = step.end;
  if (step.message != kNoMessage) span.bytes = args_.plan->messages[step.message].bytes;
  if (step.peers.size() == 1) span.peer = step.peers[0];
  args_.trace->add(span);
}

class Runner::PieceNote {
 public:
  PieceNote(const Runner& runner, const Step& step, size_t segment)
      : runner_(runner),
        step_(step),
        into_(&runner.args_.notes->segments[segment]),
        before_(runner.stats_),
        begin_ns_(trace_now_ns()) {}
  PieceNote(const PieceNote&) = delete;
  PieceNote& operator=(const PieceNote&) = delete;
  ~PieceNote() {
    const double seconds = 1e-9 * static_cast<double>(trace_now_ns() - begin_ns_);
    const RunStats& now = runner_.stats_;
    SegmentNotes one;
    one.counts.elements = now.counts.elements - before_.counts.elements;
    one.counts.saturated = now.counts.saturated - before_.counts.saturated;
    one.counts.non_finite = now.counts.non_finite - before_.counts.non_finite;
    one.encode_seconds =
        step_.op == Op::kEncode ? seconds : std::min(seconds, now.encode_seconds - before_.encode_seconds);
    one.decode_seconds = seconds - one.encode_seconds;
    into_->add(one);
  }

 private:
  const Runner& runner_;
  const Step& step_;
  SegmentNotes* into_;
  const RunStats before_;
  const int64_t begin_ns_;
};

// A wait belongs to the tensors of its message, by their elements.
void Runner::note_wait(const Step& step, double seconds) {
  layout_.pieces(step.begin, step.end, &work_.pieces);
  for (const Piece& piece : work_.pieces) {
    args_.notes->segments[piece.segment].wait_seconds +=
        seconds * static_cast<double>(piece.end - piece.begin) / static_cast<double>(step.end - step.begin);
  }
}

// Of what `step` has just encoded: this rank's own elements, before others are added.
Status Runner::note_errors(const Step& step) {
  const Layout& layout = args_.plan->layout(args_.plan->messages[step.message].level, layout_);
  layout.pieces(step.begin, step.end, &work_.pieces);
  for (const Piece& piece : work_.pieces) {
    const CodecSpec& spec = layout.segments()[piece.segment].spec;
    const uint64_t count = piece.end - piece.begin;
    if (is_raw(spec, arena_.dtype, count)) continue;
    const uint8_t* block = work_.messages[step.message] + piece.wire_offset;
    CGX_RETURN_IF_ERROR(compare({&spec, arena_.dtype, arena_.x(piece.begin), block, count}, args_.notes,
                                &args_.notes->segments[piece.segment]));
  }
  return {};
}

Status Runner::check() const {
  CGX_CHECK(args_.plan->phases.size() == args_.plan->steps.size());
  CGX_CHECK(args_.plan->first_send.size() == args_.plan->messages.size());
  CGX_CHECK(args_.residuals.empty() || args_.residuals.size() == layout_.segments().size());
  const bool is_integer = !is_encodable(arena_.dtype) && arena_.dtype != DType::kF64;
  if (is_integer && args_.scale != 1) {
    return error(Code::kUnsupported, "{} elements cannot be scaled by {}: they can be summed, not averaged",
                 dtype_name(arena_.dtype), args_.scale);
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
  CGX_RETURN_IF_ERROR(flush());
  learn_shared_writes();
  return {};
}

// By how long it took, but for the wait for the first message: that is for peers who come later.
void Runner::learn_shared_writes() {
  if (args_.shared_writes == nullptr || !wrote_shared_) return;
  const auto arrival_ns = static_cast<int64_t>(1e9 * first_wait_seconds_.value_or(0));
  args_.shared_writes->learn(std::chrono::nanoseconds(stats_.end_ns - stats_.begin_ns - arrival_ns), 1);
}

Status Runner::flush() {
  const Span span(*this, "flush", Step{}, &RunStats::wait_seconds);
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
      CGX_RETURN_IF_ERROR(acquire(step));
      return reduce(step);
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

Status Runner::encode(const Step& step) {
  CGX_RETURN_IF_ERROR(acquire(step));
  {
    const Span span(*this, "encode", step, &RunStats::encode_seconds);
    CGX_RETURN_IF_ERROR(each_part(step, &PartWork::encode));
  }
  return args_.notes != nullptr && args_.notes->errors ? note_errors(step) : Status();
}

Status Runner::decode(const Step& step) {
  const Span span(*this, "decode", step, &RunStats::decode_seconds);
  return each_part(step, &PartWork::decode);
}

// Encoding is timed where it is done, a tile at a time; all else is summing.
Status Runner::reduce(const Step& step) {
  const RunStats before = stats_;
  Status status;
  {
    const Span span(*this, "reduce", step, &RunStats::decode_seconds);
    status = each_part(step, &PartWork::reduce);
  }
  stats_.decode_seconds -= stats_.encode_seconds - before.encode_seconds;
  stats_.decode_seconds = std::max(stats_.decode_seconds, before.decode_seconds);
  return status;
}

// Of the message that `step` fills, by the first step that sends it.
std::span<const int> Runner::receivers(const Step& step) const {
  const uint32_t send = args_.plan->first_send[step.message];
  return send == kNoStep ? std::span<const int>() : args_.plan->steps[send].peers;
}

Status Runner::acquire(const Step& step) {
  const Span span(*this, "wait for memory", step, &RunStats::wait_seconds);
  const uint64_t bytes = args_.plan->messages[step.message].bytes;
  CGX_ASSIGN_OR_RETURN(const Transport::Lent lent,
                       args_.transport->acquire_for(receivers(step), bytes, wait(step)));
  work_.messages[step.message] = lent.memory;
  arena_.shared = lent.shared;
  wrote_shared_ = wrote_shared_ || lent.shared;
  return {};
}

Status Runner::send(const Step& step) {
  const Message& message = args_.plan->messages[step.message];
  stats_.raw_bytes += (message.end - message.begin) * arena_.element_bytes * step.peers.size();
  stats_.wire_bytes += message.bytes * step.peers.size();
  if (args_.transport->is_shared()) stream_fence();
  span_just_ended_ = false;
  std::optional<Span> span;  // beside the trace nobody asks how long it takes
  if (args_.trace != nullptr) span.emplace(*this, "send", step, nullptr);
  return args_.transport->send(work_.messages[step.message], message.bytes, step.peers);
}

Status Runner::receive(const Step& step) {
  const double waited_before = stats_.wait_seconds;
  {
    const Span span(*this, "wait", step, &RunStats::wait_seconds);
    CGX_ASSIGN_OR_RETURN(
        const uint8_t* message,
        args_.transport->receive(step.peers[0], args_.plan->messages[step.message].bytes, wait(step)));
    // Read only: nothing but kEncode, kReduceEncode and kForward writes, into messages of their own.
    work_.messages[step.message] = const_cast<uint8_t*>(message);
  }
  const double waited = stats_.wait_seconds - waited_before;
  if (!first_wait_seconds_) first_wait_seconds_ = waited;
  if (args_.notes != nullptr) note_wait(step, waited);
  return {};
}

// The step reads or writes a message of that level.
bool Runner::uses(const Step& step, Level level) const {
  const auto is = [&](uint32_t message) {
    return message < args_.plan->messages.size() && args_.plan->messages[message].level == level;
  };
  return is(step.message) || std::any_of(step.inputs.begin(), step.inputs.end(), is);
}

Part Runner::part_of(const Step& step, size_t index) const {
  const Piece& piece = work_.pieces[index];
  SegmentResidual residual;
  if (!args_.residuals.empty()) residual = args_.residuals[piece.segment];
  residual.contribution_before = from(residual.contribution_before, piece.in_segment);
  residual.contribution_after = from(residual.contribution_after, piece.in_segment);
  residual.sum_before = from(residual.sum_before, piece.in_segment);
  residual.sum_after = from(residual.sum_after, piece.in_segment);
  const bool keeps = residual.contribution_before != nullptr || residual.contribution_after != nullptr ||
                     residual.sum_before != nullptr || residual.sum_after != nullptr;
  Part part{step,    layout_.segments()[piece.segment], piece, piece.end - piece.begin, {}, kGroup, !keeps,
            residual};
  const auto add = [&](Level level, const CodecSpec& spec, uint64_t wire_offset) {
    part.codings[static_cast<size_t>(level)] = {&spec, wire_offset};
    const uint64_t granule = cgx::granule(spec);
    part.granule = granule == 0 || part.granule == 0 ? 0 : std::max(part.granule, granule);
    part.raw = part.raw && is_raw(spec, arena_.dtype, part.count);
  };
  const bool inner = uses(step, Level::kInner);
  if (!inner || uses(step, Level::kMain)) add(Level::kMain, part.segment.spec, piece.wire_offset);
  if (inner) {
    const Piece& other = work_.inner_pieces[index];
    add(Level::kInner, args_.plan->inner.segments()[other.segment].spec, other.wire_offset);
  }
  return part;
}

Status Runner::each_part(const Step& step, Work work) {
  layout_.pieces(step.begin, step.end, &work_.pieces);
  if (uses(step, Level::kInner)) args_.plan->inner.pieces(step.begin, step.end, &work_.inner_pieces);
  for (size_t i = 0; i < work_.pieces.size(); ++i) {
    const Part part = part_of(step, i);
    std::optional<PieceNote> note;
    if (args_.notes != nullptr) note.emplace(*this, step, work_.pieces[i].segment);
    if (Status problem = split(part, work); !problem.ok()) {
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

Status Runner::split(const Part& part, Work work) {
  const uint64_t granule = part.raw ? kGroup : part.granule;
  const size_t threads = args_.parallel == nullptr ? 1 : args_.parallel->threads();
  const size_t parts = granule == 0 ? 1 : std::min<size_t>(threads, part.count / kPerThread);
  work_.scratch.resize(std::max(work_.scratch.size(), std::max<size_t>(parts, 1)));
  if (parts <= 1) {
    work_.scratch[0].stats = {};
    PartWork whole(arena_, part, {0, part.count}, work_.scratch[0]);
    CGX_RETURN_IF_ERROR((whole.*work)());
    add(work_.scratch[0].stats, 1);
    return {};
  }
  const auto cut = [&](size_t i) {
    const uint64_t at = part.count * i / parts;
    return i == parts ? part.count : (at + granule - 1) / granule * granule;
  };
  args_.parallel->run(parts, [&](size_t i) {
    Workspace::Scratch& scratch = work_.scratch[i];
    scratch.stats = {};
    scratch.status = {};
    const Range range{std::min(cut(i), part.count), std::min(cut(i + 1), part.count)};
    PartWork share(arena_, part, range, scratch);
    std::optional<Span> span;
    if (args_.trace != nullptr) span.emplace(*this, "share of a thread", part.step, nullptr);
    try {
      if (!range.empty()) scratch.status = (share.*work)();
    } catch (const std::bad_alloc&) {  // no exception may leave a thread of the pool
      scratch.status = Status(Code::kResource, "out of memory");
    }
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
}

Status Runner::forward(const Step& step) {
  CGX_RETURN_IF_ERROR(acquire(step));
  const Span span(*this, "forward", step, &RunStats::encode_seconds);
  arena_.into_message()(work_.messages[step.message], work_.messages[step.inputs[0]],
                        args_.plan->messages[step.message].bytes);
  return {};
}

}  // namespace

Status run(const RunArgs& args) { return Runner(args).run(); }

}  // namespace cgx
