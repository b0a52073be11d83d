#include "plan/reduce.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "base/half.h"

namespace cgx {

namespace {

// A tile of sums lies on the stack and in L1: out may then be any of the inputs.
constexpr size_t kTile = 2048;

struct Fp16 {
  uint16_t bits;
};
struct Bf16 {
  uint16_t bits;
};

// What elements of T are summed in.
template <typename T>
struct SumOf {
  using Type = T;
};
template <>
struct SumOf<Fp16> {
  using Type = float;
};
template <>
struct SumOf<Bf16> {
  using Type = float;
};
template <typename T>
using Sum = typename SumOf<T>::Type;

template <typename T>
T widen(T x) {
  return x;
}
inline float widen(Fp16 x) { return f16_to_f32(x.bits); }
inline float widen(Bf16 x) { return bf16_to_f32(x.bits); }

inline void narrow(float sum, Fp16& out) { out.bits = f32_to_f16(sum); }
inline void narrow(float sum, Bf16& out) { out.bits = f32_to_bf16(sum); }

// Signed overflow is undefined, so integers are added and multiplied unsigned.
template <typename A>
A wrapping(A a, A b, auto op) {
  if constexpr (std::is_integral_v<A>) {
    return static_cast<A>(op(static_cast<uint64_t>(a), static_cast<uint64_t>(b)));
  } else {
    return op(a, b);
  }
}

template <ReduceOp kOp, typename A>
A combine(A a, A b) {
  if constexpr (kOp == ReduceOp::kSum) return wrapping(a, b, [](auto p, auto q) { return p + q; });
  if constexpr (kOp == ReduceOp::kProd) return wrapping(a, b, [](auto p, auto q) { return p * q; });
  if constexpr (kOp == ReduceOp::kMin) return b < a || b != b ? b : a;
  if constexpr (kOp == ReduceOp::kMax) return a < b || b != b ? b : a;
}

template <typename T>
void write_tile(const RawSum& sum, size_t begin, const T* made, size_t count) {
  sum.write_out(static_cast<T*>(sum.out) + begin, made, count * sizeof(T));
  if (sum.copy != nullptr) sum.write_copy(static_cast<T*>(sum.copy) + begin, made, count * sizeof(T));
}

template <typename T, ReduceOp kOp>
void reduce_tile(const RawSum& sum, size_t begin, size_t count) {
  using A = Sum<T>;
  alignas(64) A acc[kTile];
  const auto input = [&](size_t k) { return static_cast<const T*>(sum.inputs[k]) + begin; };
  const T* first = input(0);
  if (sum.inputs.size() == 1) {
    for (size_t i = 0; i < count; ++i) acc[i] = widen(first[i]);
  } else {
    const T* second = input(1);
    for (size_t i = 0; i < count; ++i) acc[i] = combine<kOp, A>(widen(first[i]), widen(second[i]));
  }
  for (size_t k = 2; k < sum.inputs.size(); ++k) {
    const T* next = input(k);
    for (size_t i = 0; i < count; ++i) acc[i] = combine<kOp, A>(acc[i], widen(next[i]));
  }
  if constexpr (std::is_floating_point_v<A>) {
    const A scale = static_cast<A>(sum.scale);
    if (sum.scale != 1) {
      for (size_t i = 0; i < count; ++i) acc[i] *= scale;
    }
  }
  if constexpr (std::is_same_v<T, A>) {
    write_tile(sum, begin, acc, count);
  } else {
    alignas(64) T made[kTile];
    for (size_t i = 0; i < count; ++i) narrow(acc[i], made[i]);
    write_tile(sum, begin, made, count);
  }
}

template <typename T, ReduceOp kOp>
void reduce_all(const RawSum& sum, size_t count) {
  for (size_t begin = 0; begin < count; begin += kTile) {
    reduce_tile<T, kOp>(sum, begin, std::min(kTile, count - begin));
  }
}

template <typename T>
void reduce_as(const RawSum& sum, size_t count) {
  switch (sum.op) {
    case ReduceOp::kSum:
      return reduce_all<T, ReduceOp::kSum>(sum, count);
    case ReduceOp::kMin:
      return reduce_all<T, ReduceOp::kMin>(sum, count);
    case ReduceOp::kMax:
      return reduce_all<T, ReduceOp::kMax>(sum, count);
    case ReduceOp::kProd:
      return reduce_all<T, ReduceOp::kProd>(sum, count);
  }
}

}  // namespace

void reduce_raw(const RawSum& sum, size_t count) {
  switch (sum.dtype) {
    case DType::kF32:
      return reduce_as<float>(sum, count);
    case DType::kF16:
      return reduce_as<Fp16>(sum, count);
    case DType::kBF16:
      return reduce_as<Bf16>(sum, count);
    case DType::kF64:
      return reduce_as<double>(sum, count);
    case DType::kI8:
      return reduce_as<int8_t>(sum, count);
    case DType::kU8:
      return reduce_as<uint8_t>(sum, count);
    case DType::kI16:
      return reduce_as<int16_t>(sum, count);
    case DType::kI32:
      return reduce_as<int32_t>(sum, count);
    case DType::kI64:
      return reduce_as<int64_t>(sum, count);
  }
}

void add_to(float* __restrict acc, const float* __restrict in, size_t count) {
  for (size_t i = 0; i < count; ++i) acc[i] += in[i];
}

void scale_by(float* acc, float scale, size_t count) {
  for (size_t i = 0; i < count; ++i) acc[i] *= scale;
}

void store_rounded(DType dtype, const float* from, size_t count, void* out) {
  if (dtype == DType::kF32) {
    if (from != out) std::memcpy(out, from, count * sizeof(float));
    return;
  }
  uint16_t* half = static_cast<uint16_t*>(out);
  if (dtype == DType::kF16) {
    for (size_t i = 0; i < count; ++i) half[i] = f32_to_f16(from[i]);
  } else {
    for (size_t i = 0; i < count; ++i) half[i] = f32_to_bf16(from[i]);
  }
}

}  // namespace cgx
