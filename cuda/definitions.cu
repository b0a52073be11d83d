// Every dense codec's definition as device code: one thread a bucket or a group, in the order of the
// definition and with no care for speed. They prove that the definitions are host/device, and are
// what fast kernels are compared with.
#include "definitions.h"

#include "codec/codec_list.h"
#include "codec/wire.h"

namespace cgx::cuda {
namespace {

constexpr unsigned kThreads = 128;

struct Job {
  const float* x;
  size_t count;
  RandomKey key;
  uint64_t first;
  uint8_t* out;
};

// The code of element i in a packed group of m, ored into zeroed bytes or read from them.
__device__ void put_code(uint8_t* group, uint32_t m, uint32_t bits, uint32_t i, uint32_t code) {
  uint32_t low = 0;
  for (uint32_t width = 8; width != 0; width /= 2) {
    if ((bits & width) == 0) continue;
    const uint32_t bytes = static_cast<uint32_t>(plane_bytes(m, width));
    group[i % bytes] |= static_cast<uint8_t>(((code >> low) & ((1u << width) - 1)) << (i / bytes * width));
    group += bytes;
    low += width;
  }
}

__device__ uint32_t get_code(const uint8_t* group, uint32_t m, uint32_t bits, uint32_t i) {
  uint32_t code = 0;
  uint32_t low = 0;
  for (uint32_t width = 8; width != 0; width /= 2) {
    if ((bits & width) == 0) continue;
    const uint32_t bytes = static_cast<uint32_t>(plane_bytes(m, width));
    code |= ((static_cast<uint32_t>(group[i % bytes]) >> (i / bytes * width)) & ((1u << width) - 1)) << low;
    group += bytes;
    low += width;
  }
  return code;
}

template <typename Fold>
__device__ auto fold_bucket(const float* x, uint64_t n) {
  if constexpr (Fold::kAnyOrder) {
    auto state = Fold::identity();
    for (uint64_t i = 0; i < n; ++i) state = Fold::merge(state, Fold::lift(x[i]));
    return Fold::finish(state);
  } else {
    typename Fold::State partial[Fold::kPartials];
    for (auto& p : partial) p = Fold::identity();
    for (uint64_t i = 0; i < n; ++i) {
      auto& p = partial[i % Fold::kPartials];
      p = Fold::merge(p, Fold::lift(x[i]));
    }
    for (uint32_t half = Fold::kPartials / 2; half != 0; half /= 2) {
      for (uint32_t j = 0; j < half; ++j) partial[j] = Fold::merge(partial[j], partial[j + half]);
    }
    return Fold::finish(partial[0]);
  }
}

// One thread a unit.
template <typename C, typename Fold>
__global__ void encode_bucketed(Job job, UnitLayout layout, typename C::Params params, bool random) {
  const uint64_t unit = layout.elements();
  const uint64_t u = blockIdx.x * static_cast<uint64_t>(blockDim.x) + threadIdx.x;
  if (u * unit >= job.count) return;
  const uint64_t m = job.count - u * unit < unit ? job.count - u * unit : unit;
  const float* x = job.x + u * unit;
  uint8_t* out = job.out + u * layout.bytes(unit);
  for (size_t b = layout.group(m, 0); b < layout.bytes(m); ++b) out[b] = 0;
  for (uint64_t j = 0; j < layout.buckets(m); ++j) {
    const uint64_t begin = j * layout.bucket;
    const uint64_t end = begin + layout.bucket < m ? begin + layout.bucket : m;
    const typename C::Meta meta = C::meta(fold_bucket<Fold>(x + begin, end - begin), params);
    wire_store(out + layout.meta(j), meta);
    if (!C::is_finite(meta)) continue;
    const auto coder = C::coder(meta, params);
    for (uint64_t i = begin; i < end; ++i) {
      const uint32_t draw = random ? random_draw(job.key, job.first + u * unit + i) : 0x80000000u;
      const uint64_t group = i / kGroup * kGroup;
      const uint32_t n = static_cast<uint32_t>(m - group < kGroup ? m - group : kGroup);
      put_code(out + layout.group(m, i / kGroup), n, layout.bits, static_cast<uint32_t>(i - group),
               C::encode(x[i], coder, draw));
    }
  }
}

template <typename C>
__global__ void decode_bucketed(const uint8_t* in, size_t count, UnitLayout layout, typename C::Params params,
                                float* out) {
  const uint64_t i = blockIdx.x * static_cast<uint64_t>(blockDim.x) + threadIdx.x;
  if (i >= count) return;
  const uint64_t unit = layout.elements();
  const uint64_t at = i / unit * unit;
  const uint64_t m = count - at < unit ? count - at : unit;
  const uint8_t* block = in + i / unit * layout.bytes(unit);
  const auto meta = wire_load<typename C::Meta>(block + layout.meta((i - at) / layout.bucket));
  const uint64_t group = (i - at) / kGroup;
  const uint32_t n = static_cast<uint32_t>(m - group * kGroup < kGroup ? m - group * kGroup : kGroup);
  const uint32_t code =
      get_code(block + layout.group(m, group), n, layout.bits, static_cast<uint32_t>((i - at) % kGroup));
  out[i] = C::is_finite(meta) ? C::decode(code, C::decoder(meta, params)) : bits_float(0x7fc00000u);
}

template <typename C>
__device__ void put_element(uint8_t* group, uint32_t n, uint32_t i, typename C::Code code) {
  if constexpr (C::kCodeBits == 9) {
    const uint8_t sign = static_cast<uint8_t>((code >> 8) << (i % 8));
    group[i / 8] = static_cast<uint8_t>(i % 8 == 0 ? sign : group[i / 8] | sign);
    group[natural_exponents(n) + i] = static_cast<uint8_t>(code);
  } else {
    wire_store(group + i * sizeof(code), code);
  }
}

template <typename C>
__device__ typename C::Code get_element(const uint8_t* group, uint32_t n, uint32_t i) {
  if constexpr (C::kCodeBits == 9) {
    const uint32_t sign = (static_cast<uint32_t>(group[i / 8]) >> (i % 8)) & 1u;
    return static_cast<typename C::Code>(group[natural_exponents(n) + i] | (sign << 8));
  } else {
    return wire_load<typename C::Code>(group + i * sizeof(typename C::Code));
  }
}

// One thread a group.
template <typename C>
__global__ void encode_elementwise(Job job, typename C::Coder coder, size_t group_bytes) {
  const uint64_t g = blockIdx.x * static_cast<uint64_t>(blockDim.x) + threadIdx.x;
  if (g * kGroup >= job.count) return;
  const uint64_t left = job.count - g * kGroup;
  const uint32_t n = static_cast<uint32_t>(left < kGroup ? left : kGroup);
  for (uint32_t i = 0; i < n; ++i) {
    const uint64_t at = g * kGroup + i;
    const uint32_t draw = C::kRandom ? random_draw(job.key, job.first + at) : 0;
    put_element<C>(job.out + g * group_bytes, n, i,
                   static_cast<typename C::Code>(C::encode(job.x[at], coder, draw)));
  }
}

template <typename C>
__global__ void decode_elementwise(const uint8_t* in, size_t count, typename C::Coder coder,
                                   size_t group_bytes, float* out) {
  const uint64_t g = blockIdx.x * static_cast<uint64_t>(blockDim.x) + threadIdx.x;
  if (g * kGroup >= count) return;
  const uint64_t left = count - g * kGroup;
  const uint32_t n = static_cast<uint32_t>(left < kGroup ? left : kGroup);
  for (uint32_t i = 0; i < n; ++i) {
    out[g * kGroup + i] = C::decode(uint32_t{get_element<C>(in + g * group_bytes, n, i)}, coder);
  }
}

unsigned blocks_for(uint64_t threads) { return static_cast<unsigned>((threads + kThreads - 1) / kThreads); }

template <typename C, typename Fold>
void launch_bucketed(const ValueSpec& spec, const Job& job) {
  const UnitLayout layout = C::layout(spec, job.count);
  const uint64_t units = (job.count + layout.elements() - 1) / layout.elements();
  encode_bucketed<C, Fold><<<blocks_for(units), kThreads>>>(job, layout, C::params(spec), C::is_random(spec));
}

template <typename C>
void launch_encode(const ValueSpec& spec, const Job& job) {
  if constexpr (requires { typename C::Fold; }) {
    launch_bucketed<C, typename C::Fold>(spec, job);
  } else if constexpr (requires { typename C::Meta; }) {
    if (spec.norm == Norm::kInf) launch_bucketed<C, NormFold<Norm::kInf>>(spec, job);
    if (spec.norm == Norm::kL1) launch_bucketed<C, NormFold<Norm::kL1>>(spec, job);
    if (spec.norm == Norm::kL2) launch_bucketed<C, NormFold<Norm::kL2>>(spec, job);
  } else if constexpr (requires { typename C::Code; }) {
    encode_elementwise<C><<<blocks_for((job.count + kGroup - 1) / kGroup), kThreads>>>(
        job, C::coder(spec), C::unit_bytes(spec, kGroup));
  }
}

template <typename C>
void launch_decode(const ValueSpec& spec, const uint8_t* in, size_t count, float* out) {
  if constexpr (requires { typename C::Meta; }) {
    decode_bucketed<C>
        <<<blocks_for(count), kThreads>>>(in, count, C::layout(spec, count), C::params(spec), out);
  } else if constexpr (requires { typename C::Code; }) {
    decode_elementwise<C><<<blocks_for((count + kGroup - 1) / kGroup), kThreads>>>(
        in, count, C::coder(spec), C::unit_bytes(spec, kGroup), out);
  }
}

template <typename... C>
void encode_listed(CodecList<C...>, const ValueSpec& spec, const Job& job) {
  ((C::kKind == spec.kind ? launch_encode<C>(spec, job) : void()), ...);
}

template <typename... C>
void decode_listed(CodecList<C...>, const ValueSpec& spec, const uint8_t* in, size_t count, float* out) {
  ((C::kKind == spec.kind ? launch_decode<C>(spec, in, count, out) : void()), ...);
}

}  // namespace

int encode_units(const ValueSpec& spec, const float* x, size_t count, const RandomKey& key, uint64_t first,
                 uint8_t* out) {
  encode_listed(DenseCodecs{}, spec, {x, count, key, first, out});
  return cudaGetLastError();
}

int decode_units(const ValueSpec& spec, const uint8_t* in, size_t count, float* out) {
  decode_listed(DenseCodecs{}, spec, in, count, out);
  return cudaGetLastError();
}

}  // namespace cgx::cuda
