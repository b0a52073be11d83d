// cgx in C++17: the C interface as owning classes. Header only; link libcgx.so.
//
//   cgx::Communicator comm(cgx::Communicator::Options{});             // all from the environment
//   comm.allreduce(gradients, count, cgx::Codec("maxmin:bits=4"));    // in place, averaged
//
// Failures are thrown as cgx::Error, which carries the status and the sentence of cgx_last_error().
// Objects may be moved, not copied. Thread-safety, units and errors are those of the C functions in
// cgx.h unless said otherwise.
#ifndef CGX_CGX_HPP_
#define CGX_CGX_HPP_

#include <cgx/cgx.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace cgx {

// What went wrong: status() says of which kind, what() says it in a sentence.
class Error : public std::runtime_error {
 public:
  Error(cgx_status status, const std::string& message) : std::runtime_error(message), status_(status) {}
  cgx_status status() const noexcept { return status_; }

 private:
  cgx_status status_;
};

namespace detail {

inline void check(cgx_status status) {
  if (status != CGX_OK) throw Error(status, cgx_last_error());
}

struct Deleter {
  void operator()(cgx_codec* p) const { cgx_codec_destroy(p); }
  void operator()(cgx_store* p) const { cgx_store_destroy(p); }
  void operator()(cgx_comm* p) const { cgx_comm_destroy(p); }
  void operator()(cgx_work* p) const { cgx_work_destroy(p); }
};

template <typename T>
using Handle = std::unique_ptr<T, Deleter>;

}  // namespace detail

// The element type of a C++ type: float, double and integers. fp16 and bf16 have no C++17 type: give
// CGX_FLOAT16 or CGX_BFLOAT16 with a void pointer.
template <typename T>
constexpr cgx_dtype dtype_of();
template <>
constexpr cgx_dtype dtype_of<float>() {
  return CGX_FLOAT32;
}
template <>
constexpr cgx_dtype dtype_of<double>() {
  return CGX_FLOAT64;
}
template <>
constexpr cgx_dtype dtype_of<int8_t>() {
  return CGX_INT8;
}
template <>
constexpr cgx_dtype dtype_of<uint8_t>() {
  return CGX_UINT8;
}
template <>
constexpr cgx_dtype dtype_of<int16_t>() {
  return CGX_INT16;
}
template <>
constexpr cgx_dtype dtype_of<int32_t>() {
  return CGX_INT32;
}
template <>
constexpr cgx_dtype dtype_of<int64_t>() {
  return CGX_INT64;
}

// Version of the library that is loaded, "0.1.0".
inline std::string version() { return cgx_version_string(); }
// JSON arrays that describe what there is: see cgx_codec_list() and cgx_algorithm_list().
inline std::string codec_list() { return cgx_codec_list(); }
inline std::string algorithm_list() { return cgx_algorithm_list(); }

// A codec made from a spec, "maxmin:bits=4,bucket=512". Immutable; const functions from any thread.
class Codec {
 public:
  // Throws CGX_INVALID_ARGUMENT naming the codec, the parameter, its value and its range.
  explicit Codec(const std::string& spec) {
    cgx_codec* made = nullptr;
    detail::check(cgx_codec_create(spec.c_str(), &made));
    handle_.reset(made);
  }

  // The canonical spec, every parameter spelled out.
  std::string spec() const { return cgx_codec_spec(get()); }
  // True if decoding gives the input on average over seeds.
  bool unbiased() const { return cgx_codec_unbiased(get()) != 0; }

  // Bytes of an encoding of `count` elements: a pure function, never above the elements themselves.
  uint64_t encoded_bytes(uint64_t count, cgx_dtype dtype = CGX_FLOAT32) const {
    uint64_t bytes = 0;
    detail::check(cgx_codec_encoded_bytes(get(), dtype, count, &bytes));
    return bytes;
  }

  // Encodes `count` elements at `x`. Equal keys give equal bytes on every machine.
  std::vector<uint8_t> encode(const void* x, uint64_t count, cgx_dtype dtype = CGX_FLOAT32,
                              const cgx_random_key& key = cgx_random_key{0, 0, 0, 0}) const {
    std::vector<uint8_t> block(encoded_bytes(count, dtype));
    detail::check(cgx_codec_encode(get(), dtype, x, count, &key, block.data(), block.size()));
    return block;
  }

  // Encodes x + residual; `residual` becomes what the block lost of it.
  std::vector<uint8_t> encode_feedback(const void* x, std::vector<float>& residual,
                                       cgx_dtype dtype = CGX_FLOAT32,
                                       const cgx_random_key& key = cgx_random_key{0, 0, 0, 0}) const {
    std::vector<uint8_t> block(encoded_bytes(residual.size(), dtype));
    detail::check(cgx_codec_encode_feedback(get(), dtype, x, residual.size(), &key, residual.data(),
                                            block.data(), block.size()));
    return block;
  }

  // Decodes a block of `count` elements of `dtype` to fp32. Throws CGX_CORRUPT for bytes that no
  // encoder can have written.
  std::vector<float> decode(const std::vector<uint8_t>& block, uint64_t count,
                            cgx_dtype dtype = CGX_FLOAT32) const {
    std::vector<float> out(count);
    detail::check(cgx_codec_decode(get(), dtype, block.data(), block.size(), count, out.data()));
    return out;
  }

  // Decodes a block of out.size() elements of `dtype`, and adds them to `out`.
  void decode_add(const std::vector<uint8_t>& block, std::vector<float>& out,
                  cgx_dtype dtype = CGX_FLOAT32) const {
    detail::check(cgx_codec_decode_add(get(), dtype, block.data(), block.size(), out.size(), out.data()));
  }

  const cgx_codec* get() const noexcept { return handle_.get(); }

 private:
  detail::Handle<cgx_codec> handle_;
};

// A key-value store where ranks meet. Must outlive the communicators made from it.
class Store {
 public:
  // A framework's own store. Called from the threads that create, use and destroy communicators.
  class Custom {
   public:
    Custom() = default;
    Custom(const Custom&) = delete;
    Custom& operator=(const Custom&) = delete;
    virtual ~Custom() = default;
    // Stores the value; throws on failure.
    virtual void set(const std::string& key, const std::string& value) = 0;
    // Waits up to `timeout_ms` (0: not at all) until the key is set. False: it was not. Throws on failure.
    virtual bool get(const std::string& key, int64_t timeout_ms, std::string* value) = 0;
  };

  // A directory that every rank sees, one per job.
  static Store file(const std::string& directory) {
    cgx_store* made = nullptr;
    detail::check(cgx_store_create_file(directory.c_str(), &made));
    return Store(made);
  }

  // Rank 0 listens on host:port and serves the others, which retry for `timeout`.
  static Store tcp(const std::string& host, int port, int rank, std::chrono::milliseconds timeout) {
    cgx_store* made = nullptr;
    detail::check(cgx_store_create_tcp(host.c_str(), port, rank, timeout.count(), &made));
    return Store(made);
  }

  // Takes over `custom`, which must not be null.
  static Store custom(std::unique_ptr<Custom> custom) {
    cgx_store_callbacks callbacks = CGX_STORE_CALLBACKS_INIT;
    callbacks.user = custom.get();
    callbacks.set = &Store::call_set;
    callbacks.get = &Store::call_get;
    callbacks.destroy = [](void* user) { delete static_cast<Custom*>(user); };
    cgx_store* made = nullptr;
    detail::check(cgx_store_create(&callbacks, &made));
    static_cast<void>(custom.release());  // the store deletes it
    return Store(made);
  }

  cgx_store* get() const noexcept { return handle_.get(); }

 private:
  explicit Store(cgx_store* made) : handle_(made) {}

  // No exception may cross the C interface.
  static int call_set(void* user, const char* key, const void* value, uint64_t bytes) {
    try {
      static_cast<Custom*>(user)->set(key, std::string(static_cast<const char*>(value), bytes));
      return 0;
    } catch (...) {
      return 2;
    }
  }
  static int call_get(void* user, const char* key, int64_t timeout_ms, void* value, uint64_t capacity,
                      uint64_t* bytes) {
    try {
      std::string found;
      if (!static_cast<Custom*>(user)->get(key, timeout_ms, &found)) return 1;
      *bytes = found.size();
      if (found.size() <= capacity && !found.empty()) std::memcpy(value, found.data(), found.size());
      return 0;
    } catch (...) {
      return 2;
    }
  }

  detail::Handle<cgx_store> handle_;
};

// One span of a tensor and how it travels; `codec` (null: uncompressed) is needed only during the call.
struct Segment {
  uint64_t offset = 0;
  uint64_t count = 0;
  const Codec* codec = nullptr;
  uint32_t tensor_id = 0;
};

// An asynchronous operation. Destroying it forgets the operation, which goes on.
class Work {
 public:
  explicit Work(cgx_work* work) : handle_(work) {}
  // Waits until it has ended; throws its error.
  void wait() { detail::check(cgx_work_wait(handle_.get(), -1)); }
  // The same, for at most `timeout`. False: it has not ended.
  bool wait_for(std::chrono::milliseconds timeout) {
    const cgx_status status = cgx_work_wait(handle_.get(), timeout.count() < 0 ? 0 : timeout.count());
    if (status == CGX_TIMEOUT && !done()) return false;
    detail::check(status);
    return true;
  }
  // True if it has ended, well or not. Any thread.
  bool done() const { return cgx_work_done(handle_.get()) != 0; }

 private:
  detail::Handle<cgx_work> handle_;
};

// A group of ranks that sum tensors together.
class Communicator {
 public:
  // As cgx_config: what is left alone comes from the environment, or is the default said there.
  struct Options {
    int rank = -1;
    int size = -1;
    const Store* store = nullptr;
    std::string job;
    std::string transport;
    std::string algorithm;
    std::string interface_name;
    std::chrono::milliseconds timeout{0};
    uint64_t seed = 0;
    uint64_t slice_bytes = 0;
    uint32_t threads = 0;
    bool tune = false;
    std::string policy_file;
    std::string secret;
    std::string inner_codec;
  };

  // One allreduce: `input` null means in place.
  struct Args {
    const void* input = nullptr;
    void* output = nullptr;
    uint64_t count = 0;
    cgx_dtype dtype = CGX_FLOAT32;
    cgx_op op = CGX_SUM;
    const Codec* codec = nullptr;   // for the whole tensor, when there are no segments; null: uncompressed
    uint32_t tensor_id = 0;         // likewise
    std::vector<Segment> segments;  // sorted, covering [0, count)
    std::chrono::milliseconds timeout{0};  // without progress; 0: the communicator's
  };

  // Called once with CGX_OK and "" or the error, on the communicator's thread. Must not throw, nor call
  // this communicator.
  using Done = std::function<void(cgx_status, const std::string&)>;

  // Collective: meets the other ranks.
  explicit Communicator(const Options& options) {
    cgx_config config = CGX_CONFIG_INIT;
    config.rank = options.rank;
    config.size = options.size;
    config.store = options.store != nullptr ? options.store->get() : nullptr;
    config.job = text(options.job);
    config.transport = text(options.transport);
    config.algorithm = text(options.algorithm);
    config.interface_name = text(options.interface_name);
    config.timeout_ms = options.timeout.count();
    config.seed = options.seed;
    config.slice_bytes = options.slice_bytes;
    config.threads = options.threads;
    config.tune = options.tune ? 1 : 0;
    config.policy_file = text(options.policy_file);
    config.secret = text(options.secret);
    config.inner_codec = text(options.inner_codec);
    cgx_comm* made = nullptr;
    detail::check(cgx_comm_create(&config, &made));
    handle_.reset(made);
  }

  int rank() const { return cgx_comm_rank(get()); }
  int size() const { return cgx_comm_size(get()); }
  // "shm", "tcp", "mixed", "gloo" or "local".
  std::string transport() const { return cgx_comm_transport(get()); }

  // Measures codecs and links and lets the result decide from now on. Collective.
  void tune() { detail::check(cgx_comm_tune(get())); }
  // What was measured and follows from it, as JSON; "" as long as nothing was.
  std::string policy() const {
    uint64_t bytes = 0;
    detail::check(cgx_comm_policy(get(), nullptr, 0, &bytes));
    std::vector<char> text(bytes);
    detail::check(cgx_comm_policy(get(), text.data(), text.size(), &bytes));
    return text.data();
  }
  // See cgx_comm_observe() and cgx_comm_table().
  void observe(uint32_t every) { detail::check(cgx_comm_observe(get(), every)); }
  std::string table() const {
    uint64_t bytes = 0;
    detail::check(cgx_comm_table(get(), nullptr, 0, &bytes));
    std::vector<char> text(bytes);
    detail::check(cgx_comm_table(get(), text.data(), text.size(), &bytes));
    return text.data();
  }

  void allreduce(const Args& args) {
    std::vector<cgx_segment> segments;
    const cgx_allreduce_args c = to_c(args, &segments);
    detail::check(cgx_allreduce(get(), &c));
  }

  // Averages `count` elements in place.
  template <typename T>
  void allreduce(T* x, uint64_t count, const Codec& codec, uint32_t tensor_id = 0) {
    Args args;
    args.output = x;
    args.count = count;
    args.dtype = dtype_of<T>();
    args.op = CGX_AVG;
    args.codec = &codec;
    args.tensor_id = tensor_id;
    allreduce(args);
  }

  // Queues it; input and output must stay until it has ended. `done` may be empty.
  Work allreduce_async(const Args& args, Done done = nullptr) {
    std::vector<cgx_segment> segments;
    const cgx_allreduce_args c = to_c(args, &segments);
    cgx_work* work = nullptr;
    if (!done) {
      detail::check(cgx_allreduce_async(get(), &c, nullptr, nullptr, &work));
      return Work(work);
    }
    auto kept = std::make_unique<Done>(std::move(done));
    detail::check(cgx_allreduce_async(get(), &c, &Communicator::call_done, kept.get(), &work));
    static_cast<void>(kept.release());  // call_done deletes it
    return Work(work);
  }

  // Fails the communicator on all ranks. Any thread.
  void abort(const std::string& reason) { detail::check(cgx_comm_abort(get(), reason.c_str())); }

  // After a failure: a communicator of the ranks that live, in their old order. Every one of them calls it.
  // This one stays failed.
  Communicator shrink(std::chrono::milliseconds timeout = {}) {
    cgx_comm* made = nullptr;
    detail::check(cgx_comm_shrink(get(), timeout.count(), &made));
    return Communicator(made);
  }

  // Totals since the communicator was made. Any thread.
  cgx_stats stats() const {
    cgx_stats stats = CGX_STATS_INIT;
    detail::check(cgx_comm_stats(get(), &stats));
    return stats;
  }
  // Drops all residuals of error feedback.
  void reset_residuals() { detail::check(cgx_comm_reset_residuals(get())); }
  // L2 norm of a tensor's residual.
  double residual_norm(uint32_t tensor_id) const {
    double norm = 0;
    detail::check(cgx_comm_residual_norm(get(), tensor_id, &norm));
    return norm;
  }

  // This rank's residuals, random counter and policy, for a run that is started again: cgx_comm_state_save().
  std::vector<uint8_t> save_state() const {
    uint64_t bytes = 0;
    detail::check(cgx_comm_state_bytes(get(), &bytes));
    std::vector<uint8_t> state(bytes);
    detail::check(cgx_comm_state_save(get(), state.data(), state.size()));
    return state;
  }
  // Throws for bytes that are damaged, or another rank's; the state is as before then.
  void load_state(const std::vector<uint8_t>& state) {
    detail::check(cgx_comm_state_load(get(), state.data(), state.size()));
  }

  cgx_comm* get() const noexcept { return handle_.get(); }

 private:
  explicit Communicator(cgx_comm* made) : handle_(made) {}

  static const char* text(const std::string& s) { return s.empty() ? nullptr : s.c_str(); }

  static cgx_allreduce_args to_c(const Args& args, std::vector<cgx_segment>* segments) {
    for (const Segment& s : args.segments) {
      segments->push_back({s.offset, s.count, s.codec != nullptr ? s.codec->get() : nullptr, s.tensor_id});
    }
    cgx_allreduce_args c = CGX_ALLREDUCE_ARGS_INIT;
    c.input = args.input != nullptr ? args.input : args.output;
    c.output = args.output;
    c.count = args.count;
    c.dtype = args.dtype;
    c.op = args.op;
    c.codec = args.codec != nullptr ? args.codec->get() : nullptr;
    c.tensor_id = args.tensor_id;
    c.segments = segments->empty() ? nullptr : segments->data();
    c.segment_count = segments->size();
    c.timeout_ms = args.timeout.count();
    return c;
  }

  static void call_done(void* user, cgx_status status, const char* error) {
    const std::unique_ptr<Done> done(static_cast<Done*>(user));
    (*done)(status, error);
  }

  detail::Handle<cgx_comm> handle_;
};

}  // namespace cgx

#endif  // CGX_CGX_HPP_
