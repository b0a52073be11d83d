/* The C interface from C99: every function of cgx.h, with two threads as ranks. Compiled with -std=c99
 * -pedantic -Werror and linked with libcgx.so only. Ends with 0 and "c api: ok". */
#define _POSIX_C_SOURCE 200809L
#include <cgx/cgx.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHECK(condition)                                                                                \
  do {                                                                                                  \
    if (!(condition)) {                                                                                 \
      fprintf(stderr, "%s:%d: %s: last error: %s\n", __FILE__, __LINE__, #condition, cgx_last_error()); \
      exit(1);                                                                                          \
    }                                                                                                   \
  } while (0)
#define OK(call) CHECK((call) == CGX_OK)

enum { COUNT = 3000, KEYS = 64, VALUE = 512 };

/* A store in this process's memory, behind callbacks. */
typedef struct memory_store {
  pthread_mutex_t mutex;
  pthread_cond_t changed;
  int used;
  int destroyed;
  char keys[KEYS][128];
  char values[KEYS][VALUE];
  uint64_t bytes[KEYS];
} memory_store;

static memory_store shared_store = {
    PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, 0, 0, {{0}}, {{0}}, {0}};

static int store_set(void* user, const char* key, const void* value, uint64_t bytes) {
  memory_store* store = user;
  pthread_mutex_lock(&store->mutex);
  const int full = store->used == KEYS || bytes > VALUE || strlen(key) >= sizeof store->keys[0];
  if (!full) {
    strcpy(store->keys[store->used], key);
    memcpy(store->values[store->used], value, bytes);
    store->bytes[store->used++] = bytes;
    pthread_cond_broadcast(&store->changed);
  }
  pthread_mutex_unlock(&store->mutex);
  return full ? 2 : 0;
}

static int store_get(void* user, const char* key, int64_t timeout_ms, void* value, uint64_t capacity,
                     uint64_t* bytes) {
  memory_store* store = user;
  struct timespec deadline;
  clock_gettime(CLOCK_REALTIME, &deadline);
  deadline.tv_sec += timeout_ms / 1000;
  deadline.tv_nsec += timeout_ms % 1000 * 1000000;
  if (deadline.tv_nsec >= 1000000000) {
    deadline.tv_nsec -= 1000000000;
    ++deadline.tv_sec;
  }
  int result = -1;
  pthread_mutex_lock(&store->mutex);
  while (result < 0) {
    for (int i = 0; i < store->used && result < 0; ++i) {
      if (strcmp(store->keys[i], key) != 0) continue;
      *bytes = store->bytes[i];
      if (*bytes <= capacity) memcpy(value, store->values[i], *bytes);
      result = 0;
    }
    if (result < 0 && pthread_cond_timedwait(&store->changed, &store->mutex, &deadline) != 0) result = 1;
  }
  pthread_mutex_unlock(&store->mutex);
  return result;
}

static void store_destroy(void* user) {
  memory_store* store = user;
  pthread_mutex_lock(&store->mutex);
  ++store->destroyed;
  pthread_mutex_unlock(&store->mutex);
}

static void count_line(void* user, cgx_log_level level, const char* message) {
  CHECK(message != NULL && level <= CGX_LOG_TRACE);
  ++*(int*)user;
}

static void versions_and_errors(void) {
  CHECK(cgx_version() == CGX_VERSION);
  CHECK(strcmp(cgx_version_string(), "0.1.0") == 0);
  CHECK(strcmp(cgx_status_name(CGX_TIMEOUT), "CGX_TIMEOUT") == 0);
  CHECK(cgx_status_name((cgx_status)99) != NULL);
  CHECK(strcmp(cgx_last_error(), "") == 0);
  cgx_codec* codec = NULL;
  CHECK(cgx_codec_create("maxmin:bits=17", &codec) == CGX_INVALID_ARGUMENT);
  CHECK(codec == NULL);
  CHECK(strstr(cgx_last_error(), "bits") != NULL && strstr(cgx_last_error(), "17") != NULL);
}

static void codecs(void) {
  cgx_codec* codec = NULL;
  OK(cgx_codec_create("maxmin:bits=4,bucket=512", &codec));
  CHECK(strstr(cgx_codec_spec(codec), "maxmin:") == cgx_codec_spec(codec));
  CHECK(cgx_codec_unbiased(codec) == 1);
  uint64_t bytes = 0;
  OK(cgx_codec_encoded_bytes(codec, CGX_FLOAT32, 1024, &bytes));
  CHECK(bytes == 2 * (8 + 256)); /* two buckets: minimum, step, 512 fields of 4 bits */

  float x[1024];
  float y[1024];
  unsigned char block[1024];
  for (int i = 0; i < 1024; ++i) x[i] = (float)(i % 100);
  const cgx_random_key key = {1, 2, 3, 4};
  CHECK(cgx_codec_encode(codec, CGX_FLOAT32, x, 1024, &key, block, bytes - 1) == CGX_INVALID_ARGUMENT);
  OK(cgx_codec_encode(codec, CGX_FLOAT32, x, 1024, &key, block, sizeof block));
  OK(cgx_codec_decode(codec, CGX_FLOAT32, block, bytes, 1024, y));
  for (int i = 0; i < 1024; ++i) CHECK(fabsf(x[i] - y[i]) <= 99.0f / 15);
  CHECK(cgx_codec_decode(codec, CGX_FLOAT32, block, bytes - 1, 1024, y) == CGX_CORRUPT);
  float sum[1024];
  for (int i = 0; i < 1024; ++i) sum[i] = 1;
  OK(cgx_codec_decode_add(codec, CGX_FLOAT32, block, bytes, 1024, sum));
  for (int i = 0; i < 1024; ++i) CHECK(sum[i] == 1 + y[i]);
  CHECK(cgx_codec_decode_add(codec, CGX_FLOAT32, block, bytes - 1, 1024, sum) == CGX_CORRUPT);
  unsigned char again[1024];
  float residual[1024];
  for (int i = 0; i < 1024; ++i) residual[i] = 0;
  OK(cgx_codec_encode_feedback(codec, CGX_FLOAT32, x, 1024, &key, residual, again, sizeof again));
  CHECK(memcmp(block, again, bytes) == 0);
  for (int i = 0; i < 1024; ++i) CHECK(residual[i] == x[i] - y[i]);
  OK(cgx_set_cpu_path("scalar"));
  OK(cgx_codec_encode(codec, CGX_FLOAT32, x, 1024, &key, again, sizeof again));
  OK(cgx_set_cpu_path(""));
  CHECK(memcmp(block, again, bytes) == 0);
  CHECK(cgx_set_cpu_path("abacus") == CGX_INVALID_ARGUMENT);
  cgx_codec_destroy(codec);
  cgx_codec_destroy(NULL);
  CHECK(strstr(cgx_codec_list(), "\"maxmin\"") != NULL);
  CHECK(strstr(cgx_algorithm_list(), "\"scatter_gather\"") != NULL);
}

static void count_done(void* user, cgx_status status, const char* error) {
  CHECK(status == CGX_OK && error != NULL);
  ++*(int*)user;
}

static void* rank_main(void* argument) {
  const int rank = *(int*)argument;
  cgx_store_callbacks callbacks = CGX_STORE_CALLBACKS_INIT;
  callbacks.user = &shared_store;
  callbacks.set = store_set;
  callbacks.get = store_get;
  callbacks.destroy = store_destroy;
  cgx_store* store = NULL;
  OK(cgx_store_create(&callbacks, &store));

  cgx_config config = CGX_CONFIG_INIT;
  config.rank = rank;
  config.size = 2;
  config.store = store;
  config.transport = "local";
  config.timeout_ms = 60000;
  config.seed = 5;
  cgx_comm* comm = NULL;
  OK(cgx_comm_create(&config, &comm));
  CHECK(cgx_comm_rank(comm) == rank && cgx_comm_size(comm) == 2);
  CHECK(strcmp(cgx_comm_transport(comm), "local") == 0);

  cgx_codec* dense = NULL;
  cgx_codec* sparse = NULL;
  OK(cgx_codec_create("maxmin:bits=8,bucket=256", &dense));
  OK(cgx_codec_create("topk:ratio=0.1+ef", &sparse));
  static float input[2][COUNT];
  static float output[2][COUNT];
  for (int i = 0; i < COUNT; ++i) input[rank][i] = (float)((i * 7) % 31) + (float)rank;

  cgx_allreduce_args args = CGX_ALLREDUCE_ARGS_INIT;
  args.input = input[rank];
  args.output = output[rank];
  args.count = COUNT;
  args.op = CGX_AVG;
  args.codec = dense;
  OK(cgx_allreduce(comm, &args));
  /* The contribution (range 30) and the average (range at most 30) are off by a step of 1/255 each at most.
   */
  for (int i = 0; i < COUNT; ++i)
    CHECK(fabsf(output[rank][i] - ((float)((i * 7) % 31) + 0.5f)) <= 2 * 30.0f / 255);

  const cgx_segment segments[] = {{0, 2000, dense, 1}, {2000, 900, sparse, 2}, {2900, 100, NULL, 3}};
  args.op = CGX_SUM;
  args.codec = NULL;
  args.segments = segments;
  args.segment_count = 3;
  int done = 0;
  cgx_work* work = NULL;
  OK(cgx_allreduce_async(comm, &args, count_done, &done, &work));
  OK(cgx_work_wait(work, -1));
  CHECK(cgx_work_done(work) == 1);
  cgx_work_destroy(work);
  for (int i = 2900; i < COUNT; ++i) CHECK(output[rank][i] == 2 * (float)((i * 7) % 31) + 1);
  double norm = -1;
  OK(cgx_allreduce(comm, &args)); /* in the queue's place: the callback has been called */
  CHECK(done == 1);
  OK(cgx_comm_residual_norm(comm, 2, &norm));
  CHECK(norm > 0);
  uint64_t state_bytes = 0;
  OK(cgx_comm_state_bytes(comm, &state_bytes));
  void* state = malloc(state_bytes);
  CHECK(state != NULL);
  OK(cgx_comm_state_save(comm, state, state_bytes));
  OK(cgx_comm_reset_residuals(comm));
  double now = -1;
  OK(cgx_comm_residual_norm(comm, 2, &now));
  CHECK(now == 0);
  OK(cgx_comm_state_load(comm, state, state_bytes));
  OK(cgx_comm_residual_norm(comm, 2, &now));
  CHECK(now == norm);
  free(state);

  cgx_stats stats = CGX_STATS_INIT;
  OK(cgx_comm_stats(comm, &stats));
  CHECK(stats.collectives == 3 && stats.failed == 0);
  CHECK(stats.elements == 3 * COUNT && stats.elements_raw == 200);
  CHECK(stats.wire_bytes > 0 && stats.wire_bytes < stats.raw_bytes);

  if (rank == 0) {
    OK(cgx_comm_abort(comm, "the test is over"));
    CHECK(cgx_allreduce(comm, &args) == CGX_FAILED);
  } else {
    CHECK(cgx_allreduce(comm, &args) == CGX_PEER_FAILED);
  }
  CHECK(strstr(cgx_last_error(), "the test is over") != NULL);
  cgx_comm_destroy(comm);
  cgx_codec_destroy(dense);
  cgx_codec_destroy(sparse);
  cgx_store_destroy(store);
  return NULL;
}

static void stores(void) {
  char directory[] = "/tmp/cgx-c-api-XXXXXX";
  CHECK(mkdtemp(directory) != NULL);
  cgx_store* store = NULL;
  OK(cgx_store_create_file(directory, &store));
  cgx_store_destroy(store);
  CHECK(remove(directory) == 0);
  CHECK(cgx_store_create_file("", &store) == CGX_INVALID_ARGUMENT);
  CHECK(cgx_store_create_tcp("127.0.0.1", 0, 0, 100, &store) == CGX_INVALID_ARGUMENT);
  const int port = 20000 + (int)getpid() % 10000; /* below those that the system hands out */
  OK(cgx_store_create_tcp("127.0.0.1", port, 0, 1000, &store));
  cgx_store_destroy(store);
  cgx_store_destroy(NULL);
}

int main(void) {
  int lines = 0;
  cgx_set_log(count_line, &lines, CGX_LOG_INFO);
  versions_and_errors();
  codecs();
  stores();
  pthread_t threads[2];
  int ranks[2] = {0, 1};
  for (int i = 0; i < 2; ++i) CHECK(pthread_create(&threads[i], NULL, rank_main, &ranks[i]) == 0);
  for (int i = 0; i < 2; ++i) CHECK(pthread_join(threads[i], NULL) == 0);
  CHECK(shared_store.destroyed == 2);
  CHECK(lines > 0);
  cgx_set_log(NULL, NULL, CGX_LOG_WARN);
  puts("c api: ok");
  return 0;
}
