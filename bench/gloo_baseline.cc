// Gloo as users have it: its ring allreduce over its TCP transport, full mesh, ranks meeting in a directory.
#include <fmt/format.h>

#include "contender.h"

#if CGX_BENCH_HAVE_GLOO

#include <gloo/allreduce.h>
#include <gloo/math.h>
#include <gloo/rendezvous/context.h>
#include <gloo/rendezvous/file_store.h>
#include <gloo/rendezvous/prefix_store.h>
#include <gloo/transport/tcp/device.h>

#include <filesystem>

namespace cgx::bench {
namespace {

class GlooContender final : public Contender {
 public:
  GlooContender(const Options& options, int number) : ranks_(options.ranks), average_(options.op == CGX_AVG) {
    if (options.dtype != CGX_FLOAT32) throw UsageError("--baseline gloo: only with --datatype float");
    const std::string directory = fmt::format("{}/gloo-{}", options.meeting_directory, number);
    std::filesystem::create_directories(directory);
    gloo::transport::tcp::attr attributes;
    attributes.iface = options.interface_name;
    try {
      std::shared_ptr<gloo::transport::Device> device = gloo::transport::tcp::CreateDevice(attributes);
      gloo::rendezvous::FileStore store(directory);
      auto context = std::make_shared<gloo::rendezvous::Context>(options.rank, options.ranks);
      context->setTimeout(std::chrono::milliseconds(options.timeout_ms));
      context->connectFullMesh(store, device);
      context_ = context;
    } catch (const std::exception& error) {
      throw BenchError(fmt::format("gloo on interface {}: {}", options.interface_name, error.what()));
    }
  }

  void allreduce(const void* in, void* out, uint64_t count) override {
    gloo::AllreduceOptions call(context_);
    call.setAlgorithm(gloo::AllreduceOptions::Algorithm::RING);
    call.setInput(const_cast<float*>(static_cast<const float*>(in)), count);
    call.setOutput(static_cast<float*>(out), count);
    call.setReduceFunction(static_cast<void (*)(void*, const void*, const void*, size_t)>(&gloo::sum<float>));
    try {
      gloo::allreduce(call);
    } catch (const std::exception& error) {
      throw BenchError(fmt::format("gloo: {}", error.what()));
    }
    if (average_) {  // a pass of its own, as frameworks over Gloo do it
      float* values = static_cast<float*>(out);
      const float scale = 1.0f / static_cast<float>(ranks_);
      for (uint64_t e = 0; e < count; ++e) values[e] *= scale;
    }
    // A ring sends 2 (n-1)/n of the tensor.
    bytes_ += 2 * static_cast<uint64_t>(ranks_ - 1) * count * sizeof(float) / static_cast<uint64_t>(ranks_);
  }

  Traffic traffic() const override { return {bytes_, bytes_}; }
  void forget() override {}
  std::string spec() const override { return "none"; }
  std::string transport() const override { return "gloo"; }
  bool unbiased() const override { return true; }

 private:
  int ranks_;
  bool average_;
  uint64_t bytes_ = 0;
  std::shared_ptr<gloo::Context> context_;
};

}  // namespace

std::unique_ptr<Contender> make_gloo(const Options& options, int number) {
  return std::make_unique<GlooContender>(options, number);
}

}  // namespace cgx::bench

#else

namespace cgx::bench {

std::unique_ptr<Contender> make_gloo(const Options&, int) {
  throw UsageError("--baseline gloo: this cgx-bench was built without Gloo (Debian: libgloo-dev)");
}

}  // namespace cgx::bench

#endif
