// See communicator.h. The path of a collective: check, find the plan, say hello, run, commit.
#include "comm/communicator.h"

#include <unistd.h>

#include <algorithm>
#include <new>

#include "base/hash.h"
#include "base/log.h"
#include "cgx/cgx.h"
#include "comm/policy_text.h"
#include "comm/table_text.h"

namespace cgx {
namespace {

bool is_uncompressed(const Layout& layout) {
  const auto& segments = layout.segments();
  return std::all_of(segments.begin(), segments.end(),
                     [](const Segment& s) { return s.spec.kind == CodecKind::kNone; });
}

}  // namespace

Communicator::~Communicator() {
  if (!worker_->wait_idle(config_.timeout_ms)) abort("destroyed while work was outstanding");
  worker_.reset();
  // Peers may still be reading what this rank sent last.
  if (failure().ok()) {
    if (Status flushed = transport_->flush({config_.timeout_ms, "closing"}); !flushed.ok()) {
      log(LogLevel::kInfo, Subsystem::kInit, "closing the communicator: {}", flushed.message());
    }
  }
}

Status Communicator::require_own_process() const {
  if (::getpid() == pid_) return Status();
  return error(Code::kInvalidArgument,
               "this communicator belongs to process {}, of which this one ({}) is a fork: threads and "
               "connections did "
               "not come along. Make one of its own here",
               pid_, ::getpid());
}

Status Communicator::failure() const {
  const std::lock_guard lock(mutex_);
  if (failure_.ok()) return Status();
  return error(Code::kFailed, "this communicator failed earlier and can only be destroyed: {}",
               failure_.message());
}

Status Communicator::check(const AllreduceCall& call) const {
  CGX_RETURN_IF_ERROR(require_own_process());
  CGX_RETURN_IF_ERROR(failure());
  if (call.timeout_ms < 0) {
    return error(Code::kInvalidArgument, "timeout_ms must be positive (0: the communicator's), not {}",
                 call.timeout_ms);
  }
  const DType dtype = call.layout.dtype();
  if (call.op != ReduceOp::kSum && (call.average || !is_uncompressed(call.layout))) {
    return error(Code::kUnsupported, "a {} is neither averaged nor compressed", op_name(call.op));
  }
  if (call.average && !is_encodable(dtype) && dtype != DType::kF64) {
    return error(Code::kUnsupported, "CGX_AVG of {}: integers can only be summed", dtype_name(dtype));
  }
  for (const Segment& segment : call.layout.segments()) {
    if (segment.spec.error_feedback) CGX_RETURN_IF_ERROR(check_error_feedback(segment.spec));
  }
  return Status();
}

Status Communicator::allreduce(AllreduceCall call) {
  if (worker_->here()) {
    return error(Code::kInvalidArgument,
                 "a completion callback called its own communicator and would wait for itself for ever");
  }
  CGX_RETURN_IF_ERROR(check(call));
  if (worker_->idle()) return execute(call);
  CGX_ASSIGN_OR_RETURN(const std::shared_ptr<Work> work, allreduce_async(std::move(call), nullptr));
  work->wait(-1);
  return work->status();
}

Result<std::shared_ptr<Work>> Communicator::allreduce_async(AllreduceCall call, Work::Done done) {
  CGX_RETURN_IF_ERROR(check(call));
  auto work = std::make_shared<Work>(std::move(done));
  std::function<void()> task = [this, work, call = std::move(call)] {
    Status status = execute(call);
    --unfinished_;  // before anybody hears of the end, and may ask for residuals
    work->finish(std::move(status));
  };
  ++unfinished_;
  Status queued = worker_->push(std::move(task));
  if (!queued.ok()) {
    --unfinished_;
    return queued;
  }
  return work;
}

Hello Communicator::make_hello(const AllreduceCall& call, const CachedPlan& plan) const {
  Hello hello;
  hello.version = CGX_VERSION;
  hello.operation = operation_;
  // 0 and 1 are the sum and the average.
  const uint64_t op = call.op == ReduceOp::kSum ? 0 : 1 + static_cast<uint64_t>(call.op);
  hello.fingerprint = mix(plan.fingerprint, call.average ? 1 : op);
  hello.set_text(fmt::format("{}, {}", call.average ? "avg" : op_name(call.op), plan.description));
  return hello;
}

Status Communicator::execute(const AllreduceCall& call) {
  set_log_rank(config_.rank);
  RunStats run_stats;
  const CachedPlan* plan = nullptr;
  const uint64_t operation = operation_;
  const int64_t begin_ns = observer_->trace() != nullptr ? trace_now_ns() : 0;
  Status status;
  try {
    status = find_and_execute(call, &run_stats, &plan);
  } catch (const std::bad_alloc&) {
    status = Status(Code::kResource, "out of memory");
  }
  // The peers wait for this rank and must hear that it cannot come.
  if (status.code() == Code::kResource && failure().ok()) status = fail(std::move(status));
  const uint64_t not_sum = call.spared == Spared::kNotSum ? call.spared_elements : 0;
  try {
    observer_->ended({plan, &run_stats, &status, operation, begin_ns, not_sum});
  } catch (const std::bad_alloc&) {  // a line of figures less
  }
  return status;
}

Status Communicator::find_and_execute(const AllreduceCall& call, RunStats* run_stats,
                                      const CachedPlan** plan) {
  {
    const std::lock_guard lock(mutex_);
    if (aborted_) return error(Code::kAborted, "{}", failure_.message());
  }
  CGX_RETURN_IF_ERROR(failure());
  if (plans_.profile() == nullptr && call.layout.any_auto()) {
    const int64_t timeout_ms = call.timeout_ms > 0 ? call.timeout_ms : config_.timeout_ms;
    CGX_RETURN_IF_ERROR(
        measure_profile(call.layout.fingerprint(), call.layout.describe(), timeout_ms, /*for_all=*/false));
  }
  *plan = plans_.find(call.layout);
  tell_spared(call);
  return execute_plan(call, **plan, run_stats);
}

void Communicator::tell_spared(const AllreduceCall& call) {
  if (call.spared == Spared::kNothing) return;
  bool& told = call.spared == Spared::kNotSum ? told_not_sum_ : told_not_float_;
  if (!told) log(LogLevel::kWarn, Subsystem::kCodec, "{}", call.spared_words);
  told = true;
}

Status Communicator::measure_profile(uint64_t why, const std::string& words, int64_t timeout_ms,
                                     bool for_all) {
  constexpr uint64_t kMeasuring = 0x6d656173757265;
  const auto start = std::chrono::steady_clock::now();
  Hello hello;
  hello.version = CGX_VERSION;
  hello.operation = operation_;
  hello.fingerprint = mix(kMeasuring, why);
  hello.set_text("measuring for " + words);
  const auto measured = [&]() -> Result<Profile> {
    HelloTransport transport(transport_.get());
    CGX_RETURN_IF_ERROR(transport.begin(hello, timeout_ms));
    CGX_RETURN_IF_ERROR(transport.verify());
    const MeasureArgs args{transport_.get(), timeout_ms};
    CGX_ASSIGN_OR_RETURN(const Measurement own, measure(args));
    CGX_ASSIGN_OR_RETURN(const std::vector<Measurement> all, exchange(args, own));
    return agree_on(all, transport_->hosts());
  };
  Result<Profile> profile = Status(Code::kResource, "out of memory");
  try {
    profile = measured();
  } catch (const std::bad_alloc&) {  // the peers wait for this rank and must hear that it cannot come
  }
  if (!profile.ok()) return fail(profile.status());
  const double ms =
      std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
  log(LogLevel::kInfo, Subsystem::kTuning,
      "policy: measured in {:.0f} ms: latency {:.1f} us, {:.3f} ns a byte alone and {:.3f} with all sending",
      ms, profile->latency * 1e-3, profile->pair_byte, profile->all_byte);
  plans_.set_profile(std::move(*profile), for_all);
  return Status();
}

Status Communicator::tune() {
  CGX_RETURN_IF_ERROR(require_own_process());
  CGX_RETURN_IF_ERROR(failure());
  CGX_RETURN_IF_ERROR(require_idle("the policy cannot be measured"));
  return measure_profile(0, "the policy, as cgx_comm_tune asks", config_.timeout_ms, /*for_all=*/true);
}

Result<std::string> Communicator::policy() const {
  CGX_RETURN_IF_ERROR(require_idle("the policy cannot be read"));
  if (plans_.profile() == nullptr) return std::string();
  return to_json({*plans_.profile(), transport_->name()});
}

Status Communicator::execute_plan(const AllreduceCall& call, const CachedPlan& plan, RunStats* run_stats) {
  const Hello hello = make_hello(call, plan);
  const double scale = call.average ? 1.0 / config_.size : 1.0;
  CGX_ASSIGN_OR_RETURN(const std::span<const SegmentResidual> residuals,
                       feedback_.begin(plan.layout, {hello.fingerprint, static_cast<float>(scale)}));
  const int64_t timeout_ms = call.timeout_ms > 0 ? call.timeout_ms : config_.timeout_ms;
  HelloTransport transport(transport_.get());
  if (Status status = transport.begin(hello, timeout_ms); !status.ok()) return fail(status);

  RunArgs args;
  args.plan = &plan.plan;
  args.layout = &plan.layout;
  args.transport = &transport;
  args.x = call.input;
  args.y = call.output;
  args.op = call.op;
  args.scale = scale;
  args.key.seed = seed_;
  args.key.operation = static_cast<uint32_t>(operation_);
  args.key.rank = static_cast<uint16_t>(config_.rank);
  args.residuals = residuals;
  args.timeout_ms = timeout_ms;
  args.workspace = &workspace_;
  args.parallel = parallel_.get();
  args.shared_writes = plan.shared_writes.get();
  args.stats = run_stats;
  args.notes = observer_->notes(plan);
  args.trace = observer_->trace();
  Status status = run(args);
  if (status.ok()) status = transport.verify();
  if (!status.ok()) return fail(std::move(status));
  feedback_.commit();
  ++operation_;
  return Status();
}

Status Communicator::fail(Status status) {
  feedback_.rollback();
  if (status.code() == Code::kMismatch) {
    publish_mismatch(config_.store, config_.job, config_.rank, status);
  } else {
    if (status.code() == Code::kPeerFailed) {
      const Status reason = find_mismatch(config_.store, config_.job, config_.rank, config_.size);
      if (!reason.ok()) status = reason;
    }
    status = error(status.code(), "allreduce #{}: {}", operation_, status.message());
  }
  {
    const std::lock_guard lock(mutex_);
    if (aborted_) {
      status = error(Code::kAborted, "{}", failure_.message());
    } else {
      failure_ = status;
    }
  }
  log(LogLevel::kInfo, Subsystem::kColl, "rank {} of job \"{}\" failed: {}", config_.rank, config_.job,
      status.message());
  // The transport may not know yet (a hello that differs, a corrupt block), and the peers must hear why.
  transport_->abort(status);
  return status;
}

void Communicator::abort(const std::string& reason) {
  if (::getpid() != pid_) return;
  Status status = error(Code::kAborted, "rank {} aborted the communicator: {}", config_.rank, reason);
  {
    const std::lock_guard lock(mutex_);
    if (shrinking_ && !*stop_shrink_) {
      why_stopped_ = reason;
      *stop_shrink_ = true;
      if (successor_ != nullptr) successor_->abort(reason);
    }
    if (!failure_.ok()) return;
    failure_ = status;
    aborted_ = true;
  }
  transport_->abort(status);
}

Status Communicator::require_idle(const char* what) const {
  if (unfinished_ == 0) return Status();
  return error(Code::kInvalidArgument, "{} while work is outstanding: wait for it first", what);
}

Result<std::string> Communicator::table() const {
  CGX_RETURN_IF_ERROR(require_idle("the table cannot be made"));
  return table_text(observer_->tensors(), [this](uint32_t tensor) { return feedback_.norm(tensor); });
}

Status Communicator::reset_residuals() {
  CGX_RETURN_IF_ERROR(require_idle("residuals cannot be reset"));
  feedback_.reset();
  return Status();
}

Result<double> Communicator::residual_norm(uint32_t tensor_id) const {
  CGX_RETURN_IF_ERROR(require_idle("residuals cannot be read"));
  return feedback_.norm(tensor_id);
}

Result<StateView> Communicator::view_state() const {
  CGX_RETURN_IF_ERROR(require_idle("the state cannot be saved"));
  StateView view{config_.rank, config_.size,    seed_, operation_, plans_.decides_for_all(),
                 "",           feedback_.owed()};
  CGX_ASSIGN_OR_RETURN(view.policy, policy());
  return view;
}

Result<uint64_t> Communicator::state_bytes() const {
  CGX_ASSIGN_OR_RETURN(const StateView view, view_state());
  return cgx::state_bytes(view);
}

Status Communicator::save_state(std::span<uint8_t> out) const {
  CGX_ASSIGN_OR_RETURN(const StateView view, view_state());
  return write_state(view, out);
}

Status Communicator::load_state(std::span<const uint8_t> bytes) {
  CGX_RETURN_IF_ERROR(failure());
  CGX_RETURN_IF_ERROR(require_idle("a state cannot be loaded"));
  CGX_ASSIGN_OR_RETURN(State state, read_state(bytes, config_.rank, config_.size));
  if (state.seed != seed_) {
    log(LogLevel::kInfo, "the seed is {} now, the loaded state's, instead of {}", state.seed, seed_);
  }
  seed_ = state.seed;
  operation_ = state.operation;
  feedback_ = std::move(state.feedback);
  plans_.set_profile(std::move(state.profile), state.policy_for_all);
  return Status();
}

}  // namespace cgx
