// What is compressed, and what is not and why. The plain forwarding is in delegate.cc.
#include "process_group.h"

#include <torch/csrc/utils/pybind.h>
#include <algorithm>
#include <optional>
#include <utility>

#include "error.h"
#include "profiled.h"

namespace cgx_torch {
namespace {

bool cgx_dtype_of(at::ScalarType type, cgx_dtype* dtype) {
  switch (type) {
    case at::kFloat:
      *dtype = CGX_FLOAT32;
      return true;
    case at::kHalf:
      *dtype = CGX_FLOAT16;
      return true;
    case at::kBFloat16:
      *dtype = CGX_BFLOAT16;
      return true;
    case at::kDouble:
      *dtype = CGX_FLOAT64;
      return true;
    default:
      return false;
  }
}

bool is_compressible(at::ScalarType type) {
  return type == at::kFloat || type == at::kHalf || type == at::kBFloat16;
}

bool is_floating(at::ScalarType type) { return is_compressible(type) || type == at::kDouble; }

bool is_sum_or_average(const c10d::ReduceOp& op) {
  return op == c10d::ReduceOp::SUM || op == c10d::ReduceOp::AVG;
}

}  // namespace

const char* reason_name(Reason reason) {
  switch (reason) {
    case Reason::kNotAsked:
      return "not_asked";
    case Reason::kCoalesced:
      return "coalesced";
    case Reason::kNotCpu:
      return "not_cpu";
    case Reason::kSparse:
      return "sparse";
    case Reason::kNotFloat:
      return "not_float";
    case Reason::kOtherReduction:
      return "other_reduction";
    case Reason::kNotContiguous:
      return "not_contiguous";
    case Reason::kOneDimensional:
      return "one_dimensional";
    case Reason::kSmall:
      return "small";
    case Reason::kCount:
      break;
  }
  return "unknown";
}

ProcessGroupCgx::ProcessGroupCgx(c10::intrusive_ptr<c10d::Store> store, int rank, int size,
                                 std::chrono::milliseconds timeout,
                                 const c10::intrusive_ptr<CgxOptions>& options,
                                 c10::intrusive_ptr<c10d::Backend> inner,
                                 std::shared_ptr<Communicator> communicator)
    : Backend(rank, size),
      store_(std::move(store)),
      options_(c10::make_intrusive<CgxOptions>(*options)),
      inner_(std::move(inner)),
      timeout_(timeout),
      communicator_(std::move(communicator)) {
  TORCH_CHECK_VALUE(options_->min_elements >= 0, "cgx: min_elements ", options_->min_elements,
                    " is negative");
  options_->timeout = timeout;
  if (!options_->codec.empty()) {
    codec_ = make_codec(options_->codec);
    lossless_ = options_->codec == "none";
    connect();
  }
}

ProcessGroupCgx::~ProcessGroupCgx() {
  // Python drops the last reference with its lock held. The inner backend waits for its threads here, and
  // they may be waiting for that lock, to drop a tensor of Python's.
  std::optional<pybind11::gil_scoped_release> unlocked;
  if (Py_IsInitialized() != 0 && PyGILState_Check() != 0) {
    unlocked.emplace();
  }
  communicator_.reset();
  shrunk_.reset();
  inner_.reset();
}

void ProcessGroupCgx::connect() {
  const std::lock_guard<std::mutex> connecting(connecting_);
  check_open();
  if (communicator() != nullptr) {
    return;
  }
  // Meeting may take as long as the slowest rank: mutex_ stays free meanwhile.
  auto made = std::make_shared<Communicator>(store_, getRank(), getSize(), options_->communicator, timeout_);
  const std::lock_guard<std::mutex> lock(mutex_);
  communicator_ = std::move(made);
}

std::shared_ptr<Communicator> ProcessGroupCgx::communicator() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return communicator_;
}

std::shared_ptr<Communicator> ProcessGroupCgx::connected() const {
  check_open();
  auto found = communicator();
  TORCH_CHECK_WITH(DistBackendError, found != nullptr,
                   "cgx: this process group has no communicator yet; call connect() on all its ranks first");
  return found;
}

void ProcessGroupCgx::check_open() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  TORCH_CHECK_WITH(DistBackendError, !closed_, "cgx: this process group was shut down; make a new one");
}

uint32_t ProcessGroupCgx::reserve_tensor_ids(uint32_t count) { return next_tensor_id_.fetch_add(count); }

Tallies ProcessGroupCgx::tallies() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return tallies_;
}

c10d::ErrorType ProcessGroupCgx::getError() {
  return failed_ ? c10d::ErrorType::COMM_ERROR : inner_->getError();
}

void ProcessGroupCgx::shutdown() {
  std::shared_ptr<Communicator> dropped;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (closed_) {
      return;
    }
    closed_ = true;
    dropped = std::move(communicator_);
  }
  dropped.reset();
  inner_->shutdown();
}

void ProcessGroupCgx::abort() {
  if (const auto found = communicator()) {
    found->abort("the process group was aborted");
  }
  inner_->abort();
}

void ProcessGroupCgx::setTimeout(std::chrono::milliseconds timeout) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    timeout_ = timeout;
  }
  inner_->setTimeout(timeout);
}

Reason ProcessGroupCgx::reason_to_delegate(const at::Tensor& tensor, const c10d::ReduceOp& op) const {
  if (!tensor.device().is_cpu()) {
    return Reason::kNotCpu;
  }
  if (tensor.layout() != at::kStrided) {
    return Reason::kSparse;
  }
  if (!(lossless_ ? is_floating(tensor.scalar_type()) : is_compressible(tensor.scalar_type()))) {
    return Reason::kNotFloat;
  }
  if (!is_sum_or_average(op)) {
    return Reason::kOtherReduction;
  }
  if (!tensor.is_contiguous()) {
    return Reason::kNotContiguous;
  }
  if (tensor.numel() < options_->min_elements || tensor.numel() == 0) {
    return Reason::kSmall;
  }
  if (tensor.dim() < 2 && !options_->compress_1d) {
    return Reason::kOneDimensional;
  }
  return Reason::kCount;
}

Reason ProcessGroupCgx::reason_to_delegate(const Tensors& tensors, const c10d::ReduceOp& op) const {
  if (codec_ == nullptr) {
    return Reason::kNotAsked;
  }
  if (tensors.empty()) {
    return Reason::kSmall;
  }
  // Tensors of one call go one way: all are compressed, or none is.
  const Reason first = reason_to_delegate(tensors[0], op);
  const auto differs = [&](const at::Tensor& tensor) { return reason_to_delegate(tensor, op) != first; };
  return std::any_of(tensors.begin(), tensors.end(), differs) ? Reason::kCoalesced : first;
}

void ProcessGroupCgx::count_delegated(Reason reason, const Tensors& tensors) {
  uint64_t elements = 0;
  for (const at::Tensor& tensor : tensors) {
    elements += static_cast<uint64_t>(tensor.layout() == at::kStrided ? tensor.numel() : tensor._nnz());
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  Tally& tally = tallies_.at(static_cast<size_t>(reason));
  ++tally.calls;
  tally.elements += elements;
}

WorkPtr ProcessGroupCgx::allreduce(Tensors& tensors, const c10d::AllreduceOptions& opts) {
  check_open();
  const Reason reason = reason_to_delegate(tensors, opts.reduceOp);
  if (reason != Reason::kCount) {
    count_delegated(reason, tensors);
    return profiled(getRank(), c10d::OpType::ALLREDUCE, "cgx:all_reduce", tensors,
                    [&] { return inner_->allreduce(tensors, opts); });
  }
  cgx_allreduce_args args = CGX_ALLREDUCE_ARGS_INIT;
  args.codec = codec_.get();
  return submit(tensors, args, opts.reduceOp, opts.timeout);
}

WorkPtr ProcessGroupCgx::allreduce_coalesced(Tensors& tensors, const c10d::AllreduceCoalescedOptions& opts) {
  check_open();
  const Reason reason = reason_to_delegate(tensors, opts.reduceOp);
  if (reason != Reason::kCount) {
    count_delegated(reason, tensors);
    return profiled(getRank(), c10d::OpType::ALLREDUCE_COALESCED, "cgx:all_reduce", tensors,
                    [&] { return inner_->allreduce_coalesced(tensors, opts); });
  }
  cgx_allreduce_args args = CGX_ALLREDUCE_ARGS_INIT;
  args.codec = codec_.get();
  return submit(tensors, args, opts.reduceOp, opts.timeout);
}

WorkPtr ProcessGroupCgx::allreduce_layout(const at::Tensor& tensor, const Layout& layout,
                                          const c10d::ReduceOp& op, std::chrono::milliseconds timeout) {
  TORCH_CHECK_VALUE(tensor.layout() == at::kStrided, "cgx: the tensor is sparse; a layout needs a dense one");
  TORCH_CHECK_VALUE(tensor.device().is_cpu(), "cgx: the tensor is on ", tensor.device(), ", not on the CPU");
  TORCH_CHECK_VALUE(tensor.is_contiguous(), "cgx: the tensor is not contiguous; call .contiguous() first");
  TORCH_CHECK_VALUE(is_sum_or_average(op), "cgx: a layout is reduced by SUM or AVG only");
  TORCH_CHECK_VALUE(static_cast<uint64_t>(tensor.numel()) == layout.count(), "cgx: the layout covers ",
                    layout.count(), " elements, the tensor has ", tensor.numel());
  cgx_allreduce_args args = CGX_ALLREDUCE_ARGS_INIT;
  args.segments = layout.segments().data();
  args.segment_count = layout.segments().size();
  return submit({tensor}, args, op, timeout);
}

WorkPtr ProcessGroupCgx::submit(const Tensors& tensors, cgx_allreduce_args args, const c10d::ReduceOp& op,
                                std::chrono::milliseconds timeout) {
  args.op = op == c10d::ReduceOp::AVG ? CGX_AVG : CGX_SUM;
  args.timeout_ms = timeout == c10d::kUnsetTimeout ? 0 : std::max<int64_t>(timeout.count(), 1);
  const auto communicator = connected();
  auto work = c10::make_intrusive<CgxWork>(getRank(), ++sequence_, tensors, completions_);
  for (const at::Tensor& tensor : tensors) {
    TORCH_CHECK_VALUE(cgx_dtype_of(tensor.scalar_type(), &args.dtype), "cgx: no layout for dtype ",
                      tensor.scalar_type());
    args.input = tensor.data_ptr();
    args.output = tensor.data_ptr();
    args.count = static_cast<uint64_t>(tensor.numel());
    auto user = std::make_unique<c10::intrusive_ptr<CgxWork>>(work);
    try {
      communicator->allreduce(args, &CgxWork::on_done, user.get());
    } catch (const c10::DistBackendError&) {
      failed_ = true;
      throw;
    }
    user.release();
  }
  return work;
}

}  // namespace cgx_torch
