// Two layers with a codec each in one asynchronous allreduce. Start one process a rank:
//
//   CGX_SIZE=2 CGX_RANK=0 CGX_STORE=file:/tmp/job ./allreduce_cc &
//   CGX_SIZE=2 CGX_RANK=1 CGX_STORE=file:/tmp/job ./allreduce_cc
#include <cgx/cgx.hpp>
#include <cmath>
#include <cstdio>

int main() try {
  constexpr uint64_t kWeights = 100000;
  constexpr uint64_t kBiases = 100;
  cgx::Communicator comm{cgx::Communicator::Options{}};  // all from the environment

  const cgx::Codec codec("natural");
  std::vector<float> gradients(kWeights + kBiases);
  for (size_t i = 0; i < gradients.size(); ++i) {
    gradients[i] = std::sin(static_cast<float>(i)) * static_cast<float>(comm.rank() + 1);
  }

  cgx::Communicator::Args args;
  args.output = gradients.data();
  args.count = gradients.size();
  args.op = CGX_AVG;
  args.segments = {{0, kWeights, &codec, 0}, {kWeights, kBiases, nullptr, 1}};  // biases stay exact
  cgx::Work work = comm.allreduce_async(args);
  work.wait();

  // Natural compression rounds to a neighbouring power of two: each of the two roundings is off by less
  // than the value itself, so a result is below 4 times the exact one and never of the other sign.
  bool ok = true;
  for (size_t i = 0; i < gradients.size(); ++i) {
    const float exact = std::sin(static_cast<float>(i)) * static_cast<float>(comm.size() + 1) / 2;
    const bool within = i < kWeights
                            ? gradients[i] * exact >= 0 && std::abs(gradients[i]) <= 4 * std::abs(exact)
                            : std::abs(gradients[i] - exact) <= 1e-5f * std::abs(exact);
    ok = ok && within;
  }
  const cgx_stats stats = comm.stats();
  std::printf("rank %d of %d over %s: %llu elements compressed, %llu left alone: %s\n", comm.rank(),
              comm.size(), comm.transport().c_str(),
              static_cast<unsigned long long>(stats.elements_compressed),
              static_cast<unsigned long long>(stats.elements_raw), ok ? "ok" : "WRONG");
  return ok ? 0 : 1;
} catch (const cgx::Error& error) {
  std::fprintf(stderr, "%s: %s\n", cgx_status_name(error.status()), error.what());
  return 1;
}
