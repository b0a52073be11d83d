// An hour's ordinary life, for scripts/chaos: ranks make communicators, sum tensors of all kinds in them,
// end them in good order or by an abort and a shrink, and say how much memory and how many descriptors they
// hold. Nothing fails here: what grows is a leak.
//
// In each communicator all ranks draw the same random numbers, so they agree on what comes next.
#include <malloc.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <filesystem>
#include <random>
#include <vector>

#include "lines.h"

namespace {

using chaos::now_us;
using chaos::Options;
using chaos::resources;
using chaos::say;
using chaos::with_error;

const char* const kCodecs[] = {"none",
                               "cast:bf16",
                               "maxmin:bits=4,bucket=512",
                               "maxmin:bits=2,bucket=64+ef",
                               "natural",
                               "dither:bits=4",
                               "natdither:bits=4",
                               "topk:ratio=0.01+ef",
                               "randk:ratio=0.01"};
const char* const kAlgorithms[] = {"auto", "scatter_gather", "ring", "allgather", "tree", "hierarchical"};

class Soak {
 public:
  explicit Soak(const Options& o)
      : o_(o), rank_(static_cast<int>(o.number("rank", 0))), size_(static_cast<int>(o.number("size", 2))) {}

  int run() {
    const int64_t until = now_us() + o_.number("seconds", 60) * 1000000;
    int64_t said = 0;
    for (bool over = false; !over; ++communicators_) {
      if (const cgx_status status = cycle(until, &over); status != CGX_OK) {
        say("error", with_error(status, operations_));
        return 1;
      }
      if (over || now_us() - said > 10 * 1000000) {
        said = now_us();
        ::malloc_trim(0);  // what the allocator keeps goes up and down by megabytes
        say("soaked", ", \"operations\": " + std::to_string(operations_) +
                          ", \"communicators\": " + std::to_string(communicators_) + resources());
      }
    }
    say("end", resources());
    return 0;
  }

 private:
  void draw_anew() { random_.seed(static_cast<unsigned>(o_.number("seed", 1) * 1000003 + communicators_)); }
  int drawn(int below) { return std::uniform_int_distribution<int>(0, below - 1)(random_); }

  // One communicator's life, with a store and codecs of its own.
  cgx_status cycle(int64_t until, bool* over) {
    draw_anew();
    const std::string here =
        std::string(o_.text("store", "file:") + 5) + "/" + std::to_string(communicators_);
    cgx_store* store = nullptr;
    cgx_comm* comm = nullptr;
    cgx_status status = cgx_store_create_file(here.c_str(), &store);
    if (status == CGX_OK) status = join(store, &comm);
    const int operations = 20 + drawn(200);
    const bool shrinks = drawn(4) == 0;
    const bool aborts = shrinks && drawn(size_) == rank_;
    // Where another one will abort, this rank goes on until it hears of that.
    for (int i = 0; status == CGX_OK && (i < operations || (shrinks && !aborts)); ++i) status = one(comm);
    if (shrinks && (status == CGX_OK || status == CGX_PEER_FAILED)) status = shrink(aborts, &comm);
    if (status == CGX_OK) status = vote(comm, now_us() > until, over);
    cgx_comm_destroy(comm);
    cgx_store_destroy(store);
    // All ranks voted in this cycle, so they have left the one before it.
    if (rank_ == 0 && !before_.empty()) std::filesystem::remove_all(before_);
    before_ = here;
    return status;
  }

  cgx_status join(cgx_store* store, cgx_comm** comm) {
    const std::string job = "soak-" + std::to_string(communicators_);
    cgx_config config = CGX_CONFIG_INIT;
    config.rank = rank_;
    config.size = size_;
    config.store = store;
    config.job = job.c_str();
    config.transport = drawn(2) == 0 ? "shm" : "tcp";
    config.algorithm = kAlgorithms[drawn(std::size(kAlgorithms))];
    config.interface_name = "lo";
    config.timeout_ms = 60000;
    config.threads = static_cast<uint32_t>(1 + drawn(2));
    return cgx_comm_create(&config, comm);
  }

  // A tensor of all ones, so that what is not sparse has a sum that is known.
  cgx_status one(cgx_comm* comm) {
    const char* spec = kCodecs[drawn(std::size(kCodecs))];
    const bool raw = drawn(4) == 0;
    const bool is_int = raw && drawn(2) == 0;
    const bool sparse = !raw && std::string(spec).find("k:") != std::string::npos;
    const uint64_t count = uint64_t{1} << drawn(18);
    const bool async = drawn(2) == 0;
    cgx_codec* codec = nullptr;
    if (const cgx_status made = cgx_codec_create(spec, &codec); made != CGX_OK) return made;
    floats_.assign(is_int ? 0 : count, 1.0f);
    ints_.assign(is_int ? count : 0, 1);
    void* const x = is_int ? static_cast<void*>(ints_.data()) : floats_.data();
    cgx_allreduce_args args = CGX_ALLREDUCE_ARGS_INIT;
    args.input = args.output = x;
    args.count = count;
    args.dtype = is_int ? CGX_INT32 : CGX_FLOAT32;
    args.codec = raw ? nullptr : codec;
    args.tensor_id = static_cast<uint32_t>(drawn(8)) * 100 + static_cast<uint32_t>(std::log2(count));
    cgx_status status = async ? in_background(comm, &args) : cgx_allreduce(comm, &args);
    cgx_codec_destroy(codec);
    ++operations_;
    if (const int64_t pause = o_.number("pause_us", 0); pause > 0) ::usleep(static_cast<useconds_t>(pause));
    const double got = is_int ? ints_[count / 2] : static_cast<double>(floats_[count / 2]);
    const bool right =
        sparse || std::string(spec).find("+ef") != std::string::npos ? std::isfinite(got) : got == size_;
    if (status == CGX_OK && !right) {
      say("wrong", ", \"codec\": \"" + std::string(spec) + "\", \"got\": " + std::to_string(got));
    }
    return status;
  }

  static cgx_status in_background(cgx_comm* comm, const cgx_allreduce_args* args) {
    cgx_work* work = nullptr;
    cgx_status status = cgx_allreduce_async(comm, args, nullptr, nullptr, &work);
    if (status == CGX_OK) status = cgx_work_wait(work, -1);
    cgx_work_destroy(work);
    return status;
  }

  cgx_status shrink(bool aborts, cgx_comm** comm) {
    if (aborts) static_cast<void>(cgx_comm_abort(*comm, "a part of the soak"));
    cgx_comm* left = nullptr;
    const cgx_status status = cgx_comm_shrink(*comm, 0, &left);
    if (status != CGX_OK) return status;
    cgx_comm_destroy(*comm);
    *comm = left;
    ++communicators_;
    draw_anew();
    return one(*comm);
  }

  // All end together.
  static cgx_status vote(cgx_comm* comm, bool mine, bool* over) {
    int32_t x = mine ? 1 : 0;
    cgx_allreduce_args args = CGX_ALLREDUCE_ARGS_INIT;
    args.input = args.output = &x;
    args.count = 1;
    args.dtype = CGX_INT32;
    args.op = CGX_MAX;
    const cgx_status status = cgx_allreduce(comm, &args);
    *over = x != 0;
    return status;
  }

  const Options& o_;
  const int rank_, size_;
  std::mt19937 random_;
  int64_t communicators_ = 0, operations_ = 0;
  std::string before_;  // the store's directory in the cycle before
  std::vector<float> floats_;
  std::vector<int32_t> ints_;
};

}  // namespace

int main(int argc, char** argv) {
  const Options options(argc, argv);
  say("begun");
  return Soak(options).run();
}
