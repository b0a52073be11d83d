/* cgx: collectives that compress inside. The C interface (C99); everything else is private.
 *
 * Conventions, unless a function says otherwise:
 *  - Every function that can fail returns a cgx_status. cgx_last_error() then holds, for the calling
 *    thread, a sentence saying what was wrong, with which value, and what to do.
 *  - `count` is in elements, `bytes` in bytes, `timeout_ms` in milliseconds.
 *  - Strings given in are copied. Strings given out live as long as their owner (said at each).
 *  - Structs begin with `struct_size`; set them up with their _INIT macro. A smaller struct from an older
 *    header is accepted: fields that it lacks take their defaults.
 *  - Functions on different handles may be called from different threads at the same time. On one handle,
 *    calls must come one after another, except where marked "any thread".
 *  - Handles given to a destroy function may be NULL. A handle that was destroyed, or is none, is
 *    CGX_INVALID_ARGUMENT (NULL, 0 or -1 from functions without a status), unless a newer handle of its kind
 *    has taken its address.
 */
#ifndef CGX_CGX_H_
#define CGX_CGX_H_

#include <stddef.h>
#include <stdint.h>

#define CGX_VERSION_MAJOR 0
#define CGX_VERSION_MINOR 1
#define CGX_VERSION_PATCH 0
#define CGX_VERSION (CGX_VERSION_MAJOR * 10000 + CGX_VERSION_MINOR * 100 + CGX_VERSION_PATCH)

#if defined(__GNUC__)
#define CGX_API __attribute__((visibility("default")))
#else
#define CGX_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Version, errors, logging ------------------------------------------------------------------ */

typedef enum cgx_status {
  CGX_OK = 0,
  CGX_INVALID_ARGUMENT = 1, /* a wrong value, a null pointer, a malformed spec */
  CGX_UNSUPPORTED = 2,      /* understood, and not offered here */
  CGX_TIMEOUT = 3,          /* a peer made no progress within the timeout */
  CGX_PEER_FAILED = 4,      /* a peer died, closed its connection or reported a failure of its own */
  CGX_MISMATCH = 5,         /* ranks called with different counts, types, specs or order */
  CGX_ABORTED = 6,          /* cgx_comm_abort was called */
  CGX_FAILED = 7,           /* the communicator failed earlier; destroy it */
  CGX_RESOURCE = 8,         /* memory, /dev/shm, descriptors or threads are exhausted */
  CGX_CORRUPT = 9,          /* encoded bytes that no encoder can have written */
  CGX_INTERNAL = 10         /* a bug in cgx */
} cgx_status;

/* CGX_VERSION of the library that is loaded (the macro is that of the header). Any thread. */
CGX_API int cgx_version(void);
/* "0.1.0". Static. Any thread. */
CGX_API const char* cgx_version_string(void);
/* "CGX_TIMEOUT". Static. Any thread. */
CGX_API const char* cgx_status_name(cgx_status status);
/* The calling thread's last error, "" if none; valid until its next cgx call. Any thread. */
CGX_API const char* cgx_last_error(void);

typedef enum cgx_log_level { CGX_LOG_ERROR = 0, CGX_LOG_WARN = 1, CGX_LOG_INFO = 2, CGX_LOG_TRACE = 3 } cgx_log_level;
typedef void (*cgx_log_fn)(void* user, cgx_log_level level, const char* message);
/* Sends log lines to `fn` (NULL: back to standard error) up to `level`. The default is standard error
 * or the file of CGX_DEBUG_FILE, at the level of CGX_DEBUG=ERROR|WARN|VERSION|INFO|TRACE (WARN). `fn` is called from any thread, one call at a
 * time, and must not call cgx. Any thread. */
CGX_API void cgx_set_log(cgx_log_fn fn, void* user, cgx_log_level level);

/* ---- Types ------------------------------------------------------------------------------------- */

typedef enum cgx_dtype {
  CGX_FLOAT32 = 0,
  CGX_FLOAT16 = 1,
  CGX_BFLOAT16 = 2,
  CGX_FLOAT64 = 3,
  CGX_INT8 = 4,
  CGX_UINT8 = 5,
  CGX_INT16 = 6,
  CGX_INT32 = 7,
  CGX_INT64 = 8
} cgx_dtype;

typedef enum cgx_op {
  CGX_SUM = 0,
  CGX_AVG = 1, /* sum times 1/size (the nearest fp32, or fp64 for fp64), inside the reduction; not for integers */
  CGX_MIN = 2, /* min, max and product are never compressed: see cgx_allreduce() */
  CGX_MAX = 3,
  CGX_PROD = 4
} cgx_op;

/* ---- Codecs ------------------------------------------------------------------------------------ */

/* A codec made from a spec such as "maxmin:bits=4,bucket=512" or "topk:ratio=0.01|natural". "auto:error=0.03" leaves
 * the choice to each collective: the fastest of none, bf16, max-min and natural, by what was measured (cgx_comm_tune),
 * whose relative error (NMSE) of one rounding of normally distributed elements is at most 0.03, the default: that
 * of 4-bit max-min. With +ef as others. It is refused by cgx_codec_encode and its like. */
typedef struct cgx_codec cgx_codec;

/* Parses `spec`. CGX_INVALID_ARGUMENT names the codec, the parameter, its value and its range. The result is immutable. */
CGX_API cgx_status cgx_codec_create(const char* spec, cgx_codec** codec);
CGX_API void cgx_codec_destroy(cgx_codec* codec);
/* The canonical spec, every parameter spelled out. Lives as long as `codec`. Any thread. */
CGX_API const char* cgx_codec_spec(const cgx_codec* codec);
/* 1 if decoding gives the input on average (over seeds), 0 if not. Any thread. */
CGX_API int cgx_codec_unbiased(const cgx_codec* codec);
/* Bytes that encoding `count` elements of `dtype` takes: a pure function, never above the elements
 * themselves (docs/WIRE.md gives the formula of each codec). dtype: fp32, fp16, bf16; others are
 * CGX_UNSUPPORTED. Any thread. */
CGX_API cgx_status cgx_codec_encoded_bytes(const cgx_codec* codec, cgx_dtype dtype, uint64_t count, uint64_t* bytes);

/* Where random bits come from: equal keys give equal bytes on every machine. */
typedef struct cgx_random_key {
  uint64_t seed;
  uint32_t operation;
  uint32_t tensor;
  uint32_t rank; /* below 65536 */
} cgx_random_key;

/* Encodes `count` elements at `x` into `block`, which holds `capacity` bytes, at least
 * cgx_codec_encoded_bytes(). `key` may be NULL (all zero). Error feedback in the spec is
 * CGX_INVALID_ARGUMENT here: residuals belong to a communicator. Any thread. */
CGX_API cgx_status cgx_codec_encode(const cgx_codec* codec, cgx_dtype dtype, const void* x, uint64_t count,
                                    const cgx_random_key* key, void* block, uint64_t capacity);
/* Encodes with error feedback: what is encoded is x + residual, and `residual` (`count` fp32 values, zeros at
 * first) becomes what the block lost of it. CGX_INVALID_ARGUMENT for codecs that lose nothing or whose residual
 * would grow; "+ef" in the spec is not needed. Otherwise as cgx_codec_encode(). */
CGX_API cgx_status cgx_codec_encode_feedback(const cgx_codec* codec, cgx_dtype dtype, const void* x, uint64_t count,
                                             const cgx_random_key* key, float* residual, void* block,
                                             uint64_t capacity);
/* Decodes a block of exactly `bytes` bytes into `count` fp32 values. `dtype` is the type that was
 * encoded. Any bytes are safe: CGX_CORRUPT where no encoder can have written them. Any thread. */
CGX_API cgx_status cgx_codec_decode(const cgx_codec* codec, cgx_dtype dtype, const void* block, uint64_t bytes,
                                    uint64_t count, float* out);
/* The same, added to what is in `out`: one fp32 addition an element. After CGX_CORRUPT `out` is as before.
 * Sparse codecs touch only the elements that the block has. */
CGX_API cgx_status cgx_codec_decode_add(const cgx_codec* codec, cgx_dtype dtype, const void* block, uint64_t bytes,
                                        uint64_t count, float* out);

/* The codecs there are, as a JSON array: name, summary, unbiased, params (name, range, default,
 * meaning). Static. Any thread. */
CGX_API const char* cgx_codec_list(void);
/* The allreduce algorithms there are, as a JSON array: name, summary. Static. Any thread. */
CGX_API const char* cgx_algorithm_list(void);
/* The environment variables there are, as a JSON array: name, default, meaning, reader. Static. Any thread. */
CGX_API const char* cgx_variable_list(void);
/* Forces the CPU path of the codecs: "scalar", "sse4", "avx2", "avx512"; "" for the best one. Every path gives
 * the same bytes. For tests and benchmarks: no encode, decode or collective may be running. */
CGX_API cgx_status cgx_set_cpu_path(const char* name);

/* ---- Plans ------------------------------------------------------------------------------------- */

/* What a collective would do, without doing it. */
typedef struct cgx_plan_args {
  uint32_t struct_size;
  const char* algorithm;  /* a name of cgx_algorithm_list() */
  int32_t ranks;          /* 1..16 */
  int32_t hosts;          /* that the ranks stand on, in equal shares one after the other; 1..ranks */
  cgx_dtype dtype;
  uint64_t count;         /* elements */
  const cgx_codec* codec; /* NULL: uncompressed */
  uint64_t slice_bytes;   /* 0: 262144 */
} cgx_plan_args;
#define CGX_PLAN_ARGS_INIT {(uint32_t)sizeof(cgx_plan_args), NULL, 1, 1, CGX_FLOAT32, 0, NULL, 0}

typedef struct cgx_plan_summary {
  uint32_t struct_size;
  uint64_t steps;      /* of all ranks */
  uint64_t messages;   /* sent by all ranks, one for each receiver */
  uint64_t wire_bytes; /* sent by the rank that sends most */
} cgx_plan_summary;
#define CGX_PLAN_SUMMARY_INIT {(uint32_t)sizeof(cgx_plan_summary), 0, 0, 0}

/* Makes the plans of all ranks and proves them right with symbols for elements: every contribution is in every result once,
 * all ranks decode the same encodings, and nobody waits for ever. CGX_INTERNAL names the rank, the step and what is wrong.
 * `summary` may be NULL. Any thread. */
CGX_API cgx_status cgx_plan_check(const cgx_plan_args* args, cgx_plan_summary* summary);

/* ---- Rendezvous -------------------------------------------------------------------------------- */

/* A key-value store where the ranks of a communicator meet. */
typedef struct cgx_store cgx_store;

typedef struct cgx_store_callbacks {
  uint32_t struct_size;
  void* user;
  /* Stores a copy of `bytes` bytes under `key`. Returns 0, or anything else for failure. */
  int (*set)(void* user, const char* key, const void* value, uint64_t bytes);
  /* Waits up to `timeout_ms` (0: not at all) until `key` is set. Copies the value to `value` if it fits
   * `capacity`, and its size to `*bytes` in any case. Returns 0; 1 on timeout; anything else for failure. */
  int (*get)(void* user, const char* key, int64_t timeout_ms, void* value, uint64_t capacity, uint64_t* bytes);
  /* Called once when the store is destroyed; may be NULL. */
  void (*destroy)(void* user);
} cgx_store_callbacks;
#define CGX_STORE_CALLBACKS_INIT {(uint32_t)sizeof(cgx_store_callbacks), NULL, NULL, NULL, NULL}

/* A framework's own store. The callbacks are called from the thread that creates, uses or destroys the
 * communicator, and from its worker thread after a failure. */
CGX_API cgx_status cgx_store_create(const cgx_store_callbacks* callbacks, cgx_store** store);
/* A directory that every rank sees, made if missing, one per job: leftovers of an earlier job in it are an error. */
CGX_API cgx_status cgx_store_create_file(const char* directory, cgx_store** store);
/* Rank 0 listens on host:port and serves the others, which retry for `timeout_ms`. The server lives as long as rank 0's store. */
CGX_API cgx_status cgx_store_create_tcp(const char* host, int port, int rank, int64_t timeout_ms, cgx_store** store);
/* The same, open to those only who prove `secret`, as in cgx_config; NULL: as cgx_store_create_tcp(), which takes that of
 * the environment. */
CGX_API cgx_status cgx_store_create_tcp_secret(const char* host, int port, int rank, int64_t timeout_ms, const char* secret,
                                               cgx_store** store);
/* The communicators made from a store must be destroyed before it. */
CGX_API void cgx_store_destroy(cgx_store* store);

/* ---- Communicators ----------------------------------------------------------------------------- */

typedef struct cgx_comm cgx_comm;

typedef struct cgx_config {
  uint32_t struct_size;
  int32_t rank; /* 0..size-1; -1: from the environment (see cgx_comm_create) */
  int32_t size; /* 1..16;     -1: from the environment */
  cgx_store* store;      /* NULL: from the environment. Must outlive the communicator */
  const char* job;       /* names this communicator in the store and in shared memory; every communicator
                            of a store needs its own. NULL: CGX_JOB, or "cgx" */
  const char* transport; /* "shm", "tcp", "mixed" (shm inside a host, tcp between), "gloo", "local" (ranks as threads), NULL
                            or "auto": shm when all ranks share a host, tcp when no two do, else mixed */
  const char* algorithm; /* "scatter_gather", "ring", "allgather", "tree", "hierarchical"; NULL or "auto": by specs, size, ranks and hosts */
  const char* interface_name; /* network interfaces of tcp, mixed and gloo: "eth,ib" begin so, "=eth0" exactly, "^docker,lo"
                                 all but those; NULL: CGX_SOCKET_IFNAME, else by the host's address */
  int64_t timeout_ms;    /* longest time without progress of a peer, in start-up and in collectives; 0: CGX_TIMEOUT_MS, else 300000 */
  uint64_t seed;         /* of the random bits; the same on all ranks */
  uint64_t slice_bytes;  /* of raw elements that are encoded and sent at a time; 0: the policy's choice, else 262144, and up to
                            1 MiB over sockets or with more ranks than cores */
  uint32_t threads;      /* that this rank's codecs use, the caller's included; 0: CGX_THREADS, else 1. No byte depends on
                            it. Slices of 1 MiB (slice_bytes) make more of it than the usual ones */
  uint32_t tune;         /* 1: measure at creation, as cgx_comm_tune() does; 0: CGX_TUNE, else not */
  const char* policy_file; /* a text of cgx_comm_policy(), used instead of measuring; NULL: CGX_POLICY_FILE, else none */
  const char* secret;    /* what all ranks know and nobody else, 16 bytes at least: they prove it to each other when they
                            connect, and sign what they leave in the store. NULL: CGX_SECRET, or the text of the file
                            CGX_SECRET_FILE, else none. Nothing is encrypted (docs/RELIABILITY.md) */
  const char* inner_codec; /* spec of messages inside a host, of the algorithm "hierarchical"; NULL: CGX_INNER_CODEC,
                              else "none". Segments that are uncompressed are so inside a host, too */
} cgx_config;
#define CGX_CONFIG_INIT {(uint32_t)sizeof(cgx_config), -1, -1, NULL, NULL, NULL, NULL, NULL, 0, 0, 0, 0, 0, NULL, NULL, NULL}

/* Meets the other ranks and connects to them. Collective: every rank calls it, with the same size, job, transport,
 * algorithm, seed, slice_bytes, tune, policy and inner_codec (differences are CGX_MISMATCH on all ranks that name both sides; ranks with
 * different jobs do not meet, which ends in CGX_TIMEOUT naming the ranks that did not come).
 * The environment gives, in this order: rank and size from CGX_RANK/CGX_SIZE, RANK/WORLD_SIZE (torchrun),
 * OMPI_COMM_WORLD_RANK/SIZE, PMI_RANK/SIZE, SLURM_PROCID/NTASKS; the store from CGX_STORE=file:DIR or
 * tcp:HOST:PORT, else from MASTER_ADDR and CGX_PORT (else MASTER_PORT + 1).
 * `config` may be NULL (all from the environment). */
CGX_API cgx_status cgx_comm_create(const cgx_config* config, cgx_comm** comm);
/* Waits for outstanding work (at most its timeout), disconnects, frees. Work handles of this
 * communicator must be destroyed before. */
CGX_API void cgx_comm_destroy(cgx_comm* comm);
/* Fails the communicator: running and queued work ends with CGX_ABORTED here and CGX_PEER_FAILED on the peers, and a
 * cgx_comm_shrink() that runs on it ends with CGX_ABORTED. Returns at once. Any thread. */
CGX_API cgx_status cgx_comm_abort(cgx_comm* comm, const char* reason);
/* Goes on without the ranks that died: `*shrunk` is a new communicator of the survivors, in the order of their old ranks.
 * Collective: every rank that lives calls it after a failure (a rank whose calls have not failed yet may: its
 * communicator fails then). All survivors get the same ranks, or an error. Ranks that are not known to be dead are waited
 * for `timeout_ms` (0: the communicator's), then left out: what they call later is CGX_PEER_FAILED, naming the
 * survivors. Connecting may take as long again; a rank that dies meanwhile is left out too. After another error it may be
 * called again.
 * Residuals are carried over as of this rank's last success; what the dead ranks had not yet sent is lost. A survivor may
 * have ended one collective more than another: compare cgx_stats.collectives before going on. Statistics begin
 * at zero; a policy given by `policy_file` is measured anew.
 * The survivors meet in the store. One that rank 0 serves (cgx_store_create_tcp, CGX_STORE=tcp, MASTER_ADDR) may have died
 * with it: then the lowest survivor serves a new one by itself. Where its host cannot be reached at all, that is
 * CGX_TIMEOUT, as it may live on behind a broken link.
 * `failed` must still be destroyed, after this call. A store given to it must outlive both. */
CGX_API cgx_status cgx_comm_shrink(cgx_comm* failed, int64_t timeout_ms, cgx_comm** shrunk);
CGX_API int cgx_comm_rank(const cgx_comm* comm);
CGX_API int cgx_comm_size(const cgx_comm* comm);
/* "shm", "tcp", "mixed", "gloo", "local". Static. */
CGX_API const char* cgx_comm_transport(const cgx_comm* comm);

/* Measures encoding and decoding of each codec and every pair's link, through the transport, in a quarter to half a second (at
 * 1 Gb/s and more); agrees on the slowest figures over all ranks; and chooses algorithm, slices and, where a spec is
 * "auto", the codec of every later collective by them. Collective: every rank calls it, between the same collectives.
 * Without this call (or `tune`, or a policy file) it happens by itself before the first collective with a codec "auto",
 * and then decides for those only. No work may be outstanding. */
CGX_API cgx_status cgx_comm_tune(cgx_comm* comm);
/* What was measured and what follows from it at some sizes, as JSON, for people and for `policy_file`. Copies the
 * text and its terminating 0 to `text` if they fit `capacity`, and sets `*bytes` to their size in any case; the text is
 * "" as long as nothing was measured. No work may be outstanding. */
CGX_API cgx_status cgx_comm_policy(const cgx_comm* comm, char* text, uint64_t capacity, uint64_t* bytes);

/* One span of a tensor and how it travels. */
typedef struct cgx_segment {
  uint64_t offset;         /* elements */
  uint64_t count;          /* elements, not 0 */
  const cgx_codec* codec;  /* NULL: uncompressed. Needed only during the call */
  uint32_t tensor_id;      /* keys random numbers and error feedback; distinct within a call; the same
                              for the same tensor in every step */
} cgx_segment;

typedef struct cgx_allreduce_args {
  uint32_t struct_size;
  const void* input;   /* count elements */
  void* output;        /* count elements; may equal input (in place), else must not overlap it */
  uint64_t count;      /* at most 2^36 */
  cgx_dtype dtype;
  cgx_op op;
  const cgx_codec* codec;        /* for the whole tensor, when segments is NULL; NULL: uncompressed */
  uint32_t tensor_id;            /* likewise */
  const cgx_segment* segments;   /* sorted, covering [0, count) without gap or overlap; or NULL */
  uint64_t segment_count;
  int64_t timeout_ms;            /* longest time without progress; 0: the communicator's */
} cgx_allreduce_args;
#define CGX_ALLREDUCE_ARGS_INIT {(uint32_t)sizeof(cgx_allreduce_args), NULL, NULL, 0, CGX_FLOAT32, CGX_SUM, NULL, 0, NULL, 0, 0}

/* Reduces over the ranks, by args->op. Every rank ends with the same bits. Collectives of one communicator run in the
 * order of the calls, which must be the same on all ranks: a different count, dtype, op, spec or order is
 * CGX_MISMATCH on all ranks, naming both sides. fp16 and bf16 are summed in fp32, integers (which wrap) and fp64 in
 * their own type. Codecs compress sums and averages of fp32, fp16 and bf16; whatever else comes with a codec goes
 * uncompressed, which is logged once and counted (elements_not_float, elements_not_sum). A NaN on any rank makes CGX_MIN
 * and CGX_MAX NaN; of zeros of both signs they give either.
 * After any error but CGX_INVALID_ARGUMENT and CGX_UNSUPPORTED (found before anything was sent) the
 * communicator is failed, `output` is undefined and residuals are those of the last success. */
CGX_API cgx_status cgx_allreduce(cgx_comm* comm, const cgx_allreduce_args* args);

/* ---- Asynchronous work ------------------------------------------------------------------------- */

typedef struct cgx_work cgx_work;
/* Called once, on the communicator's thread, when the work has ended (cgx_work_done() is 1 and waiters may have
 * returned already, so `user` must live until this call). It must not call this communicator. */
typedef void (*cgx_done_fn)(void* user, cgx_status status, const char* error);

/* Queues an allreduce and returns. input, output (not args, segments or codecs) must stay until the work has
 * ended. `done` may be NULL. `work` may be NULL if `done` is not. */
CGX_API cgx_status cgx_allreduce_async(cgx_comm* comm, const cgx_allreduce_args* args, cgx_done_fn done, void* user, cgx_work** work);
/* Waits up to `timeout_ms` (< 0: as long as it takes). CGX_TIMEOUT: it has not ended; it goes on. Else the work's own
 * status, its message in cgx_last_error(). Any thread. */
CGX_API cgx_status cgx_work_wait(cgx_work* work, int64_t timeout_ms);
/* 1 if it has ended, well or not. Any thread. */
CGX_API int cgx_work_done(const cgx_work* work);
/* Forgets the work, which goes on if it has not ended. */
CGX_API void cgx_work_destroy(cgx_work* work);

/* ---- Statistics and residuals ------------------------------------------------------------------ */

typedef struct cgx_stats {
  uint32_t struct_size;
  uint64_t collectives;          /* ended well */
  uint64_t failed;               /* ended with an error */
  uint64_t elements;             /* of all collectives */
  uint64_t elements_compressed;  /* in segments whose codec is not "none" and made them smaller */
  uint64_t elements_raw;         /* asked for uncompressed ("none", or no codec) */
  uint64_t elements_too_small;   /* in segments whose block would not have been smaller: sent raw */
  uint64_t elements_not_float;   /* integers and fp64: sent raw */
  uint64_t raw_bytes;            /* of the messages sent by this rank, had they been raw elements */
  uint64_t wire_bytes;           /* of the messages sent by this rank, as sent */
  uint64_t saturated;            /* finite values clipped to a codec's range */
  uint64_t non_finite;           /* NaN and Inf given in */
  double encode_seconds;
  double decode_seconds;         /* decoding and summing */
  double wait_seconds;           /* waiting for peers */
  uint64_t elements_not_sum;     /* a codec was asked for CGX_MIN, CGX_MAX or CGX_PROD: sent raw */
} cgx_stats;
#define CGX_STATS_INIT {(uint32_t)sizeof(cgx_stats), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.0, 0.0, 0.0, 0}

/* Totals since the communicator was made. The greeting of 256 bytes with which a collective begins, and which finds
 * calls that differ, is in none of them. Any thread. */
CGX_API cgx_status cgx_comm_stats(const cgx_comm* comm, cgx_stats* stats);
/* From now on counts and times are kept for each tensor, and every `every`-th collective of a layout measures, in a pass
 * of its own, what encoding lost; 0: no more. The default is CGX_STATS, else 0. Any thread. */
CGX_API cgx_status cgx_comm_observe(cgx_comm* comm, uint32_t every);
/* What became of each tensor (by its tensor_id) in this rank's collectives that ended well, as a JSON array of objects.
 * Of all collectives: codec, calls, elements (of one call), raw_bytes, wire_bytes, ratio. Of the `observed` ones: saturated,
 * non_finite, encode_seconds, decode_seconds, wait_seconds; and of the measured ones nmse and cosine of what this rank
 * sent of its own elements against them, over `compared` elements (null where nothing was measured; with error feedback
 * what is sent holds the residual too, and differs by it). residual_norm as cgx_comm_residual_norm(). The text is copied
 * as by cgx_comm_policy(). No work may be outstanding. */
CGX_API cgx_status cgx_comm_table(const cgx_comm* comm, char* text, uint64_t capacity, uint64_t* bytes);
/* Drops all residuals of error feedback (of all tensors). No work may be outstanding. */
CGX_API cgx_status cgx_comm_reset_residuals(cgx_comm* comm);
/* The L2 norm of a tensor's residual (contribution and owned sums together); 0 for an unknown tensor. No work may be
 * outstanding. */
CGX_API cgx_status cgx_comm_residual_norm(const cgx_comm* comm, uint32_t tensor_id, double* norm);

/* ---- Training state: what a restart needs besides the caller's own -------------------------------- */

/* A rank's part of what later results depend on: residuals, the counter and seed of the random bits, and the policy, if
 * one was measured or given. One versioned byte string (docs/WIRE.md), the same bytes for the same state. A run that is
 * started again with the same ranks, transport and algorithm and loads, on every rank, the state that this rank saved between the
 * same two collectives goes on bit for bit. No work may be outstanding in any of the three. Statistics are not part
 * of it. */

/* The bytes that cgx_comm_state_save() would write now: 4 an element with error feedback and 4 an element of its owned sums,
 * and some. */
CGX_API cgx_status cgx_comm_state_bytes(const cgx_comm* comm, uint64_t* bytes);
/* Writes the state to `state`, which holds `capacity` bytes, at least cgx_comm_state_bytes(). After a failure it is that of the
 * last collective that this rank ended well. */
CGX_API cgx_status cgx_comm_state_save(const cgx_comm* comm, void* state, uint64_t capacity);
/* Replaces this rank's state by `bytes` bytes of an earlier run's, copied. Local, but of use only where every rank does it: ranks
 * at different collectives are CGX_MISMATCH at the next. The seed becomes that of the state. Any bytes are safe, and after an
 * error the state is as before: CGX_CORRUPT where they are damaged or no state; CGX_UNSUPPORTED for another version of the format;
 * CGX_INVALID_ARGUMENT for another rank's, or another number of ranks (residuals belong to a rank's contributions
 * and to the sums it owns: start such a run without a state). */
CGX_API cgx_status cgx_comm_state_load(cgx_comm* comm, const void* state, uint64_t bytes);

#ifdef __cplusplus
}
#endif

#endif /* CGX_CGX_H_ */
