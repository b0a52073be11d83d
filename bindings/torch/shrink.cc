// ProcessGroupCgx::shrink(): c10d names the ranks to leave out, cgx finds out by itself who lives. Both must
// come to the same, else nobody goes on. Gloo cannot be shrunk: the inner backend is made anew, in Python as
// the first one was.
#include <pybind11/chrono.h>
#include <torch/csrc/utils/pybind.h>

#include <algorithm>
#include <optional>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <utility>

#include "error.h"
#include "process_group.h"

namespace cgx_torch {
namespace {

constexpr int kAbort = 1;  // torch.distributed.SHRINK_ABORT

c10::intrusive_ptr<CgxOptions> choose_options(const c10::intrusive_ptr<c10d::Backend::Options>& wanted,
                                              const c10::intrusive_ptr<CgxOptions>& ours) {
  if (wanted == nullptr) {
    return ours;
  }
  const auto options = c10::dynamic_intrusive_pointer_cast<CgxOptions>(wanted);
  TORCH_CHECK_TYPE(options != nullptr, "cgx: pg_options of shrink_group() must be cgx.torch.Options");
  TORCH_CHECK_VALUE(
      options->communicator == ours->communicator,
      "cgx: pg_options of shrink_group() may change codec, min_elements and compress_1d; the "
      "communicator goes on as it is, so transport, algorithm and the like must be those of the group");
  return options;
}

using StoreAndInner = std::pair<c10::intrusive_ptr<c10d::Store>, c10::intrusive_ptr<c10d::Backend>>;

StoreAndInner make_inner(const c10::intrusive_ptr<c10d::Store>& store, int rank, int size,
                         std::chrono::milliseconds timeout) {
  const py::gil_scoped_acquire locked;
  const py::object make = py::module_::import("cgx.torch._backend").attr("make_inner");
  const py::tuple made = make(store, rank, size, timeout);
  return {made[0].cast<c10::intrusive_ptr<c10d::Store>>(), made[1].cast<c10::intrusive_ptr<c10d::Backend>>()};
}

}  // namespace

std::shared_ptr<Communicator> ProcessGroupCgx::shrunk_communicator(int rank, int size) {
  const auto failed = communicator();
  if (failed == nullptr) {
    return nullptr;
  }
  if (shrunk_ == nullptr || shrunk_->size() != size) {
    shrunk_ = (shrunk_ == nullptr ? failed : shrunk_)->shrink(timeout_);
  }
  TORCH_CHECK_WITH(DistBackendError, shrunk_->size() == size && shrunk_->rank() == rank,
                   "cgx: shrink_group() was to ", "leave ", size, " ranks, but ", shrunk_->size(),
                   " came: exclude those that died too, and call it again on all that live");
  return shrunk_;
}

c10::intrusive_ptr<c10d::Backend> ProcessGroupCgx::shrink(
    const std::vector<int64_t>& excluded, int flags,
    const c10::intrusive_ptr<c10d::Backend::Options>& options) {
  std::optional<py::gil_scoped_release> unlocked;  // it waits for other ranks
  if (PyGILState_Check() != 0) {
    unlocked.emplace();
  }
  check_open();
  const auto chosen = choose_options(options, options_);
  const auto is_excluded = [&](int rank) {
    return std::find(excluded.begin(), excluded.end(), rank) != excluded.end();
  };
  std::string members;
  int rank = 0;
  int size = 0;
  for (int r = 0; r < getSize(); ++r) {
    if (is_excluded(r)) {
      continue;
    }
    rank = r == getRank() ? size : rank;
    ++size;
    members += (members.empty() ? "" : ",") + std::to_string(r);
  }
  TORCH_CHECK_VALUE(!is_excluded(getRank()) && size < getSize(),
                    "cgx: shrink() is for the ranks that go on, and leaves at least one out");
  if (flags == kAbort) {
    abort();
  }
  const std::lock_guard<std::mutex> connecting(connecting_);
  auto communicator = shrunk_communicator(rank, size);
  auto meeting = c10::make_intrusive<c10d::PrefixStore>("shrunk/" + members, store_);
  auto [store, inner] = make_inner(meeting, rank, size, timeout_);
  auto made = c10::make_intrusive<ProcessGroupCgx>(std::move(store), rank, size, timeout_, chosen,
                                                   std::move(inner), std::move(communicator));
  shrunk_.reset();
  return made;
}

}  // namespace cgx_torch
