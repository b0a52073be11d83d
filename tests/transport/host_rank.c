/* One rank of a job on several hosts, all from the environment, as users start it. Writes the bits of every
 * result to DIRECTORY/RANK and what it ran over to standard output.
 *
 *   host_rank DIRECTORY TRANSPORT ALGORITHM
 */
#include <cgx/cgx.h>
#include <stdio.h>
#include <stdlib.h>

static void check(cgx_status status, const char* what) {
  if (status == CGX_OK) return;
  fprintf(stderr, "%s: %s: %s\n", what, cgx_status_name(status), cgx_last_error());
  exit(1);
}

/* Smooth enough to compress, and different on all ranks. */
static void fill(float* x, uint64_t count, int rank) {
  for (uint64_t i = 0; i < count; ++i) {
    x[i] = (float)((i * 2654435761u + (uint64_t)rank * 40503u) % 2003u) / 1000.0f - 1.0f;
  }
}

int main(int argc, char** argv) {
  static const char* const kSpecs[] = {"none", "maxmin:bits=4,bucket=512", "topk:ratio=0.01", "dither:bits=8"};
  static const uint64_t kCounts[] = {1, 1000, 300007};
  if (argc != 4) return 2;
  cgx_config config = CGX_CONFIG_INIT;
  config.transport = argv[2];
  config.algorithm = argv[3];
  config.timeout_ms = 60000;
  cgx_comm* comm = NULL;
  check(cgx_comm_create(&config, &comm), "cgx_comm_create");
  char path[4096];
  snprintf(path, sizeof path, "%s/%d", argv[1], cgx_comm_rank(comm));
  FILE* file = fopen(path, "wb");
  if (file == NULL) return 3;
  for (size_t s = 0; s < sizeof kSpecs / sizeof *kSpecs; ++s) {
    cgx_codec* codec = NULL;
    check(cgx_codec_create(kSpecs[s], &codec), kSpecs[s]);
    for (size_t c = 0; c < sizeof kCounts / sizeof *kCounts; ++c) {
      float* x = malloc(kCounts[c] * sizeof *x);
      if (x == NULL) return 4;
      fill(x, kCounts[c], cgx_comm_rank(comm));
      cgx_allreduce_args args = CGX_ALLREDUCE_ARGS_INIT;
      args.input = x;
      args.output = x;
      args.count = kCounts[c];
      args.codec = codec;
      check(cgx_allreduce(comm, &args), kSpecs[s]);
      if (fwrite(x, sizeof *x, kCounts[c], file) != kCounts[c]) return 5;
      free(x);
    }
    cgx_codec_destroy(codec);
  }
  if (fclose(file) != 0) return 6;
  if (cgx_comm_rank(comm) == 0) printf("%d ranks over %s\n", cgx_comm_size(comm), cgx_comm_transport(comm));
  cgx_comm_destroy(comm);
  return 0;
}
