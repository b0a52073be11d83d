#include "plan/run.h"

#include <algorithm>

#include "base/float_env.h"
#include "plan/parallel.h"
#include "plan/part.h"

namespace cgx {

namespace {

// Elements that are worth the waking of another thread.
constexpr uint64_t kPerThread = 16384;

class Runner {
 public:
  explicit Runner(const RunArgs& args)
      : args_(args), layout_(*args.layout), arena_(args), work_(*args.workspace), stats_(*args.stats) {}

  Status check() const;
  Status run();

 private:
  using Op = Step::Op;

  Status execute(const Step& step);
  Status acquire(const Step& step);
  Status send(const Step& step);
  Status receive(const Step& step);
  Status forward(const Step& step);

  // Does `work` for every piece of the step's range, on as many threads as there are and it is worth.
  using Work = Status (PartWork::*)();
  Status each_part(const Step& step, Work work);
  Status split(const Part& part, Work work);
  void add(const RunStats& one, size_t parts);

  Wait wait(const Step& step) const { return {args_.timeout_ms, phase(step)}; }
  const char* phase(const Step& step) const;
  Status corrupt(const Step& step, const Status& problem) const;

  const RunArgs& args_;
  const Layout& layout_;
  const Arena arena_;
  Workspace& work_;
  RunStats& stats_;
};

Status Runner::check() const {
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
  const Timer timer(stats_.wait_seconds);
  return args_.transport->flush({args_.timeout_ms, "flush"});
}

Status Runner::execute(const Step& step) {
  switch (step.op) {
    case Op::kEncode: {
      CGX_RETURN_IF_ERROR(acquire(step));
      const Timer timer(stats_.encode_seconds);
      return each_part(step, &PartWork::encode);
    }
    case Op::kSend:
      return send(step);
    case Op::kPost:
      return args_.transport->post(step.peers[0], args_.plan->messages[step.message].bytes);
    case Op::kReceive:
      return receive(step);
    case Op::kReduceEncode:
      CGX_RETURN_IF_ERROR(acquire(step));
      return each_part(step, &PartWork::reduce);
    case Op::kReduce:
      return each_part(step, &PartWork::reduce);
    case Op::kDecode: {
      const Timer timer(stats_.decode_seconds);
      return each_part(step, &PartWork::decode);
    }
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
  stats_.raw_bytes += (message.end - message.begin) * arena_.element_bytes * step.peers.size();
  stats_.wire_bytes += message.bytes * step.peers.size();
  if (arena_.shared) stream_fence();
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

Status Runner::each_part(const Step& step, Work work) {
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
    const bool raw = !keeps && is_raw(segment.spec, arena_.dtype, count);
    const Part part{step, segment, piece, count, raw, residual};
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
  const uint64_t granule = part.raw ? kGroup : cgx::granule(part.segment.spec);
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
    if (!range.empty()) scratch.status = (share.*work)();
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

Status Runner::forward(const Step& step) {
  CGX_RETURN_IF_ERROR(acquire(step));
  const Timer timer(stats_.encode_seconds);
  arena_.copy_in(work_.messages[step.message], work_.messages[step.inputs[0]],
                 args_.plan->messages[step.message].bytes);
  return {};
}

}  // namespace

Status run(const RunArgs& args) { return Runner(args).run(); }

}  // namespace cgx
