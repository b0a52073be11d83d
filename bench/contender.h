// What is timed: something that allreduces, and counts what it sent.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "model.h"
#include "options.h"
#include "team.h"

namespace cgx::bench {

struct Traffic {
  uint64_t wire_bytes = 0;
  uint64_t raw_bytes = 0;  // the same messages uncompressed
};

class Guest;

class Contender {
 public:
  virtual ~Contender() = default;
  virtual void allreduce(const void* in, void* out, uint64_t count) = 0;
  // The same as one call for several layers. Who has no codec makes no difference.
  virtual void allreduce_layers(const void* in, void* out, uint64_t count, std::span<const Layer> layers) {
    (void)layers;
    allreduce(in, out, count);
  }
  // After calls, outside of their time: does what they left undone, so that no rank waits for it.
  virtual void settle() {}
  // Of this rank, since the start.
  virtual Traffic traffic() const = 0;
  // Drops what earlier operations left: before another size, and before a result is checked.
  virtual void forget() = 0;
  virtual std::string spec() const = 0;  // canonical, of its codec
  virtual std::string transport() const = 0;
  virtual bool unbiased() const = 0;
  virtual bool is_foreign() const { return true; }  // sums in an order of its own
  virtual std::string version() const { return ""; }
  // Where it is one that does its calls in another process, and times them there.
  virtual Guest* guest() { return nullptr; }
};

struct CodecDeleter {
  void operator()(cgx_codec* codec) const { cgx_codec_destroy(codec); }
};
using CodecPtr = std::unique_ptr<cgx_codec, CodecDeleter>;
CodecPtr make_codec(const std::string& spec);  // throws UsageError
void require_ok(cgx_status status, const std::string& what);

// Gloo's own ring on the same interface, of the tensor's type or of halves that a hook rounds floats to.
// Throws UsageError where cgx-bench was built without Gloo.
std::unique_ptr<Contender> make_gloo(const Options& options, int number, bool halves);

// Open MPI's MPI_Allreduce, in a process that mpirun started.
std::unique_ptr<Contender> make_openmpi(const Options& options, const std::string& method);
// Every rank copies the tensor once, all at the same time: what no allreduce in shared memory can beat.
std::unique_ptr<Contender> make_copy(const Options& options);

enum class Kind { kCgx, kGloo, kGloo16, kOpenMpi, kTorch, kTorchHook, kCopy };

// A line of the table: what the user asked for, baselines first.
struct Entry {
  std::string name;  // unique: "gloo", "gloo (2)", "maxmin:bits=4"
  std::string spec;  // of the codec; "none" for those that have none
  Kind kind = Kind::kCgx;
  bool is_baseline = false;
  bool call_a_layer = false;         // in mode layers; else a call is a bucket
  std::string method;                // of a baseline: its name as given
  std::string transport, algorithm;  // of cgx
  uint32_t threads = 0;              // of cgx; 0: as CGX_THREADS says
};
// A codec may come with a way of its own: "maxmin:bits=4@transport=gloo,algorithm=ring,threads=2". Throws
// UsageError.
std::vector<Entry> entries(const Options& options);
// `number` tells the communicators of a job apart.
std::unique_ptr<Contender> make_cgx(const Options& options, const Entry& entry, int number, const Team& team);
// Baselines that need what this machine or this way of starting ranks lacks: puts them in options.skipped,
// and tells why.
nlohmann::json skip_missing(Options& options, const Team* world);
// Not a 16-bit ring, whose every hop rounds, nor a codec that the library chooses, nor PyTorch's hooks.
bool declares_bound(const Entry& entry);

}  // namespace cgx::bench
