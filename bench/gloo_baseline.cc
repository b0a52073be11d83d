// Gloo as users have it: its ring allreduce over its TCP transport, full mesh, ranks meeting in a directory,
// of any type that Gloo has. And the same behind a 16-bit hook, as PyTorch's fp16_compress_hook does it, but
// with every loop vectorised.
#include <fmt/format.h>

#include "contender.h"
#include "launcher.h"

#if CGX_BENCH_HAVE_GLOO

#include <gloo/allreduce.h>
#include <gloo/math.h>
#include <gloo/rendezvous/context.h>
#include <gloo/rendezvous/file_store.h>
#include <gloo/rendezvous/prefix_store.h>
#include <gloo/transport/tcp/device.h>

#include <immintrin.h>

#include <filesystem>
#include <type_traits>
#include <vector>

namespace cgx::bench {
namespace {

// F16C, which every CPU with AVX2 has.
__attribute__((target("avx2,f16c"))) void to_halves(const float* in, uint16_t* out, size_t count) {
  size_t e = 0;
  for (; e + 8 <= count; e += 8) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + e),
                     _mm256_cvtps_ph(_mm256_loadu_ps(in + e), _MM_FROUND_TO_NEAREST_INT));
  }
  for (; e < count; ++e) out[e] = _cvtss_sh(in[e], _MM_FROUND_TO_NEAREST_INT);
}

__attribute__((target("avx2,f16c"))) void from_halves(const uint16_t* in, float* out, size_t count) {
  size_t e = 0;
  for (; e + 8 <= count; e += 8) {
    _mm256_storeu_ps(out + e, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(in + e))));
  }
  for (; e < count; ++e) out[e] = _cvtsh_ss(in[e]);
}

__attribute__((target("avx2,f16c"))) void add_halves(void* out, const void* a, const void* b, size_t count) {
  const auto* x = static_cast<const uint16_t*>(a);
  const auto* y = static_cast<const uint16_t*>(b);
  auto* sum = static_cast<uint16_t*>(out);
  size_t e = 0;
  for (; e + 8 <= count; e += 8) {
    const __m256 left = _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x + e)));
    const __m256 right = _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(y + e)));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(sum + e),
                     _mm256_cvtps_ph(_mm256_add_ps(left, right), _MM_FROUND_TO_NEAREST_INT));
  }
  for (; e < count; ++e) sum[e] = _cvtss_sh(_cvtsh_ss(x[e]) + _cvtsh_ss(y[e]), _MM_FROUND_TO_NEAREST_INT);
}

using Function = gloo::AllreduceOptions::Func;

template <typename T>
Function function_of(cgx_op op) {
  using Plain = void (*)(void*, const void*, const void*, size_t);
  switch (op) {
    case CGX_PROD:
      return static_cast<Plain>(&gloo::product<T>);
    case CGX_MIN:
      return static_cast<Plain>(&gloo::min<T>);
    case CGX_MAX:
      return static_cast<Plain>(&gloo::max<T>);
    default:
      return static_cast<Plain>(&gloo::sum<T>);
  }
}

// A pass of its own, as frameworks over Gloo do it.
template <typename T>
void divide(T* values, uint64_t count, int by) {
  if constexpr (std::is_floating_point_v<T>) {
    const T scale = 1 / static_cast<T>(by);
    for (uint64_t e = 0; e < count; ++e) values[e] *= scale;
  } else if constexpr (std::is_same_v<T, gloo::float16>) {
    const float scale = 1.0f / static_cast<float>(by);
    for (uint64_t e = 0; e < count; ++e) {
      values[e] = gloo::cpu_float2half_rn(gloo::cpu_half2float(values[e]) * scale);
    }
  }
}

class GlooContender final : public Contender {
 public:
  GlooContender(const Options& options, int number, bool halves)
      : ranks_(options.ranks), dtype_(options.dtype), op_(options.op), halves_(halves) {
    if (halves && !__builtin_cpu_supports("avx2")) {
      throw UsageError("--baseline gloo16: this CPU has no AVX2");
    }
    const std::string directory = fmt::format("{}/gloo-{}", options.meeting_directory, number);
    std::filesystem::create_directories(directory);
    gloo::transport::tcp::attr attributes;
    const std::string& named = options.interface_name;
    attributes.iface = named.empty() ? variable("GLOO_SOCKET_IFNAME") : named;  // "": by the host's name
    try {
      std::shared_ptr<gloo::transport::Device> device = gloo::transport::tcp::CreateDevice(attributes);
      gloo::rendezvous::FileStore store(directory);
      auto context = std::make_shared<gloo::rendezvous::Context>(options.rank, options.ranks);
      context->setTimeout(std::chrono::milliseconds(options.timeout_ms));
      context->connectFullMesh(store, device);
      context_ = context;
    } catch (const std::exception& error) {
      throw BenchError(fmt::format("gloo on interface \"{}\": {}", attributes.iface, error.what()));
    }
  }

  void allreduce(const void* in, void* out, uint64_t count) override {
    if (halves_) {
      float* values = static_cast<float*>(out);
      half_values_.resize(count);
      to_halves(static_cast<const float*>(in), half_values_.data(), count);
      ring(half_values_.data(), half_values_.data(), count, &add_halves);
      from_halves(half_values_.data(), values, count);
      if (op_ == CGX_AVG) divide(values, count, ranks_);
      return;
    }
    switch (dtype_) {
      case CGX_FLOAT32:
        return reduce<float>(in, out, count);
      case CGX_FLOAT64:
        return reduce<double>(in, out, count);
      case CGX_FLOAT16:
        return reduce<gloo::float16>(in, out, count);
      case CGX_INT8:
        return reduce<int8_t>(in, out, count);
      case CGX_UINT8:
        return reduce<uint8_t>(in, out, count);
      case CGX_INT16:
        return reduce<int16_t>(in, out, count);
      case CGX_INT32:
        return reduce<int32_t>(in, out, count);
      case CGX_INT64:
        return reduce<int64_t>(in, out, count);
      default:
        throw BenchError("gloo has no such element type");
    }
  }

  Traffic traffic() const override { return {bytes_, halves_ ? 2 * bytes_ : bytes_}; }
  void forget() override {}
  std::string spec() const override { return halves_ ? "cast:fp16" : "none"; }
  std::string transport() const override { return "gloo"; }
  bool unbiased() const override { return true; }

 private:
  template <typename Element>
  void reduce(const void* in, void* out, uint64_t count) {
    auto* values = static_cast<Element*>(out);
    ring(static_cast<Element*>(const_cast<void*>(in)), values, count, function_of<Element>(op_));
    if (op_ == CGX_AVG) divide(values, count, ranks_);
  }

  template <typename Element>
  void ring(Element* in, Element* out, uint64_t count, Function function) {
    gloo::AllreduceOptions call(context_);
    call.setAlgorithm(gloo::AllreduceOptions::Algorithm::RING);
    if (in != out) call.setInput(in, count);
    call.setOutput(out, count);
    call.setReduceFunction(std::move(function));
    try {
      gloo::allreduce(call);
    } catch (const std::exception& error) {
      throw BenchError(fmt::format("gloo: {}", error.what()));
    }
    // It sends 2 (n-1)/n of the tensor.
    bytes_ += 2 * static_cast<uint64_t>(ranks_ - 1) * count * sizeof(Element) / static_cast<uint64_t>(ranks_);
  }

  int ranks_;
  cgx_dtype dtype_;
  cgx_op op_;
  bool halves_;
  std::vector<uint16_t> half_values_;
  uint64_t bytes_ = 0;
  std::shared_ptr<gloo::Context> context_;
};

}  // namespace

std::unique_ptr<Contender> make_gloo(const Options& options, int number, bool halves) {
  return std::make_unique<GlooContender>(options, number, halves);
}

}  // namespace cgx::bench

#else

namespace cgx::bench {

std::unique_ptr<Contender> make_gloo(const Options&, int, bool) {
  throw UsageError("--baseline gloo: this cgx-bench was built without Gloo (Debian: libgloo-dev)");
}

}  // namespace cgx::bench

#endif
