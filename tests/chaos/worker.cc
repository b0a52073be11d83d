// A rank for scripts/chaos: it sums tensors whose sums are known, says what it sees as JSON lines on its
// standard output (times on the monotonic clock, so that they compare between processes), and is killed,
// stopped and starved by the script. Made with the public C interface alone.
//
// Every codec is exact on these tensors: constant in spans, and every element and every sum is a power of
// two.
#include <cgx/cgx.h>
#include <dlfcn.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <iostream>
#include <mutex>
#include <random>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "lines.h"

namespace {

using chaos::now_us;
using chaos::Options;
using chaos::quoted;
using chaos::resources;
using chaos::say;
using chaos::with_error;

// Faults that are armed strike inside of the library only: what this program itself needs is not what is
// tested.
void let_fail(int on) {
  using Active = void (*)(int);
  static const auto active = reinterpret_cast<Active>(dlsym(RTLD_DEFAULT, "chaos_active"));
  if (active != nullptr) active(on);
}
template <typename Call>
cgx_status in_library(Call call) {
  let_fail(1);
  const cgx_status status = call();
  let_fail(0);
  return status;
}

struct Worker {
  explicit Worker(const Options& given) : o(given) {
    random.seed(static_cast<unsigned>(number("seed", 1) * 1000 + number("rank", 0)));
  }
  ~Worker() {
    cgx_comm_destroy(comm);
    cgx_store_destroy(store);
    cgx_codec_destroy(codec);
  }
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  const char* text(const char* key, const char* otherwise) const { return o.text(key, otherwise); }
  int64_t number(const char* key, int64_t otherwise) const { return o.number(key, otherwise); }
  bool odd(const char* kind, int64_t step) const {
    return text("odd", "") == std::string(kind) && step >= number("odd_at", 3);
  }

  cgx_status open_store(int rank) {
    if (store != nullptr) return CGX_OK;
    const std::string given = text("store", "");
    if (given.rfind("file:", 0) == 0) return cgx_store_create_file(given.substr(5).c_str(), &store);
    const size_t colon = given.rfind(':');
    return cgx_store_create_tcp(given.substr(4, colon - 4).c_str(), std::atoi(given.c_str() + colon + 1),
                                rank, number("timeout", 5000), &store);
  }

  cgx_status join(const std::string& job, int rank, int size) {
    if (codec == nullptr && std::string(text("codec", "none")) != "none") {
      if (const cgx_status status = cgx_codec_create(text("codec", ""), &codec); status != CGX_OK)
        return status;
    }
    if (const cgx_status status = open_store(rank); status != CGX_OK) return status;
    cgx_config config = CGX_CONFIG_INIT;
    config.rank = rank;
    config.size = odd("size", 1 << 30) ? size + 1 : size;
    config.store = store;
    config.job = job.c_str();
    config.transport = text("transport", "auto");
    config.algorithm = text("algorithm", "auto");
    config.interface_name = text("interface", nullptr);
    config.timeout_ms = number("meet", 60000);  // processes start late on a busy machine: no fault of cgx
    config.seed = odd("seed", 1 << 30) ? 8 : 7;
    config.slice_bytes = odd("slice", 1 << 30) ? 8192 : 16384;
    return in_library([&] { return cgx_comm_create(&config, &comm); });
  }

  float element(int rank, int64_t step, uint64_t i) const {
    return std::ldexp(1.0f,
                      std::max(0, rank - 1) + static_cast<int>(step % 5) + static_cast<int>((i / 4096) % 3));
  }
  float sum(int size, int64_t step, uint64_t i) const {
    return std::ldexp(1.0f, size - 1 + static_cast<int>(step % 5) + static_cast<int>((i / 4096) % 3));
  }

  // One collective, checked. A wrong result is said at once, and is what the script looks for first.
  cgx_status step_once(int64_t step) {
    const int rank = cgx_comm_rank(comm), size = cgx_comm_size(comm);
    const uint64_t count = static_cast<uint64_t>(number("count", 30000)) + (odd("count", step) ? 1 : 0);
    x.resize(count);
    y.assign(count, -1.0f);
    for (uint64_t i = 0; i < count; ++i) x[i] = element(rank, step, i);
    cgx_allreduce_args args = CGX_ALLREDUCE_ARGS_INIT;
    args.input = x.data();
    args.output = y.data();
    args.count = count;
    args.codec = codec;
    args.timeout_ms = number("timeout", 5000);
    args.tensor_id = static_cast<uint32_t>((odd("order", step) ? 10 : 8) + step % 2);
    if (odd("dtype", step)) args.dtype = CGX_INT32, args.codec = nullptr;
    if (odd("op", step)) args.op = CGX_AVG;
    if (odd("nocodec", step)) args.codec = nullptr;
    if (odd("behind", step) && step == number("odd_at", 3)) return CGX_OK;  // it leaves one out
    cgx_segment halves[2] = {{0, count / 2, codec, 1}, {count / 2, count - count / 2, codec, 2}};
    if (odd("segments", step)) {
      args.codec = nullptr;
      args.segments = halves;
      args.segment_count = 2;
    }
    const cgx_status status = in_library([&] { return cgx_allreduce(comm, &args); });
    if (status != CGX_OK) return status;
    if (odd("behind", step)) return CGX_OK;
    for (uint64_t i = 0; i < count; ++i) {
      if (y[i] != sum(size, step, i)) {
        say("wrong", ", \"step\": " + std::to_string(step) + ", \"element\": " + std::to_string(i) +
                         ", \"got\": " + std::to_string(y[i]) +
                         ", \"expected\": " + std::to_string(sum(size, step, i)));
        break;
      }
    }
    return CGX_OK;
  }

  // Steps until an error or `steps`. What follows an error must say CGX_FAILED.
  cgx_status steps_until_error(int64_t steps, int64_t* done) {
    for (*done = 0; steps == 0 || *done < steps; ++*done) {
      const cgx_status status = step_once(*done);
      if (status != CGX_OK) {
        say("error", with_error(status, *done) + ", \"size\": " + std::to_string(cgx_comm_size(comm)));
        const cgx_status after = step_once(0);
        say("after", with_error(after, *done));
        return status;
      }
      if (*done == 0) say("stepping", ", \"size\": " + std::to_string(cgx_comm_size(comm)));
      if (const int64_t every = number("say_every", 0); every > 0 && *done % every == 0) {
        say("alive", ", \"steps\": " + std::to_string(*done));
      }
      if (number("pause_us", 0) > 0) ::usleep(static_cast<useconds_t>(number("pause_us", 0)));
    }
    return CGX_OK;
  }

  cgx_status shrink() {
    cgx_comm* left = nullptr;
    const cgx_status status = cgx_comm_shrink(comm, number("timeout", 5000), &left);
    if (status == CGX_OK) {
      cgx_comm_destroy(comm);
      comm = left;
      say("shrunk", ", \"size\": " + std::to_string(cgx_comm_size(comm)) +
                        ", \"rank\": " + std::to_string(cgx_comm_rank(comm)));
    } else {
      say("noshrink", with_error(status, 0));
    }
    return status;
  }

  int train() {
    cgx_status status =
        join(text("job", "chaos"), static_cast<int>(number("rank", 0)), static_cast<int>(number("size", 1)));
    if (status != CGX_OK) {
      say("refused", with_error(status, 0));
      return 0;
    }
    say("ready");
    int64_t done = 0;
    while (steps_until_error(number("steps", 0), &done) != CGX_OK) {
      if (number("shrink", 0) == 0 || shrink() != CGX_OK) return 0;
    }
    say("end", ", \"steps\": " + std::to_string(done));
    return 0;
  }

  // What a collective, or a shrink, returns; where `mine`, under the other thread's abort. That goes on until
  // the end, as an abort before a shrink begins is none of the shrink.
  std::string abort_once(int64_t cycle, bool mine, bool in_shrink) {
    std::thread other;
    std::atomic<int64_t> aborted{0};
    std::atomic<bool> over{false};
    if (in_shrink) static_cast<void>(cgx_comm_abort(comm, "chaos"));
    if (mine) {
      const auto delay = std::uniform_int_distribution<useconds_t>(0, 6000)(random);
      other = std::thread([&, delay] {
        ::usleep(delay);
        aborted = now_us();
        do {
          static_cast<void>(cgx_comm_abort(comm, "chaos"));
          ::usleep(200);
        } while (in_shrink && !over);
      });
    }
    const int64_t began = now_us();
    cgx_status status = CGX_OK;
    cgx_comm* left = nullptr;
    if (in_shrink) status = cgx_comm_shrink(comm, 0, &left);
    for (int64_t step = 0; !in_shrink && status == CGX_OK; ++step) status = step_once(step);
    const int64_t returned = now_us();
    std::string words = with_error(status, cycle) + R"(, "of": ")" + (in_shrink ? "shrink" : "call") + '"';
    over = true;
    if (mine) other.join();
    if (mine && aborted < returned) {
      words += ", \"us\": " + std::to_string(returned - std::max<int64_t>(aborted, began));
    }
    cgx_comm_destroy(left);
    return words;
  }

  // Cycles of a communicator that one rank aborts from another thread at a random moment.
  int aborts() {
    const int rank = static_cast<int>(number("rank", 0)), size = static_cast<int>(number("size", 1));
    for (int64_t cycle = 0; cycle < number("cycles", 10); ++cycle) {
      if (const cgx_status status = join("abort-" + std::to_string(cycle), rank, size); status != CGX_OK) {
        say("refused", with_error(status, cycle));
        return 0;
      }
      const std::string words = abort_once(cycle, cycle % size == rank, cycle % 4 == 3);
      say("aborted", words + ", \"after\": \"" + std::string(cgx_status_name(step_once(0))) + "\"");
      cgx_comm_destroy(comm);
      comm = nullptr;
    }
    say("end", resources());
    return 0;
  }

  // Fault points: for each number k on standard input, rank 0's k-th allocation (or thread, or descriptor)
  // fails.
  int faults() {
    using Arm = void (*)(const char*, int64_t);
    using Fired = int (*)();
    const auto arm = reinterpret_cast<Arm>(dlsym(RTLD_DEFAULT, "chaos_arm"));
    const auto fired = reinterpret_cast<Fired>(dlsym(RTLD_DEFAULT, "chaos_fired"));
    const int rank = static_cast<int>(number("rank", 0)), size = static_cast<int>(number("size", 1));
    const std::string kind = text("fail", "malloc");
    for (int64_t k = 0; std::cin >> k;) {
      if (rank == 0 && kind == "descriptor") {
        limit_descriptors(k);
      } else if (rank == 0 && arm != nullptr) {
        arm(kind.c_str(), k);
      }
      int64_t done = 0;
      cgx_status status = join("fault-" + std::to_string(k), rank, size);
      for (; status == CGX_OK && done < number("steps", 3); ++done) status = step_async(done);
      const std::string words = with_error(status, done);
      let_fail(1);
      cgx_comm_destroy(comm);
      let_fail(0);
      comm = nullptr;
      const int was_fired = rank == 0 && fired != nullptr ? fired() : 0;
      if (rank == 0 && arm != nullptr) arm("", 0);
      if (rank == 0 && kind == "descriptor") limit_descriptors(-1);
      say("fault", words + ", \"k\": " + std::to_string(k) + ", \"fired\": " + std::to_string(was_fired));
    }
    say("end", resources());
    return 0;
  }

  cgx_status step_async(int64_t step) {
    if (step % 2 == 0) return step_once(step);
    x.assign(static_cast<size_t>(number("count", 30000)), 1.0f);
    cgx_allreduce_args args = CGX_ALLREDUCE_ARGS_INIT;
    args.input = args.output = x.data();
    args.count = x.size();
    args.codec = codec;
    args.timeout_ms = number("timeout", 5000);
    cgx_work* work = nullptr;
    const cgx_status status = in_library([&] {
      const cgx_status queued = cgx_allreduce_async(comm, &args, nullptr, nullptr, &work);
      return queued == CGX_OK ? cgx_work_wait(work, -1) : queued;
    });
    cgx_work_destroy(work);
    return status;
  }

  // So that `more` of them can be opened; -1: as many as at first.
  static void limit_descriptors(int64_t more) {
    static rlimit first = [] {
      rlimit limit = {};
      getrlimit(RLIMIT_NOFILE, &limit);
      return limit;
    }();
    rlimit limit = first;
    if (more >= 0) {
      int next = ::dup(0);
      ::close(next);
      limit.rlim_cur = static_cast<rlim_t>(next + more);
    }
    setrlimit(RLIMIT_NOFILE, &limit);
  }

  // Follows "join JOB RANK SIZE" on standard input; shrinks after failures; goes on for ever.
  int follow() {
    std::mutex mutex;
    std::deque<std::string> orders;
    std::thread([&] {
      for (std::string line; std::getline(std::cin, line);) {
        const std::lock_guard lock(mutex);
        orders.push_back(line);
      }
      ::_exit(0);
    }).detach();
    int64_t since_said = 0;
    for (int64_t step = 0;;) {
      std::string order;
      {
        const std::lock_guard lock(mutex);
        if (!orders.empty()) order = orders.back();
        orders.clear();
      }
      if (!order.empty()) {
        std::istringstream words(order);
        std::string verb, job;
        int rank = 0, size = 1;
        words >> verb >> job >> rank >> size;
        if (comm != nullptr) static_cast<void>(cgx_comm_abort(comm, "a new communicator is made"));
        cgx_comm_destroy(comm);
        comm = nullptr;
        const cgx_status status = join(job, rank, size);
        say(status == CGX_OK ? "joined" : "refused", with_error(status, 0) + ", \"job\": " + quoted(job));
        step = 0;
      }
      if (comm == nullptr) {
        ::usleep(2000);
        continue;
      }
      const cgx_status status = step_once(step++);
      if (status == CGX_OK) {
        if (now_us() - since_said > 100000) {
          since_said = now_us();
          say("alive", ", \"size\": " + std::to_string(cgx_comm_size(comm)) + resources());
        }
        continue;
      }
      say("error", with_error(status, step));
      step = 0;
      if (shrink() != CGX_OK) {
        cgx_comm_destroy(comm);
        comm = nullptr;
      }
    }
  }

  const Options& o;
  std::mt19937 random;
  cgx_store* store = nullptr;
  cgx_codec* codec = nullptr;
  cgx_comm* comm = nullptr;
  std::vector<float> x, y;
};

}  // namespace

int main(int argc, char** argv) {
  const Options options(argc, argv);
  Worker worker(options);
  const std::string mode = worker.text("mode", "train");
  say("begun");
  if (mode == "train") return worker.train();
  if (mode == "abort") return worker.aborts();
  if (mode == "faults") return worker.faults();
  if (mode == "follow") return worker.follow();
  std::fprintf(stderr, "mode %s: expected train, abort, faults or follow\n", mode.c_str());
  return 2;
}
