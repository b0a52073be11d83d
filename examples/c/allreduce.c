/* Sums a tensor over all ranks with 4 bits an element, and says what that cost. Start one process a rank:
 *
 *   CGX_SIZE=2 CGX_RANK=0 CGX_STORE=file:/tmp/job ./allreduce_c &
 *   CGX_SIZE=2 CGX_RANK=1 CGX_STORE=file:/tmp/job ./allreduce_c
 */
#include <cgx/cgx.h>
#include <stdio.h>
#include <stdlib.h>

enum { COUNT = 100000 };

/* Ends the program where a call failed: cgx_last_error() says what to do about it. */
static void check(cgx_status status, const char* what) {
  if (status == CGX_OK) return;
  fprintf(stderr, "%s: %s: %s\n", what, cgx_status_name(status), cgx_last_error());
  exit(1);
}

int main(void) {
  cgx_comm* comm = NULL;
  check(cgx_comm_create(NULL, &comm), "cgx_comm_create"); /* rank, size and store from the environment */
  const int rank = cgx_comm_rank(comm);
  const int size = cgx_comm_size(comm);

  cgx_codec* codec = NULL;
  check(cgx_codec_create("maxmin:bits=4,bucket=512", &codec), "cgx_codec_create");

  static float x[COUNT];
  for (int i = 0; i < COUNT; ++i) x[i] = (float)(i % 512) + (float)rank;

  cgx_allreduce_args args = CGX_ALLREDUCE_ARGS_INIT;
  args.input = x;
  args.output = x;
  args.count = COUNT;
  args.codec = codec;
  check(cgx_allreduce(comm, &args), "cgx_allreduce");

  /* Two roundings: each rank's contribution, and the sum. Each is off by less than one of the 15 steps of its
   * bucket's range, which is 511 for a contribution and at most 511 * size for the sum. (1e-5: fp32
   * arithmetic.) */
  const double bound = 2 * size * (511.0 / 15) * (1 + 1e-5);
  double worst = 0;
  for (int i = 0; i < COUNT; ++i) {
    const double exact = (double)size * (i % 512) + size * (size - 1) / 2.0;
    const double error = x[i] > exact ? x[i] - exact : exact - x[i];
    if (error > worst) worst = error;
  }

  cgx_stats stats = CGX_STATS_INIT;
  check(cgx_comm_stats(comm, &stats), "cgx_comm_stats");
  printf("rank %d of %d over %s: sent %llu bytes instead of %llu, worst error %.2f of a bound of %.2f: %s\n",
         rank, size, cgx_comm_transport(comm), (unsigned long long)stats.wire_bytes,
         (unsigned long long)stats.raw_bytes, worst, bound, worst <= bound ? "ok" : "WRONG");
  cgx_codec_destroy(codec);
  cgx_comm_destroy(comm);
  return worst <= bound ? 0 : 1;
}
