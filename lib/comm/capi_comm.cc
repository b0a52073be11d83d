// The C interface to communicators: creation, allreduce, work, statistics.
#include <limits>

#include "base/config.h"
#include "comm/capi_guard.h"
#include "comm/environment.h"
#include "comm/policy_text.h"

using cgx::Code;
using cgx::CommunicatorConfig;
using cgx::DType;
using cgx::error;
using cgx::HandleKind;
using cgx::Result;
using cgx::Status;
using cgx::capi::guard;
using cgx::capi::read_dtype;
using cgx::capi::read_enum;
using cgx::capi::read_struct;
using cgx::capi::require;

namespace {

// Elements beyond which the random numbers' 32-bit counter would wrap.
constexpr uint64_t kMaxCount = uint64_t{1} << 36;

Status check_comm(const cgx_comm* comm) { return check_handle(comm, HandleKind::kComm, "comm"); }

std::string text_or(const char* given, std::string otherwise) {
  return given != nullptr && *given != '\0' ? given : std::move(otherwise);
}

Status read_policy_config(const cgx_config& c, CommunicatorConfig* config) {
  config->threads = c.threads;
  if (c.threads == 0) {
    CGX_ASSIGN_OR_RETURN(config->threads, cgx::config::threads());
  }
  config->tune = c.tune != 0;
  if (c.tune == 0) {
    CGX_ASSIGN_OR_RETURN(config->tune, cgx::config::tune());
  }
  const std::string file = text_or(c.policy_file, cgx::config::policy_file());
  if (!file.empty()) {
    CGX_ASSIGN_OR_RETURN(config->policy, cgx::load_policy(file));
  }
  return Status();
}

Result<CommunicatorConfig> read_config(const cgx_config* given) {
  cgx_config c = CGX_CONFIG_INIT;
  if (given != nullptr) CGX_RETURN_IF_ERROR(read_struct(given, "config", &c));
  CommunicatorConfig config;
  config.rank = c.rank;
  config.size = c.size;
  CGX_RETURN_IF_ERROR(rank_from_environment(&config));
  config.job = text_or(c.job, cgx::config::job());
  config.transport = text_or(c.transport, "auto");
  config.algorithm = text_or(c.algorithm, "auto");
  config.interface_name = text_or(c.interface_name, cgx::config::socket_interface());
  config.timeout_ms = c.timeout_ms;
  if (config.timeout_ms == 0) {
    CGX_ASSIGN_OR_RETURN(config.timeout_ms, cgx::config::timeout_ms());
  }
  config.seed = c.seed;
  config.slice_bytes = c.slice_bytes;
  config.inner_codec = text_or(c.inner_codec, cgx::config::inner_codec());
  CGX_RETURN_IF_ERROR(read_policy_config(c, &config));
  CGX_ASSIGN_OR_RETURN(config.secret, cgx::secret_or_environment(c.secret));
  if (c.store != nullptr) {
    CGX_RETURN_IF_ERROR(check_handle(c.store, HandleKind::kStore, "config->store"));
    config.store = c.store->store.get();
  }
  return config;
}

Status check_memory(const cgx_allreduce_args& args, DType dtype) {
  if (args.count > kMaxCount) {
    return error(Code::kUnsupported, "args->count is {}, above {} elements", args.count, kMaxCount);
  }
  if (args.count == 0) return Status();
  CGX_RETURN_IF_ERROR(require(args.input, "args->input"));
  CGX_RETURN_IF_ERROR(require(args.output, "args->output"));
  if (args.input == args.output) return Status();
  const uintptr_t in = reinterpret_cast<uintptr_t>(args.input);
  const uintptr_t out = reinterpret_cast<uintptr_t>(args.output);
  const uint64_t bytes = args.count * dtype_bytes(dtype);
  if (in < out + bytes && out < in + bytes) {
    return error(Code::kInvalidArgument,
                 "args->input and args->output overlap by {} of {} bytes: they must be the same or disjoint",
                 bytes - (in < out ? out - in : in - out), bytes);
  }
  return Status();
}

// The spec that a codec pointer stands for; NULL is "none".
Result<cgx::CodecSpec> read_spec(const cgx_codec* codec, const char* argument) {
  if (codec == nullptr) return cgx::CodecSpec();
  CGX_RETURN_IF_ERROR(check_handle(codec, HandleKind::kCodec, argument));
  return codec->spec;
}

Result<cgx::Request> read_request(const cgx_allreduce_args& args, DType dtype, cgx::ReduceOp op) {
  if (args.segments == nullptr) {
    if (args.segment_count != 0) {
      return error(Code::kInvalidArgument, "args->segment_count is {}, but args->segments is NULL",
                   args.segment_count);
    }
    CGX_ASSIGN_OR_RETURN(const cgx::CodecSpec spec, read_spec(args.codec, "args->codec"));
    std::vector<cgx::Segment> whole;
    if (args.count > 0) whole.push_back({0, args.count, spec, args.tensor_id});
    return cgx::make_request(dtype, op, args.count, std::move(whole));
  }
  if (args.codec != nullptr) {
    return error(Code::kInvalidArgument, "args->codec and args->segments are both given: one must be NULL");
  }
  if (args.segment_count > args.count) {
    return error(Code::kInvalidArgument, "{} segments of at least one element do not fit {} elements",
                 args.segment_count, args.count);
  }
  std::vector<cgx::Segment> segments;
  segments.reserve(args.segment_count);
  const cgx_codec* known = nullptr;  // a handle is looked up once where many segments share it
  cgx::CodecSpec spec;
  for (uint64_t i = 0; i < args.segment_count; ++i) {
    const cgx_segment& s = args.segments[i];
    if (i == 0 || s.codec != known) {
      CGX_ASSIGN_OR_RETURN(spec, read_spec(s.codec, "a segment's codec"));
      known = s.codec;
    }
    segments.push_back({s.offset, s.count, spec, s.tensor_id});
  }
  return cgx::make_request(dtype, op, args.count, std::move(segments));
}

Result<cgx::ReduceOp> read_op(const cgx_op& given) {
  const int op = read_enum(given);
  switch (op) {
    case CGX_SUM:
    case CGX_AVG:
      return cgx::ReduceOp::kSum;
    case CGX_MIN:
      return cgx::ReduceOp::kMin;
    case CGX_MAX:
      return cgx::ReduceOp::kMax;
    case CGX_PROD:
      return cgx::ReduceOp::kProd;
    default:
      return error(Code::kInvalidArgument, "op {} is none of CGX_SUM, CGX_AVG, CGX_MIN, CGX_MAX and CGX_PROD",
                   op);
  }
}

Result<cgx::AllreduceCall> read_call(const cgx_allreduce_args* given) {
  cgx_allreduce_args args = CGX_ALLREDUCE_ARGS_INIT;
  CGX_RETURN_IF_ERROR(read_struct(given, "args", &args));
  CGX_ASSIGN_OR_RETURN(const DType dtype, read_dtype(args.dtype));
  CGX_ASSIGN_OR_RETURN(const cgx::ReduceOp op, read_op(args.op));
  CGX_RETURN_IF_ERROR(check_memory(args, dtype));
  cgx::AllreduceCall call;
  CGX_ASSIGN_OR_RETURN(cgx::Request request, read_request(args, dtype, op));
  call.op = op;
  call.spared = request.spared;
  call.spared_elements = request.spared_elements;
  call.spared_words = explain(request, op);
  call.layout = std::move(request.layout);
  call.input = args.input;
  call.output = args.output;
  call.average = read_enum(args.op) == CGX_AVG;
  call.timeout_ms = args.timeout_ms;
  return call;
}

cgx_stats to_c(const cgx::CommunicatorStats& s) {
  cgx_stats c = CGX_STATS_INIT;
  c.collectives = s.collectives;
  c.failed = s.failed;
  c.elements = s.accounting.elements;
  c.elements_compressed = s.accounting.compressed;
  c.elements_raw = s.accounting.raw;
  c.elements_too_small = s.accounting.too_small;
  c.elements_not_float = s.accounting.not_float;
  c.raw_bytes = s.run.raw_bytes;
  c.wire_bytes = s.run.wire_bytes;
  c.saturated = s.run.counts.saturated;
  c.non_finite = s.run.counts.non_finite;
  c.encode_seconds = s.run.encode_seconds;
  c.decode_seconds = s.run.decode_seconds;
  c.wait_seconds = s.run.wait_seconds;
  c.elements_not_sum = s.accounting.not_sum;
  return c;
}

}  // namespace

cgx_status cgx_comm_create(const cgx_config* config, cgx_comm** comm) {
  return guard([&]() -> Status {
    CGX_RETURN_IF_ERROR(require(comm, "comm"));
    cgx::config::warn_of_environment();
    CGX_ASSIGN_OR_RETURN(CommunicatorConfig read, read_config(config));
    CGX_RETURN_IF_ERROR(check_config(read));
    auto made = std::make_unique<cgx_comm>();
    if (read.store == nullptr) {
      CGX_ASSIGN_OR_RETURN(made->stores.emplace_back(), store_from_environment(read));
      read.store = made->stores.back().get();
    }
    CGX_ASSIGN_OR_RETURN(made->communicator, cgx::Communicator::create(std::move(read)));
    add_handle(made.get(), HandleKind::kComm);
    *comm = made.release();
    return Status();
  });
}

void cgx_comm_destroy(cgx_comm* comm) {
  if (!remove_handle(comm, HandleKind::kComm)) return;
  if (comm->communicator->require_own_process().ok())
    delete comm;  // else its memory goes with this forked process
}

cgx_status cgx_comm_abort(cgx_comm* comm, const char* reason) {
  return guard([&]() -> Status {
    CGX_RETURN_IF_ERROR(check_comm(comm));
    comm->communicator->abort(text_or(reason, "no reason given"));
    return Status();
  });
}

int cgx_comm_rank(const cgx_comm* comm) {
  return guard([&] { return check_comm(comm); }) == CGX_OK ? comm->communicator->rank() : -1;
}

int cgx_comm_size(const cgx_comm* comm) {
  return guard([&] { return check_comm(comm); }) == CGX_OK ? comm->communicator->size() : -1;
}

const char* cgx_comm_transport(const cgx_comm* comm) {
  return guard([&] { return check_comm(comm); }) == CGX_OK ? comm->communicator->transport_name() : nullptr;
}

cgx_status cgx_comm_tune(cgx_comm* comm) {
  return guard([&]() -> Status {
    CGX_RETURN_IF_ERROR(check_comm(comm));
    return comm->communicator->tune();
  });
}

cgx_status cgx_comm_policy(const cgx_comm* comm, char* text, uint64_t capacity, uint64_t* bytes) {
  return guard([&]() -> Status {
    CGX_RETURN_IF_ERROR(check_comm(comm));
    CGX_RETURN_IF_ERROR(require(bytes, "bytes"));
    CGX_ASSIGN_OR_RETURN(const std::string policy, comm->communicator->policy());
    *bytes = policy.size() + 1;
    if (capacity < *bytes) return Status();
    CGX_RETURN_IF_ERROR(require(text, "text"));
    std::memcpy(text, policy.c_str(), *bytes);
    return Status();
  });
}

cgx_status cgx_allreduce(cgx_comm* comm, const cgx_allreduce_args* args) {
  return guard([&]() -> Status {
    CGX_RETURN_IF_ERROR(check_comm(comm));
    CGX_ASSIGN_OR_RETURN(cgx::AllreduceCall call, read_call(args));
    return comm->communicator->allreduce(std::move(call));
  });
}

cgx_status cgx_allreduce_async(cgx_comm* comm, const cgx_allreduce_args* args, cgx_done_fn done, void* user,
                               cgx_work** work) {
  return guard([&]() -> Status {
    CGX_RETURN_IF_ERROR(check_comm(comm));
    if (done == nullptr && work == nullptr) {
      return error(Code::kInvalidArgument, "done and work are both NULL: nobody would learn of the end");
    }
    CGX_ASSIGN_OR_RETURN(cgx::AllreduceCall call, read_call(args));
    cgx::Work::Done call_done;
    if (done != nullptr) {
      call_done = [done, user](const Status& status) {
        done(user, static_cast<cgx_status>(status.code()), status.message().c_str());
      };
    }
    auto handle = work != nullptr ? std::make_unique<cgx_work>() : nullptr;
    CGX_ASSIGN_OR_RETURN(std::shared_ptr<cgx::Work> started,
                         comm->communicator->allreduce_async(std::move(call), std::move(call_done)));
    if (handle == nullptr) return Status();
    handle->work = std::move(started);
    add_handle(handle.get(), HandleKind::kWork);
    *work = handle.release();
    return Status();
  });
}

cgx_status cgx_work_wait(cgx_work* work, int64_t timeout_ms) {
  return guard([&]() -> Status {
    CGX_RETURN_IF_ERROR(check_handle(work, HandleKind::kWork, "work"));
    if (work->work->wait(timeout_ms)) return work->work->status();
    return error(Code::kTimeout, "the work has not ended within {} ms; it goes on", timeout_ms);
  });
}

int cgx_work_done(const cgx_work* work) {
  return guard([&] { return check_handle(work, HandleKind::kWork, "work"); }) == CGX_OK && work->work->done()
             ? 1
             : 0;
}

void cgx_work_destroy(cgx_work* work) {
  if (remove_handle(work, HandleKind::kWork)) delete work;
}

cgx_status cgx_comm_stats(const cgx_comm* comm, cgx_stats* stats) {
  return guard([&]() -> Status {
    CGX_RETURN_IF_ERROR(check_comm(comm));
    cgx_stats ignored = CGX_STATS_INIT;
    CGX_RETURN_IF_ERROR(read_struct(stats, "stats", &ignored));
    const uint32_t bytes = stats->struct_size;
    cgx_stats now = to_c(comm->communicator->stats());
    now.struct_size = bytes;
    std::memcpy(stats, &now, std::min<size_t>(bytes, sizeof(now)));
    return Status();
  });
}

cgx_status cgx_comm_reset_residuals(cgx_comm* comm) {
  return guard([&]() -> Status {
    CGX_RETURN_IF_ERROR(check_comm(comm));
    return comm->communicator->reset_residuals();
  });
}

cgx_status cgx_comm_residual_norm(const cgx_comm* comm, uint32_t tensor_id, double* norm) {
  return guard([&]() -> Status {
    CGX_RETURN_IF_ERROR(check_comm(comm));
    CGX_RETURN_IF_ERROR(require(norm, "norm"));
    CGX_ASSIGN_OR_RETURN(*norm, comm->communicator->residual_norm(tensor_id));
    return Status();
  });
}
