// See communicator.h. The path of a collective: check, find the plan, say hello, run, commit.
#include "comm/communicator.h"

#include "base/log.h"
#include "cgx/cgx.h"
#include "comm/agreement.h"
#include "plan/select.h"
#include "transport/transport_list.h"

namespace cgx {
namespace {

Status check_transport_name(const std::string& name) {
  std::string names = "auto";
  for (const TransportEntry& entry : transports()) {
    if (name == entry.name) return Status();
    names += fmt::format(", {}", entry.name);
  }
  if (name == "auto") return Status();
  return error(Code::kInvalidArgument, "there is no transport \"{}\": it must be one of {}", name, names);
}

uint64_t mix(uint64_t hash, uint64_t value) {
  hash ^= value + 0x9e3779b97f4a7c15u + (hash << 6) + (hash >> 2);
  return hash * 0xff51afd7ed558ccdu;
}

void add(RunStats& total, const RunStats& one) {
  total.counts.elements += one.counts.elements;
  total.counts.saturated += one.counts.saturated;
  total.counts.non_finite += one.counts.non_finite;
  total.raw_bytes += one.raw_bytes;
  total.wire_bytes += one.wire_bytes;
  total.encode_seconds += one.encode_seconds;
  total.decode_seconds += one.decode_seconds;
  total.wait_seconds += one.wait_seconds;
}

void add(Accounting& total, const Accounting& one) {
  total.elements += one.elements;
  total.compressed += one.compressed;
  total.raw += one.raw;
  total.too_small += one.too_small;
  total.not_float += one.not_float;
}

}  // namespace

Status check_config(const CommunicatorConfig& c) {
  if (c.size < 1 || c.size > CommunicatorConfig::kMaxSize) {
    return error(Code::kInvalidArgument, "size must be 1 to {}, not {}", CommunicatorConfig::kMaxSize,
                 c.size);
  }
  if (c.rank < 0 || c.rank >= c.size) {
    return error(Code::kInvalidArgument, "rank must be 0 to {} among {} ranks, not {}", c.size - 1, c.size,
                 c.rank);
  }
  if (c.timeout_ms <= 0) {
    return error(Code::kInvalidArgument, "timeout_ms must be positive (0: the default), not {}",
                 c.timeout_ms);
  }
  if (c.job.empty()) return error(Code::kInvalidArgument, "the job's name is empty");
  CGX_RETURN_IF_ERROR(check_transport_name(c.transport));
  return select_algorithm(c.algorithm, Layout(), c.size).status();
}

Result<std::unique_ptr<Communicator>> Communicator::create(CommunicatorConfig config) {
  CGX_RETURN_IF_ERROR(check_config(config));
  const Card card{config.size,      CGX_VERSION, config.transport,
                  config.algorithm, config.seed, config.slice_bytes};
  CGX_RETURN_IF_ERROR(agree(config.store, {config.rank, config.job, config.timeout_ms}, card));
  TransportConfig transport_config;
  transport_config.rank = config.rank;
  transport_config.size = config.size;
  transport_config.store = config.store;
  transport_config.job = config.job;
  transport_config.timeout_ms = config.timeout_ms;
  transport_config.interface_name = config.interface_name;
  CGX_ASSIGN_OR_RETURN(std::unique_ptr<Transport> transport,
                       open_transport(config.transport, transport_config));
  log(LogLevel::kInfo, "rank {} of {} joined job \"{}\" over {}", config.rank, config.size, config.job,
      transport->name());
  return std::unique_ptr<Communicator>(new Communicator(std::move(config), std::move(transport)));
}

Communicator::Communicator(CommunicatorConfig config, std::unique_ptr<Transport> transport)
    : config_(std::move(config)),
      transport_(std::move(transport)),
      plans_(config_.algorithm, config_.rank, config_.size, config_.slice_bytes),
      worker_(std::make_unique<Worker>()) {}

Communicator::~Communicator() {
  if (!worker_->wait_idle(config_.timeout_ms)) abort("destroyed while work was outstanding");
  worker_.reset();
  // Peers may still be reading what this rank sent last.
  if (failure().ok()) {
    if (Status flushed = transport_->flush({config_.timeout_ms, "closing"}); !flushed.ok()) {
      log(LogLevel::kInfo, "closing the communicator: {}", flushed.message());
    }
  }
}

Status Communicator::failure() const {
  const std::lock_guard lock(mutex_);
  if (failure_.ok()) return Status();
  return error(Code::kFailed, "this communicator failed earlier and can only be destroyed: {}",
               failure_.message());
}

Status Communicator::check(const AllreduceCall& call) const {
  CGX_RETURN_IF_ERROR(failure());
  if (call.timeout_ms < 0) {
    return error(Code::kInvalidArgument, "timeout_ms must be positive (0: the communicator's), not {}",
                 call.timeout_ms);
  }
  const DType dtype = call.layout.dtype();
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
  ++unfinished_;
  Status queued = worker_->push([this, work, call = std::move(call)] {
    const Status status = execute(call);
    --unfinished_;  // before anybody hears of the end, and may ask for residuals
    work->finish(status);
  });
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
  hello.fingerprint = mix(plan.fingerprint, call.average ? 1 : 0);
  hello.set_text((call.average ? "avg, " : "sum, ") + plan.description);
  return hello;
}

Status Communicator::execute(const AllreduceCall& call) {
  RunStats run_stats;
  Status status = find_and_execute(call, &run_stats);
  const std::lock_guard lock(mutex_);
  add(stats_.run, run_stats);
  if (!status.ok()) {
    ++stats_.failed;
    return status;
  }
  ++stats_.collectives;
  add(stats_.accounting, account(call.layout));
  return Status();
}

Status Communicator::find_and_execute(const AllreduceCall& call, RunStats* run_stats) {
  {
    const std::lock_guard lock(mutex_);
    if (aborted_) return error(Code::kAborted, "{}", failure_.message());
  }
  CGX_RETURN_IF_ERROR(failure());
  CGX_ASSIGN_OR_RETURN(const CachedPlan* plan, plans_.find(call.layout));
  return execute_plan(call, *plan, run_stats);
}

Status Communicator::execute_plan(const AllreduceCall& call, const CachedPlan& plan, RunStats* run_stats) {
  const Hello hello = make_hello(call, plan);
  const float scale = call.average ? 1.0f / static_cast<float>(config_.size) : 1.0f;
  CGX_ASSIGN_OR_RETURN(const std::span<const SegmentResidual> residuals,
                       feedback_.begin(call.layout, {hello.fingerprint, scale}));
  const int64_t timeout_ms = call.timeout_ms > 0 ? call.timeout_ms : config_.timeout_ms;
  HelloTransport transport(transport_.get());
  if (Status status = transport.begin(hello, timeout_ms); !status.ok()) return fail(status);

  RunArgs args;
  args.plan = &plan.plan;
  args.layout = &call.layout;
  args.transport = &transport;
  args.x = call.input;
  args.y = call.output;
  args.scale = scale;
  args.key.seed = config_.seed;
  args.key.operation = static_cast<uint32_t>(operation_);
  args.key.rank = static_cast<uint16_t>(config_.rank);
  args.residuals = residuals;
  args.timeout_ms = timeout_ms;
  args.workspace = &workspace_;
  args.stats = run_stats;
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
  log(LogLevel::kInfo, "rank {} of job \"{}\" failed: {}", config_.rank, config_.job, status.message());
  // The transport may not know yet (a hello that differs, a corrupt block), and the peers must hear why.
  transport_->abort(status);
  return status;
}

void Communicator::abort(const std::string& reason) {
  Status status = error(Code::kAborted, "rank {} aborted the communicator: {}", config_.rank, reason);
  {
    const std::lock_guard lock(mutex_);
    if (!failure_.ok()) return;
    failure_ = status;
    aborted_ = true;
  }
  transport_->abort(status);
}

CommunicatorStats Communicator::stats() const {
  const std::lock_guard lock(mutex_);
  return stats_;
}

Status Communicator::require_idle(const char* what) const {
  if (unfinished_ == 0) return Status();
  return error(Code::kInvalidArgument, "{} while work is outstanding: wait for it first", what);
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

}  // namespace cgx
