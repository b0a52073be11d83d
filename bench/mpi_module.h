// What the module libcgx_bench_mpi.so offers. It alone links MPI, so that cgx-bench runs where MPI is not,
// and no other contender shares its process with MPI's threads and handlers unless MPI is asked for.
#pragma once

#include "cgx/cgx.h"

namespace cgx::bench {

struct MpiModule {
  int (*start)();  // MPI_Init; the rank, or -1
  void (*stop)();  // MPI_Finalize: every rank calls it
  // An average is summed. False: MPI has no such type, or the call failed.
  bool (*allreduce)(const void* in, void* out, int count, cgx_dtype dtype, cgx_op op);
  void (*settle)();          // moves what calls left in send queues: every rank calls it
  const char* (*version)();  // "Open MPI v4.1.4, ..."
};

}  // namespace cgx::bench

extern "C" __attribute__((visibility("default"))) const cgx::bench::MpiModule* cgx_bench_mpi();
