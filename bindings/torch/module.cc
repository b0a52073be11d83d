// The Python face of the backend. PyTorch's own pybind11 must be used: c10d's classes are registered in it.
#include <pybind11/chrono.h>
#include <torch/csrc/utils/pybind.h>

#include "error.h"
#include "process_group.h"

namespace cgx_torch {
namespace {

using ReleaseGil = py::call_guard<py::gil_scoped_release>;

py::dict to_dict(const cgx_stats& stats) {
  py::dict out;
  out["collectives"] = stats.collectives;
  out["failed"] = stats.failed;
  out["elements"] = stats.elements;
  out["elements_compressed"] = stats.elements_compressed;
  out["elements_raw"] = stats.elements_raw;
  out["elements_too_small"] = stats.elements_too_small;
  out["elements_not_float"] = stats.elements_not_float;
  out["raw_bytes"] = stats.raw_bytes;
  out["wire_bytes"] = stats.wire_bytes;
  out["saturated"] = stats.saturated;
  out["non_finite"] = stats.non_finite;
  out["encode_seconds"] = stats.encode_seconds;
  out["decode_seconds"] = stats.decode_seconds;
  out["wait_seconds"] = stats.wait_seconds;
  return out;
}

py::object communicator_stats(const ProcessGroupCgx& group) {
  const auto communicator = group.communicator();
  if (communicator == nullptr) {
    return py::none();
  }
  py::dict out = to_dict(communicator->stats());
  out["transport"] = communicator->transport();
  return out;
}

py::dict delegated(const ProcessGroupCgx& group) {
  const Tallies tallies = group.tallies();
  py::dict out;
  for (size_t i = 0; i < tallies.size(); ++i) {
    if (tallies.at(i).calls > 0) {
      py::dict row;
      row["calls"] = tallies.at(i).calls;
      row["elements"] = tallies.at(i).elements;
      out[reason_name(static_cast<Reason>(i))] = row;
    }
  }
  return out;
}

void bind_options(py::module_& module) {
  py::class_<CgxOptions, c10::intrusive_ptr<CgxOptions>, c10d::Backend::Options>(module, "RawOptions")
      .def(py::init([] { return c10::make_intrusive<CgxOptions>(); }))
      .def_readwrite("codec", &CgxOptions::codec)
      .def_readwrite("min_elements", &CgxOptions::min_elements)
      .def_readwrite("compress_1d", &CgxOptions::compress_1d)
      .def_property(
          "transport", [](const CgxOptions& o) { return o.communicator.transport; },
          [](CgxOptions& o, const std::string& value) { o.communicator.transport = value; })
      .def_property(
          "algorithm", [](const CgxOptions& o) { return o.communicator.algorithm; },
          [](CgxOptions& o, const std::string& value) { o.communicator.algorithm = value; })
      .def_property(
          "interface", [](const CgxOptions& o) { return o.communicator.interface_name; },
          [](CgxOptions& o, const std::string& value) { o.communicator.interface_name = value; })
      .def_property(
          "seed", [](const CgxOptions& o) { return o.communicator.seed; },
          [](CgxOptions& o, uint64_t value) { o.communicator.seed = value; })
      .def_property(
          "slice_bytes", [](const CgxOptions& o) { return o.communicator.slice_bytes; },
          [](CgxOptions& o, uint64_t value) { o.communicator.slice_bytes = value; })
      .def_property(
          "threads", [](const CgxOptions& o) { return o.communicator.threads; },
          [](CgxOptions& o, uint32_t value) { o.communicator.threads = value; })
      .def_property(
          "tune", [](const CgxOptions& o) { return o.communicator.tune; },
          [](CgxOptions& o, bool value) { o.communicator.tune = value; })
      .def_property(
          "policy_file", [](const CgxOptions& o) { return o.communicator.policy_file; },
          [](CgxOptions& o, const std::string& value) { o.communicator.policy_file = value; })
      .def_property(
          "secret", [](const CgxOptions& o) { return o.communicator.secret; },
          [](CgxOptions& o, const std::string& value) { o.communicator.secret = value; });
}

void bind_group(py::module_& module) {
  py::class_<ProcessGroupCgx, c10::intrusive_ptr<ProcessGroupCgx>, c10d::Backend>(module, "ProcessGroupCgx")
      .def(py::init([](const c10::intrusive_ptr<c10d::Store>& store, int rank, int size,
                       std::chrono::milliseconds timeout, const c10::intrusive_ptr<CgxOptions>& options,
                       const c10::intrusive_ptr<c10d::Backend>& inner) {
             return c10::make_intrusive<ProcessGroupCgx>(store, rank, size, timeout, options, inner);
           }),
           py::arg("store"), py::arg("rank"), py::arg("size"), py::arg("timeout"), py::arg("options"),
           py::arg("inner"), ReleaseGil())
      .def("connect", &ProcessGroupCgx::connect, ReleaseGil())
      .def("allreduce_layout", &ProcessGroupCgx::allreduce_layout, py::arg("tensor"), py::arg("layout"),
           py::arg("op"), py::arg("timeout") = c10d::kUnsetTimeout, ReleaseGil())
      .def("reserve_tensor_ids", &ProcessGroupCgx::reserve_tensor_ids)
      .def(
          "reset_residuals", [](ProcessGroupCgx& group) { group.connected()->reset_residuals(); },
          ReleaseGil())
      .def(
          "residual_norm",
          [](ProcessGroupCgx& group, uint32_t id) { return group.connected()->residual_norm(id); },
          ReleaseGil())
      .def(
          "save_state", [](ProcessGroupCgx& group) { return group.connected()->save_state(); }, ReleaseGil())
      .def(
          "load_state",
          [](ProcessGroupCgx& group, const at::Tensor& state) { group.connected()->load_state(state); },
          py::arg("state"), ReleaseGil())
      .def(
          "tune", [](ProcessGroupCgx& group) { group.connected()->tune(); }, ReleaseGil())
      .def(
          "policy", [](ProcessGroupCgx& group) { return group.connected()->policy(); }, ReleaseGil())
      .def(
          "observe", [](ProcessGroupCgx& group, uint32_t every) { group.connected()->observe(every); },
          ReleaseGil())
      .def(
          "table", [](ProcessGroupCgx& group) { return group.connected()->table(); }, ReleaseGil())
      .def("communicator_stats", &communicator_stats)
      .def("delegated", &delegated)
      .def_property_readonly("cgx_options", &ProcessGroupCgx::options)
      .def_property_readonly("inner", &ProcessGroupCgx::inner);
}

}  // namespace
}  // namespace cgx_torch

PYBIND11_MODULE(TORCH_EXTENSION_NAME, module) {
  py::module_::import("torch.distributed");
  py::class_<cgx_torch::Layout, std::shared_ptr<cgx_torch::Layout>>(module, "Layout")
      .def(py::init<>())
      .def("add", &cgx_torch::Layout::add, py::arg("count"), py::arg("spec"), py::arg("tensor_id"))
      .def_property_readonly("count", &cgx_torch::Layout::count)
      .def("__len__", [](const cgx_torch::Layout& layout) { return layout.segments().size(); });
  cgx_torch::bind_options(module);
  cgx_torch::bind_group(module);
}
