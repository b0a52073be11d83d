// The C interface to plans: what an algorithm would do, and the proof that it is right (plan/check.h).
#include "comm/capi_guard.h"
#include "plan/algorithm_list.h"
#include "plan/check.h"
#include "plan/symbols.h"

using cgx::Code;
using cgx::error;
using cgx::Plan;
using cgx::Result;
using cgx::Status;
using cgx::Step;
using cgx::capi::guard;
using cgx::capi::require;

namespace {

uint64_t receivers(const Step& step) { return step.op == Step::Op::kSend ? step.peers.size() : 0; }

void add(const Plan& plan, cgx_plan_summary* summary) {
  uint64_t bytes = 0;
  for (const Step& step : plan.steps) {
    if (receivers(step) == 0) continue;
    summary->messages += receivers(step);
    bytes += receivers(step) * plan.messages[step.message].bytes;
  }
  summary->steps += plan.steps.size();
  summary->wire_bytes = std::max(summary->wire_bytes, bytes);
}

Result<cgx::PlanKey> read_plan_key(const cgx_plan_args& args) {
  if (args.ranks < 1 || args.ranks > cgx::kMaxRanks) {
    return error(Code::kInvalidArgument, "ranks is {}: expected 1 to {}", args.ranks, cgx::kMaxRanks);
  }
  if (args.hosts < 1 || args.hosts > args.ranks) {
    return error(Code::kInvalidArgument, "hosts is {}: expected 1 to ranks, {}", args.hosts, args.ranks);
  }
  cgx::CodecSpec spec;
  if (args.codec != nullptr) {
    CGX_RETURN_IF_ERROR(check_handle(args.codec, cgx::HandleKind::kCodec, "codec"));
    spec = args.codec->spec;
  }
  if (is_auto(spec))
    return error(Code::kUnsupported, "a plan has the codec that \"auto\" has chosen: name one");
  CGX_ASSIGN_OR_RETURN(const cgx::DType dtype, cgx::capi::read_dtype(args.dtype));
  cgx::PlanKey key;
  CGX_ASSIGN_OR_RETURN(key.layout, cgx::Layout::uniform(dtype, args.count, spec, 0));
  key.size = args.ranks;
  for (int r = 0; r < key.size; ++r) key.hosts.push_back(r * args.hosts / key.size);
  if (args.slice_bytes != 0) key.slice_bytes = args.slice_bytes;
  return key;
}

}  // namespace

cgx_status cgx_plan_check(const cgx_plan_args* args, cgx_plan_summary* summary) {
  return guard([&]() -> Status {
    cgx_plan_args given = CGX_PLAN_ARGS_INIT;
    CGX_RETURN_IF_ERROR(cgx::capi::read_struct(args, "args", &given));
    CGX_RETURN_IF_ERROR(require(given.algorithm, "args->algorithm"));
    const cgx::Algorithm* algorithm = cgx::find_algorithm(given.algorithm);
    if (algorithm == nullptr) {
      return error(Code::kInvalidArgument, "algorithm \"{}\" is none of cgx_algorithm_list()'s",
                   given.algorithm);
    }
    CGX_ASSIGN_OR_RETURN(cgx::PlanKey key, read_plan_key(given));
    std::vector<Plan> plans;
    cgx_plan_summary found = CGX_PLAN_SUMMARY_INIT;
    for (key.rank = 0; key.rank < key.size; ++key.rank) {
      plans.push_back(algorithm->plan(key));
      add(plans.back(), &found);
    }
    const Status proof = check_plans(key.layout, plans);
    if (!proof.ok()) return Status(Code::kInternal, proof.message());
    if (summary == nullptr) return Status();
    cgx_plan_summary ignored = CGX_PLAN_SUMMARY_INIT;
    CGX_RETURN_IF_ERROR(cgx::capi::read_struct(summary, "summary", &ignored));
    found.struct_size = summary->struct_size;
    std::memcpy(summary, &found, std::min<size_t>(found.struct_size, sizeof(found)));
    return Status();
  });
}
