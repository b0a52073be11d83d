// MPI's C interface behind three functions.
#include "mpi_module.h"

#include <mpi.h>

namespace {

int start() {
  int provided = 0, rank = -1;
  if (MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SINGLE, &provided) != MPI_SUCCESS) return -1;
  return MPI_Comm_rank(MPI_COMM_WORLD, &rank) == MPI_SUCCESS ? rank : -1;
}

void stop() { MPI_Finalize(); }

bool allreduce_sum(const float* in, float* out, int count) {
  return MPI_Allreduce(in, out, count, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD) == MPI_SUCCESS;
}

const char* version() {
  static char text[MPI_MAX_LIBRARY_VERSION_STRING];
  int length = 0;
  if (MPI_Get_library_version(text, &length) != MPI_SUCCESS) return "";
  for (char* c = text; *c != 0; ++c) {
    if (*c == ',' || *c == '\n') *c = 0;  // the rest is who built it, and when
  }
  return text;
}

constexpr cgx::bench::MpiModule kModule = {start, stop, allreduce_sum, version};

}  // namespace

const cgx::bench::MpiModule* cgx_bench_mpi() { return &kModule; }
