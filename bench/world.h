// A run whose ranks somebody else has started: mpirun, torchrun, srun, or the user by CGX_RANK and CGX_SIZE.
// Each process is a rank; they keep in step and tell rank 0 their results by small collectives of cgx, so
// that they may be on several hosts.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "team.h"

namespace cgx::bench {

class World final : public Team {
 public:
  explicit World(const Options& options);
  ~World() override;
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  void wait_spinning() override;
  void wait_patiently() override { wait_spinning(); }
  std::string directory() const override { return directory_; }
  cgx_store* store() const override { return store_.get(); }

  bool on_one_host();
  // Every rank's text, on all ranks, in their order.
  std::vector<std::string> gather(const std::string& text);

 private:
  struct CommDeleter {
    void operator()(cgx_comm* comm) const { cgx_comm_destroy(comm); }
  };
  void sum(void* values, uint64_t count, cgx_dtype dtype);
  void make_directory(const Options& options);

  int rank_;
  int ranks_;
  std::string own_store_;  // made for this run; rank 0 removes it
  std::string directory_;
  StorePtr store_;
  std::unique_ptr<cgx_comm, CommDeleter> comm_;
};

// The whole run in this rank. Returns the exit status.
int run_world(const Options& options);

}  // namespace cgx::bench
