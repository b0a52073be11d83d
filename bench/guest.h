// A baseline that needs processes of its own: another MPI than a process can have beside its first, or
// Python. One process, a guest, sits beside each rank, does the calls that its rank asks for over a socket,
// in memory that both see, and times them itself, so that neither the socket nor Python is in the figures.
#pragma once

#include <sys/types.h>

#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "contender.h"
#include "data.h"

namespace cgx::bench {

// What a size is made of: all ranks' guests are given the same but for the elements.
struct Load {
  uint64_t generation;  // another one for each size
  const std::vector<Buffer>& inputs;
  std::vector<std::pair<uint64_t, uint64_t>> spans;  // first and count: a call each
  cgx_dtype dtype;
  cgx_op op;
};

// The rank's end of the socket. Requests and answers are lines of JSON; GuestServer (guest_server.cc) and
// torch_guest.py are the other end.
class GuestLink {
 public:
  // Listens at `path`; `words`, unless empty, are the command that connects to it, and are started here.
  GuestLink(std::string path, const std::vector<std::string>& words);
  ~GuestLink();
  GuestLink(const GuestLink&) = delete;
  GuestLink& operator=(const GuestLink&) = delete;

  // Waits until the guest has come; what it says of itself.
  const nlohmann::json& ready();
  nlohmann::json ask(const nlohmann::json& request);
  void load(const Load& load);
  const void* output(size_t buffer) const;

 private:
  std::string read_line();
  void start(const std::vector<std::string>& words);
  void unmap();

  std::string path_;
  std::string name_;  // of the program, for errors
  int listening_ = -1;
  int socket_ = -1;
  pid_t process_ = -1;
  std::string unread_;
  nlohmann::json ready_;
  uint64_t generation_ = 0;
  char* memory_ = nullptr;  // the inputs one after the other, then as many outputs
  uint64_t stride_ = 0;     // of buffers in it
  uint64_t buffers_ = 0;
};

class Guest final : public Contender {
 public:
  Guest(std::shared_ptr<GuestLink> link, const Entry& entry);

  void load(const Load& load) { link_->load(load); }
  // One call of every span in buffer `buffer`: how long it took, in us.
  double timed(size_t buffer);
  const void* output(size_t buffer) const { return link_->output(buffer); }

  Guest* guest() override { return this; }
  void allreduce(const void*, void*, uint64_t) override {
    throw BenchError("guests have memory of their own");
  }
  Traffic traffic() const override { return traffic_; }
  void forget() override { link_->ask({{"forget", method_}}); }
  std::string spec() const override { return spec_; }
  std::string transport() const override { return transport_; }
  std::string version() const override { return version_; }
  bool unbiased() const override { return spec_ == "none"; }

 private:
  std::shared_ptr<GuestLink> link_;
  std::string method_, spec_, transport_, version_;
  Traffic traffic_;
};

std::string guest_path(const std::string& directory, int number, int rank);
// In a process that mpirun started: serves the rank of its number. Returns the exit status.
int run_guest(const Options& options);

}  // namespace cgx::bench
