// MPI's C interface behind a few functions.
#include "mpi_module.h"

#include <mpi.h>

namespace {

int start() {
  int provided = 0, rank = -1;
  if (MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SINGLE, &provided) != MPI_SUCCESS) return -1;
  return MPI_Comm_rank(MPI_COMM_WORLD, &rank) == MPI_SUCCESS ? rank : -1;
}

void stop() { MPI_Finalize(); }

MPI_Datatype type_of(cgx_dtype dtype) {
  switch (dtype) {
    case CGX_FLOAT32:
      return MPI_FLOAT;
    case CGX_FLOAT64:
      return MPI_DOUBLE;
    case CGX_INT8:
      return MPI_INT8_T;
    case CGX_UINT8:
      return MPI_UINT8_T;
    case CGX_INT16:
      return MPI_INT16_T;
    case CGX_INT32:
      return MPI_INT32_T;
    case CGX_INT64:
      return MPI_INT64_T;
    default:
      return MPI_DATATYPE_NULL;
  }
}

MPI_Op op_of(cgx_op op) {
  switch (op) {
    case CGX_MIN:
      return MPI_MIN;
    case CGX_MAX:
      return MPI_MAX;
    case CGX_PROD:
      return MPI_PROD;
    default:
      return MPI_SUM;
  }
}

bool allreduce(const void* in, void* out, int count, cgx_dtype dtype, cgx_op op) {
  const MPI_Datatype type = type_of(dtype);
  return type != MPI_DATATYPE_NULL &&
         MPI_Allreduce(in, out, count, type, op_of(op), MPI_COMM_WORLD) == MPI_SUCCESS;
}

// MPI sends only within its calls: a rank whose part is done returns with bytes for a slower one still
// queued.
void settle() { MPI_Barrier(MPI_COMM_WORLD); }

const char* version() {
  static char text[MPI_MAX_LIBRARY_VERSION_STRING];
  int length = 0;
  if (MPI_Get_library_version(text, &length) != MPI_SUCCESS) return "";
  for (char* c = text; *c != 0; ++c) {
    if (*c == ',' || *c == '\n') *c = 0;  // the rest is who built it, and when
  }
  return text;
}

constexpr cgx::bench::MpiModule kModule = {start, stop, allreduce, settle, version};

}  // namespace

const cgx::bench::MpiModule* cgx_bench_mpi() { return &kModule; }
