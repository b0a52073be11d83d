// The store callbacks over c10d::Store, and a name for each communicator that no earlier one had: a
// store outlives process groups, and the name is also that of shared memory on the host.
#include "communicator.h"

#include <ATen/ops/empty.h>
#include <algorithm>
#include <cstring>
#include <random>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <vector>

#include "error.h"

namespace cgx_torch {
namespace {

using StorePtr = c10::intrusive_ptr<c10d::Store>;

int store_set(void* user, const char* key, const void* value, uint64_t bytes) {
  try {
    const auto* begin = static_cast<const uint8_t*>(value);
    (*static_cast<StorePtr*>(user))->set(key, std::vector<uint8_t>(begin, begin + bytes));
    return 0;
  } catch (const std::exception&) {
    return 2;
  }
}

// Waits for a key. c10d reports a timeout and a dead store by the same exception, so a second look decides.
bool wait_for(c10d::Store& store, const std::string& key, std::chrono::milliseconds timeout) {
  if (store.check({key})) {
    return true;
  }
  if (timeout.count() == 0) {
    return false;
  }
  try {
    store.wait({key}, timeout);
    return true;
  } catch (const std::exception&) {
    return store.check({key});
  }
}

int store_get(void* user, const char* key, int64_t timeout_ms, void* value, uint64_t capacity,
              uint64_t* bytes) {
  try {
    c10d::Store& store = **static_cast<StorePtr*>(user);
    if (!wait_for(store, key, std::chrono::milliseconds(timeout_ms))) {
      return 1;
    }
    const std::vector<uint8_t> found = store.get(key);
    *bytes = found.size();
    if (!found.empty() && found.size() <= capacity) {
      std::memcpy(value, found.data(), found.size());
    }
    return 0;
  } catch (const std::exception&) {
    return 2;
  }
}

void store_destroy(void* user) { delete static_cast<StorePtr*>(user); }

std::shared_ptr<cgx_store> make_store(const StorePtr& store) {
  cgx_store_callbacks callbacks = CGX_STORE_CALLBACKS_INIT;
  callbacks.set = store_set;
  callbacks.get = store_get;
  callbacks.destroy = store_destroy;
  auto owned = std::make_unique<StorePtr>(store);
  callbacks.user = owned.get();
  cgx_store* made = nullptr;
  check(cgx_store_create(&callbacks, &made));
  owned.release();
  return {made, cgx_store_destroy};
}

std::string random_name() {
  std::random_device device;
  const uint64_t bits = (static_cast<uint64_t>(device()) << 32) | device();
  char text[17];
  std::snprintf(text, sizeof(text), "%016llx", static_cast<unsigned long long>(bits));
  return text;
}

struct Meeting {
  StorePtr store;
  std::string job;
};

// Every rank arrives once for each communicator of this group, and none is made before all have arrived: so
// the number of arrivals says the how-manieth communicator this is.
Meeting meet(const StorePtr& base, int rank, int size, std::chrono::milliseconds timeout) {
  const int64_t round = (base->add("arrivals", 1) - 1) / size;
  StorePtr store = c10::make_intrusive<c10d::PrefixStore>("round" + std::to_string(round), base);
  if (rank == 0) {
    const std::string name = random_name();
    store->set("job", std::vector<uint8_t>(name.begin(), name.end()));
  }
  TORCH_CHECK_WITH(DistBackendError, wait_for(*store, "job", timeout),
                   "cgx: rank 0 has not come to make the communicator within ", timeout.count(),
                   " ms (this is rank ", rank, " of ", size, ")");
  const std::vector<uint8_t> name = store->get("job");
  return {store, "torch-" + std::string(name.begin(), name.end())};
}

const char* or_null(const std::string& text) { return text.empty() ? nullptr : text.c_str(); }

}  // namespace

Communicator::Communicator(const StorePtr& store, int rank, int size, const CommunicatorOptions& options,
                           std::chrono::milliseconds timeout) {
  const Meeting meeting = meet(store, rank, size, timeout);
  store_ = make_store(meeting.store);
  cgx_config config = CGX_CONFIG_INIT;
  config.rank = rank;
  config.size = size;
  config.store = store_.get();
  config.job = meeting.job.c_str();
  config.transport = or_null(options.transport);
  config.algorithm = or_null(options.algorithm);
  config.interface_name = or_null(options.interface_name);
  config.timeout_ms = std::max<int64_t>(timeout.count(), 1);
  config.seed = options.seed;
  config.slice_bytes = options.slice_bytes;
  config.threads = options.threads;
  config.tune = options.tune ? 1 : 0;
  config.policy_file = or_null(options.policy_file);
  config.secret = or_null(options.secret);
  check(cgx_comm_create(&config, &comm_));
}

Communicator::Communicator(std::shared_ptr<cgx_store> store, cgx_comm* comm)
    : store_(std::move(store)), comm_(comm) {}

Communicator::~Communicator() { cgx_comm_destroy(comm_); }

void Communicator::allreduce(const cgx_allreduce_args& args, cgx_done_fn done, void* user) {
  const std::lock_guard<std::mutex> lock(mutex_);
  check(cgx_allreduce_async(comm_, &args, done, user, nullptr));
}

void Communicator::abort(const std::string& reason) { check(cgx_comm_abort(comm_, reason.c_str())); }

std::shared_ptr<Communicator> Communicator::shrink(std::chrono::milliseconds timeout) {
  const std::lock_guard<std::mutex> lock(mutex_);
  cgx_comm* shrunk = nullptr;
  check(cgx_comm_shrink(comm_, std::max<int64_t>(timeout.count(), 1), &shrunk));
  return std::shared_ptr<Communicator>(new Communicator(store_, shrunk));
}

int Communicator::rank() const { return cgx_comm_rank(comm_); }

int Communicator::size() const { return cgx_comm_size(comm_); }

void Communicator::tune() {
  const std::lock_guard<std::mutex> lock(mutex_);
  check(cgx_comm_tune(comm_));
}

// `get` copies its text as cgx_comm_policy() does.
std::string Communicator::text_from(TextFunction get) {
  const std::lock_guard<std::mutex> lock(mutex_);
  uint64_t bytes = 0;
  check(get(comm_, nullptr, 0, &bytes));
  std::string text(bytes, '\0');
  check(get(comm_, text.data(), bytes, &bytes));
  text.pop_back();  // the terminating 0
  return text;
}

std::string Communicator::policy() { return text_from(cgx_comm_policy); }

void Communicator::observe(uint32_t every) { check(cgx_comm_observe(comm_, every)); }

std::string Communicator::table() { return text_from(cgx_comm_table); }

cgx_stats Communicator::stats() const {
  cgx_stats stats = CGX_STATS_INIT;
  check(cgx_comm_stats(comm_, &stats));
  return stats;
}

std::string Communicator::transport() const { return cgx_comm_transport(comm_); }

void Communicator::reset_residuals() {
  const std::lock_guard<std::mutex> lock(mutex_);
  check(cgx_comm_reset_residuals(comm_));
}

double Communicator::residual_norm(uint32_t tensor_id) {
  const std::lock_guard<std::mutex> lock(mutex_);
  double norm = 0.0;
  check(cgx_comm_residual_norm(comm_, tensor_id, &norm));
  return norm;
}

at::Tensor Communicator::save_state() {
  const std::lock_guard<std::mutex> lock(mutex_);
  uint64_t bytes = 0;
  check(cgx_comm_state_bytes(comm_, &bytes));
  at::Tensor state = at::empty({static_cast<int64_t>(bytes)}, at::kByte);
  check(cgx_comm_state_save(comm_, state.data_ptr(), bytes));
  return state;
}

void Communicator::load_state(const at::Tensor& state) {
  TORCH_CHECK_VALUE(state.scalar_type() == at::kByte && state.device().is_cpu(),
                    "cgx: a state is a tensor of uint8 on the CPU, not of ", state.scalar_type(), " on ",
                    state.device());
  const at::Tensor dense = state.contiguous();
  const std::lock_guard<std::mutex> lock(mutex_);
  check(cgx_comm_state_load(comm_, dense.data_ptr(), static_cast<uint64_t>(dense.numel())));
}

}  // namespace cgx_torch
