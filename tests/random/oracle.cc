// See oracle.h.
//
// The interval. Let one rounding move an element by at most rel times the largest magnitude of its segment.
// An element of the result has at most 2 n roundings behind it (ring and tree n, hierarchical n inner ones
// and those between hosts), each of a partial sum whose magnitude is at most S + e, with S the sum over ranks
// of the largest magnitudes and e what was lost so far. So e grows by rel (S + e) each time. Sums in fp32 add
// 2^-24 of S + e for each rank, and halves are rounded at each hop.
#include "random/oracle.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/half.h"

namespace cgx::random {
namespace {

template <typename T>
T get(const uint8_t* bytes, uint64_t at) {
  T value;
  std::memcpy(&value, bytes + at * sizeof(T), sizeof(T));
  return value;
}

double value_at(DType dtype, const uint8_t* bytes, uint64_t at) {
  switch (dtype) {
    case DType::kF32:
      return get<float>(bytes, at);
    case DType::kF16:
      return f16_to_f32(get<uint16_t>(bytes, at));
    case DType::kBF16:
      return bf16_to_f32(get<uint16_t>(bytes, at));
    case DType::kF64:
      return get<double>(bytes, at);
    case DType::kI8:
      return get<int8_t>(bytes, at);
    case DType::kU8:
      return get<uint8_t>(bytes, at);
    case DType::kI16:
      return get<int16_t>(bytes, at);
    case DType::kI32:
      return get<int32_t>(bytes, at);
    case DType::kI64:
      return static_cast<double>(get<int64_t>(bytes, at));
  }
  return 0;
}

double precision(DType dtype) {
  return dtype == DType::kF16    ? 0x1p-11
         : dtype == DType::kBF16 ? 0x1p-8
         : dtype == DType::kF64  ? 0x1p-53
                                 : 0x1p-24;
}

double values_rel(const ValueSpec& v, uint64_t count) {
  const double bucket = static_cast<double>(v.bucket == 0 ? count : v.bucket);
  const double norm = v.norm == Norm::kL1 ? bucket : v.norm == Norm::kL2 ? std::sqrt(bucket) : 1;
  switch (v.kind) {
    case CodecKind::kNone:
      return 0;
    case CodecKind::kCast:
      return v.half == HalfType::kFp16 ? 0x1p-11 : 0x1p-8;
    case CodecKind::kMaxMin:
      return 2.0 / (std::exp2(v.bits) - 1);
    case CodecKind::kDither:
      return norm / v.levels;
    case CodecKind::kNatDither:
      return 1 + norm * std::exp2(1 - static_cast<double>(v.levels));
    default:  // to a neighbouring power of two
      return 1;
  }
}

double rel_of(const CodecSpec& spec, uint64_t count) {
  const double values = values_rel(spec.values, count);
  if (spec.kind == CodecKind::kTopK) return 1 + values;
  if (spec.kind == CodecKind::kRandK) return (1 / spec.ratio + 2) * (1 + values);
  return values;
}

// Sums are exact in int64, minima and maxima and small products too; 8 and 16 bits wrap as the type does.
double exact(const Case& one, const std::vector<std::vector<uint8_t>>& inputs, uint64_t i) {
  double all = value_at(one.dtype, inputs[0].data(), i);
  for (size_t r = 1; r < inputs.size(); ++r) {
    const double next = value_at(one.dtype, inputs[r].data(), i);
    if (one.op == ReduceOp::kSum) all += next;
    if (one.op == ReduceOp::kMin) all = std::min(all, next);
    if (one.op == ReduceOp::kMax) all = std::max(all, next);
    if (one.op == ReduceOp::kProd) all *= next;
  }
  if (one.dtype == DType::kI8) return static_cast<int8_t>(static_cast<int64_t>(all));
  if (one.dtype == DType::kU8) return static_cast<uint8_t>(static_cast<int64_t>(all));
  return one.average ? all / static_cast<double>(inputs.size()) : all;
}

bool is_lossy(const CodecSpec& spec, const Case& one) {
  return spec.kind != CodecKind::kNone && is_encodable(one.dtype) && one.op == ReduceOp::kSum;
}

// How far an element of a segment may be off.
double allowed(const World& world, const Case& one, const Segment& segment,
               const std::vector<std::vector<uint8_t>>& inputs) {
  double largest = 0;
  for (const auto& input : inputs) {
    double most = 0;
    for (uint64_t i = segment.offset; i < segment.offset + segment.count; ++i) {
      most = std::max(most, std::abs(value_at(one.dtype, input.data(), i)));
    }
    largest += most;
  }
  double rel = rel_of(is_lossy(segment.spec, one) ? segment.spec : CodecSpec(), segment.count);
  if (is_lossy(segment.spec, one) && !world.inner_codec.empty()) {
    rel = std::max(rel, rel_of(*parse_spec(world.inner_codec), segment.count));
  }
  const int n = world.size;
  double off = 0;
  for (int rounding = 0; rounding < 2 * n; ++rounding) {
    off += (rel + precision(one.dtype) + 2 * 0x1p-24) * (largest + off);
  }
  return (one.average ? off / n : off) + 1e-7 * precision(one.dtype);
}

}  // namespace

std::string judge(const World& world, const Case& one, const std::vector<std::vector<uint8_t>>& inputs,
                  const uint8_t* result) {
  if (one.elements == Elements::kSpecial) return {};
  for (const Segment& segment : one.segments) {
    const bool lossy = is_lossy(segment.spec, one);
    if (segment.spec.error_feedback && lossy) continue;  // it may hold what an earlier one lost
    const bool whole = one.elements == Elements::kExact && !one.average;
    const bool same = !lossy && (whole || one.op == ReduceOp::kMin || one.op == ReduceOp::kMax);
    // Products of normal elements lie anywhere near 0; each multiplication rounds.
    const double off = same ? 0 : allowed(world, one, segment, inputs);
    if (one.dtype == DType::kF16 && off > 30000) continue;  // partial sums may leave fp16's range
    for (uint64_t i = segment.offset; i < segment.offset + segment.count; ++i) {
      const double right = exact(one, inputs, i);
      const double got = value_at(one.dtype, result, i);
      if (std::abs(got - right) <= off) continue;
      return fmt::format("element {} is {}, not {} within {}", i, got, right, off);
    }
  }
  return {};
}

}  // namespace cgx::random
