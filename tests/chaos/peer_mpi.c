/* Sums for ever with MPI_Allreduce, for scripts/chaos: what Open MPI does when a rank dies or stops. */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static long long now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (long long)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

int main(int argc, char** argv) {
  enum { COUNT = 30000 };
  float* x = calloc(COUNT, sizeof *x);
  int rank = 0, step = 0;
  MPI_Init(&argc, &argv);
  MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  printf("{\"at\": \"ready\", \"t\": %lld, \"rank\": %d, \"pid\": %d}\n", now_us(), rank, (int)getpid());
  fflush(stdout);
  for (;; ++step) {
    int status = MPI_Allreduce(MPI_IN_PLACE, x, COUNT, MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
    if (status != MPI_SUCCESS) {
      printf("{\"at\": \"error\", \"t\": %lld, \"rank\": %d, \"message\": \"MPI error %d\"}\n", now_us(),
             rank, status);
      fflush(stdout);
      return 1;
    }
    if (step % 5 == 0) {
      printf("{\"at\": \"alive\", \"t\": %lld, \"rank\": %d, \"steps\": %d}\n", now_us(), rank, step);
      fflush(stdout);
    }
  }
}
