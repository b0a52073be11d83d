// A cgx communicator whose ranks meet in a c10d store.
#ifndef CGX_BINDINGS_TORCH_COMMUNICATOR_H_
#define CGX_BINDINGS_TORCH_COMMUNICATOR_H_

#include <ATen/core/Tensor.h>
#include <cgx/cgx.h>

#include <chrono>
#include <memory>
#include <mutex>
#include <string>
#include <torch/csrc/distributed/c10d/Store.hpp>

namespace cgx_torch {

struct CommunicatorOptions {
  std::string transport;  // "" for the library's choice, as below
  std::string algorithm;
  std::string interface_name;
  uint64_t seed = 0;
  uint64_t slice_bytes = 0;
  uint32_t threads = 0;
  bool tune = false;
  std::string policy_file;
  std::string secret;

  bool operator==(const CommunicatorOptions&) const = default;
};

class Communicator {
 public:
  // Collective. Throws DistBackendError naming the rank that did not come within `timeout`.
  Communicator(const c10::intrusive_ptr<c10d::Store>& store, int rank, int size,
               const CommunicatorOptions& options, std::chrono::milliseconds timeout);
  // Waits for outstanding work, at most its timeout.
  ~Communicator();
  Communicator(const Communicator&) = delete;
  Communicator& operator=(const Communicator&) = delete;

  // `done` is called if and only if this returns without throwing. Any thread.
  void allreduce(const cgx_allreduce_args& args, cgx_done_fn done, void* user);
  void abort(const std::string& reason);
  // As cgx_comm_shrink(). This one stays failed.
  std::shared_ptr<Communicator> shrink(std::chrono::milliseconds timeout);
  int rank() const;
  int size() const;
  cgx_stats stats() const;
  // Collective.
  void tune();
  std::string policy();
  // As cgx_comm_observe() and cgx_comm_table().
  void observe(uint32_t every);
  std::string table();
  std::string transport() const;
  void reset_residuals();
  double residual_norm(uint32_t tensor_id);
  // As uint8 tensors: cgx_comm_state_save() and _load().
  at::Tensor save_state();
  void load_state(const at::Tensor& state);

 private:
  using TextFunction = cgx_status (*)(const cgx_comm*, char*, uint64_t, uint64_t*);

  Communicator(std::shared_ptr<cgx_store> store, cgx_comm* comm);
  std::string text_from(TextFunction get);

  std::mutex mutex_;                  // one call at a time: cgx.h
  std::shared_ptr<cgx_store> store_;  // shared with what it was shrunk to
  cgx_comm* comm_ = nullptr;
};

}  // namespace cgx_torch

#endif  // CGX_BINDINGS_TORCH_COMMUNICATOR_H_
