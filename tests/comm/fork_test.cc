// A process that forks while it has a communicator: the child is told that it has none, and whatever it does
// with its parent's handles, the parent goes on.
#include "cgx/cgx.h"
#include "comm/processes.h"

namespace cgx {
namespace {

using test::Processes;
using test::Report;
using test::TemporaryDirectory;

Status checked(cgx_status status, const char* what) {
  if (status == CGX_OK) return Status();
  return error(static_cast<Code>(status), "{}: {}", what, cgx_last_error());
}

Status sum(cgx_comm* comm) {
  std::vector<float> x(5000, 1.0f);
  cgx_allreduce_args args = CGX_ALLREDUCE_ARGS_INIT;
  args.input = args.output = x.data();
  args.count = x.size();
  CGX_RETURN_IF_ERROR(checked(cgx_allreduce(comm, &args), "allreduce"));
  return x.back() == 2.0f ? Status() : error(Code::kInternal, "a wrong sum: {}", x.back());
}

// 0 where everything is refused, with words.
int misuse(cgx_comm* comm, cgx_store* store) {
  const Status status = sum(comm);
  if (status.code() != Code::kInvalidArgument || status.message().find("fork") == std::string::npos) return 1;
  cgx_comm* shrunk = nullptr;
  if (cgx_comm_tune(comm) != CGX_INVALID_ARGUMENT ||
      cgx_comm_shrink(comm, 0, &shrunk) != CGX_INVALID_ARGUMENT)
    return 2;
  cgx_comm_abort(comm, "by the child");
  cgx_comm_destroy(comm);
  cgx_store_destroy(store);
  return 0;
}

Status fork_in_between(const char* transport, const std::string& directory, int rank) {
  cgx_store* store = nullptr;
  CGX_RETURN_IF_ERROR(checked(cgx_store_create_file(directory.c_str(), &store), "store"));
  cgx_config config = CGX_CONFIG_INIT;
  config.rank = rank;
  config.size = 2;
  config.store = store;
  config.transport = transport;
  config.interface_name = "lo";
  config.timeout_ms = 20000;
  cgx_comm* comm = nullptr;
  CGX_RETURN_IF_ERROR(checked(cgx_comm_create(&config, &comm), "create"));
  CGX_RETURN_IF_ERROR(sum(comm));
  if (rank == 0) {
    const pid_t child = ::fork();
    if (child == 0) ::_exit(misuse(comm, store));
    int status = 0;
    ::waitpid(child, &status, 0);
    if (status != 0) return error(Code::kInternal, "the child ended with {:#x}", status);
  }
  CGX_RETURN_IF_ERROR(sum(comm));
  cgx_comm_destroy(comm);
  cgx_store_destroy(store);
  return Status();
}

TEST(Fork, TheChildIsRefusedAndTheParentGoesOn) {
  for (const char* transport : {"shm", "tcp"}) {
    TemporaryDirectory directory;
    Processes ranks(2);
    for (int r = 0; r < 2; ++r) {
      ranks.start(r, [&, r](Report&) { return fork_in_between(transport, directory.path(), r); });
    }
    for (int r = 0; r < 2; ++r) {
      ranks.wait_for(r);
      EXPECT_EQ(ranks.report(r).code, 0) << transport << ", rank " << r << ": " << ranks.report(r).message;
    }
  }
}

}  // namespace
}  // namespace cgx
