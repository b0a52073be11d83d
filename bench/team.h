// What the ranks of a run share: a way to keep in step, and a place to meet. By a page of memory and a
// directory where cgx-bench started them (PageTeam); by cgx itself where mpirun, torchrun or the like did
// (World, in world.h).
#pragma once

#include <memory>
#include <string>

#include "barrier.h"
#include "cgx/cgx.h"
#include "options.h"

namespace cgx::bench {

struct StoreDeleter {
  void operator()(cgx_store* store) const { cgx_store_destroy(store); }
};
using StorePtr = std::unique_ptr<cgx_store, StoreDeleter>;

class Team {
 public:
  virtual ~Team() = default;
  // For the instant before a timed call.
  virtual void wait_spinning() = 0;
  // For when a rank may take long.
  virtual void wait_patiently() = 0;
  // That all ranks see and that is removed in the end; "" where there is none.
  virtual std::string directory() const = 0;
  // Of all communicators; null: each makes one of files in the directory.
  virtual cgx_store* store() const { return nullptr; }
};

class PageTeam final : public Team {
 public:
  explicit PageTeam(const Options& options)
      : barrier_(options.shared_path, options.ranks), directory_(options.meeting_directory) {}
  void wait_spinning() override { barrier_.wait_spinning(); }
  void wait_patiently() override { barrier_.wait_patiently(); }
  std::string directory() const override { return directory_; }

 private:
  RankBarrier barrier_;
  std::string directory_;
};

}  // namespace cgx::bench
