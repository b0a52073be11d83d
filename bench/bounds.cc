// One rounding, by family; v is the value, m the magnitude |v|, both anywhere in the element's interval.
//
//   none        0
//   cast        m 2^-11 (fp16), m 2^-8 (bf16): half a unit of an 11- or 8-bit significand; half the smallest
//               subnormal below; above 65504 fp16 saturates, and the error is below m
//   maxmin      the step (max - min) / (2^bits - 1) of the bucket: stochastic rounding moves to one of the
//   two
//               levels around v. Half of it to nearest
//   dither      norm / levels: the levels are that far apart
//   natdither   m + norm 2^(1-levels): neighbours are a factor of two apart, so at most m away; the lowest
//               cell reaches from 0 to norm 2^(1-levels)
//   natural     m: to a neighbouring power of two, v/2 < result <= 2v
//   natural8    m + 2^(1-bias): the same, and underflow to 0 or to the smallest power
//   topk        the value's own rounding, or dropped: the interval's hull with 0
//   randk       the same after scaling by a stratum's size, at most ceil(1/ratio)
//
// Single-precision arithmetic inside a codec adds a few units in the last place of the largest number
// involved: kSlop times that. A sum of n floats in any order adds at most n 2^-24 of the sum of magnitudes,
// one of doubles n 2^-53. A tensor stored in 16 bits is rounded once more wherever it is stored or sent raw.
#include "bounds.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "options.h"

namespace cgx::bench {
namespace {

constexpr double kSlop = 0x1p-20;

double magnitude(const Interval& v) { return std::max(std::fabs(v.low), std::fabs(v.high)); }

void grow(Interval& v, double by) {
  v.low -= by;
  v.high += by;
}

void include_zero(Interval& v) {
  v.low = std::min(v.low, 0.0);
  v.high = std::max(v.high, 0.0);
}

// Storing in the tensor's own type.
void round_to(cgx_dtype dtype, std::span<Interval> values) {
  const double relative = dtype == CGX_FLOAT16 ? 0x1p-11 : dtype == CGX_BFLOAT16 ? 0x1p-8 : 0;
  if (relative == 0) return;
  for (Interval& v : values) grow(v, magnitude(v) * relative + 0x1p-25);
}

std::map<std::string, std::string, std::less<>> parse_parameters(std::string_view text) {
  std::map<std::string, std::string, std::less<>> out;
  while (!text.empty()) {
    const std::string_view item = text.substr(0, text.find(','));
    text.remove_prefix(std::min(item.size() + 1, text.size()));
    const size_t equals = item.find('=');
    if (equals == item.npos) {
      out[""] = std::string(item);  // cast's type
    } else {
      out[std::string(item.substr(0, equals))] = std::string(item.substr(equals + 1));
    }
  }
  return out;
}

double number(const std::map<std::string, std::string, std::less<>>& parameters, const char* name,
              double otherwise) {
  const auto at = parameters.find(name);
  return at == parameters.end() ? otherwise : std::stod(at->second);
}

}  // namespace

DeclaredBound::DeclaredBound(std::string_view spec, cgx_dtype dtype) : dtype_(dtype) {
  if (spec.ends_with("+ef")) spec.remove_suffix(3);  // without residuals yet, the same roundings
  const size_t bar = spec.find('|');
  const std::string_view outer = spec.substr(0, bar);
  const size_t colon = outer.find(':');
  const std::string_view name = outer.substr(0, colon);
  if (colon != outer.npos) parameters_ = parse_parameters(outer.substr(colon + 1));

  static const std::map<std::string, Family, std::less<>> families = {
      {"none", Family::kNone},         {"cast", Family::kCast},       {"maxmin", Family::kMaxMin},
      {"dither", Family::kDither},     {"natural", Family::kNatural}, {"natdither", Family::kNatDither},
      {"natural8", Family::kNatural8}, {"topk", Family::kTopK},       {"randk", Family::kRandK}};
  const auto family = families.find(name);
  if (family == families.end()) {
    throw BenchError(
        fmt::format("codec \"{}\": its error bound is not known to cgx-bench; add it to bounds.cc "
                    "or measure with --check 0",
                    spec));
  }
  family_ = family->second;
  levels_ = number(parameters_, "levels", 0);
  bucket_ = static_cast<uint64_t>(number(parameters_, "bucket", 0));
  switch (family_) {
    case Family::kMaxMin:
      levels_ = std::exp2(number(parameters_, "bits", 4)) - 1;
      break;
    case Family::kCast: {
      const bool half = parameters_[""] == "fp16";
      relative_ = half ? 0x1p-11 : 0x1p-8;
      smallest_ = half ? 0x1p-25 : 0x1p-134;
      break;
    }
    case Family::kNatural:
      relative_ = 1;
      break;
    case Family::kNatural8:
      relative_ = 1;
      smallest_ = std::exp2(1 - number(parameters_, "bias", 110));
      break;
    case Family::kTopK:
    case Family::kRandK:
      inner_ = std::make_shared<DeclaredBound>(bar == spec.npos ? "none" : spec.substr(bar + 1), dtype);
      break;
    default:
      break;
  }
}

uint64_t DeclaredBound::granule() const {
  switch (family_) {
    case Family::kMaxMin:
    case Family::kDither:
    case Family::kNatDither:
      return bucket_;
    case Family::kTopK:
    case Family::kRandK:  // a bucket of kept values may come from anywhere
      return inner_->bucket_ != 0 || inner_->granule() == 0 ? 0 : 1;
    default:
      return 1;
  }
}

void DeclaredBound::widen(std::span<Interval> values) const {
  switch (family_) {
    case Family::kNone:
      break;
    case Family::kMaxMin:
    case Family::kDither:
    case Family::kNatDither:
      widen_buckets(values);
      break;
    case Family::kTopK:
    case Family::kRandK: {
      const double scale = family_ == Family::kRandK ? std::ceil(1 / number(parameters_, "ratio", 1)) : 1;
      for (Interval& v : values) v = {v.low * scale, v.high * scale};
      inner_->granule() == 1 ? inner_->widen(values) : inner_->widen_bucket(values);
      for (Interval& v : values) {
        grow(v, magnitude(v) * kSlop);
        include_zero(v);
      }
      break;
    }
    default:
      widen_each(values);
      break;
  }
  round_to(dtype_, values);
}

void DeclaredBound::widen_buckets(std::span<Interval> values) const {
  const size_t bucket = bucket_ == 0 ? values.size() : bucket_;
  for (size_t at = 0; at < values.size(); at += bucket) {
    widen_bucket(values.subspan(at, std::min(bucket, values.size() - at)));
  }
}

void DeclaredBound::widen_bucket(std::span<Interval> bucket) const {
  double low = HUGE_VAL, high = -HUGE_VAL, largest = 0, sum = 0, squares = 0;
  for (const Interval& v : bucket) {
    const double m = magnitude(v);
    low = std::min(low, v.low);
    high = std::max(high, v.high);
    largest = std::max(largest, m);
    sum += m;
    squares += m * m;
  }
  const auto norm_name = parameters_.find("norm");
  const std::string_view which = norm_name == parameters_.end() ? "inf" : std::string_view(norm_name->second);
  const double norm = which == "1" ? sum : which == "2" ? std::sqrt(squares) : largest;
  const auto rounding = parameters_.find("rounding");
  const bool nearest = rounding != parameters_.end() && rounding->second == "nearest";
  for (Interval& v : bucket) {
    double by = 0;
    if (family_ == Family::kMaxMin) by = (high - low) / levels_ * (nearest ? 0.5 : 1) + largest * kSlop;
    if (family_ == Family::kDither) by = norm / levels_ + norm * kSlop;
    if (family_ == Family::kNatDither) by = magnitude(v) + norm * std::exp2(1 - levels_) + norm * kSlop;
    grow(v, by);
  }
}

void DeclaredBound::widen_each(std::span<Interval> values) const {
  for (Interval& v : values) {
    const double m = magnitude(v);
    const bool saturates = family_ == Family::kCast && relative_ == 0x1p-11 && m > 65504;
    grow(v, saturates ? m : m * (relative_ + kSlop) + smallest_);
  }
}

namespace {

double float_sum(const std::vector<std::vector<double>>& inputs, size_t e) {
  float sum = static_cast<float>(inputs[0][e]);
  for (size_t r = 1; r < inputs.size(); ++r) sum += static_cast<float>(inputs[r][e]);
  return double{sum};
}

void add(std::span<Interval> to, std::span<const Interval> values, double unit) {
  for (size_t e = 0; e < to.size(); ++e) {
    const double slop = (magnitude(to[e]) + magnitude(values[e])) * unit;
    to[e].low += values[e].low - slop;
    to[e].high += values[e].high + slop;
  }
}

std::vector<Interval> points(const std::vector<double>& values) {
  std::vector<Interval> out(values.size());
  for (size_t e = 0; e < values.size(); ++e) out[e] = {values[e], values[e]};
  return out;
}

void scale_by(std::span<Interval> values, double factor, double unit) {
  for (Interval& v : values) {
    const double slop = magnitude(v) * unit;
    v = {v.low * factor - slop, v.high * factor + slop};
  }
}

// Every contribution rounded, the sum rounded: covers scatter_gather, allgather, which has one rounding less,
// and hierarchical with an exact inner codec, which rounds hosts' sums instead of contributions.
std::vector<Interval> scatter_gather(const DeclaredBound& bound, double scale,
                                     const std::vector<std::vector<double>>& inputs) {
  std::vector<Interval> sum = points(inputs[0]);
  bound.widen(sum);
  for (size_t r = 1; r < inputs.size(); ++r) {
    std::vector<Interval> one = points(inputs[r]);
    bound.widen(one);
    add(sum, one, bound.unit());
  }
  scale_by(sum, scale, bound.unit());
  bound.widen(sum);
  return sum;
}

// A partial sum is rounded on every hop. Where it starts depends on the chunk: the hull over all starts.
std::vector<Interval> ring(const DeclaredBound& bound, double scale,
                           const std::vector<std::vector<double>>& inputs) {
  const size_t n = inputs.size();
  std::vector<Interval> hull;
  for (size_t start = 0; start < n; ++start) {
    std::vector<Interval> sum = points(inputs[start]);
    for (size_t hop = 1; hop < n; ++hop) {
      bound.widen(sum);
      add(sum, points(inputs[(start + hop) % n]), bound.unit());
    }
    scale_by(sum, scale, bound.unit());
    bound.widen(sum);
    if (hull.empty()) hull = sum;
    for (size_t e = 0; e < sum.size(); ++e) {
      hull[e] = {std::min(hull[e].low, sum[e].low), std::max(hull[e].high, sum[e].high)};
    }
  }
  return hull;
}

// What rank r of a binomial tree sends: its own elements and its children's sums, rounded.
std::vector<Interval> subtree(const DeclaredBound& bound, double scale,
                              const std::vector<std::vector<double>>& inputs, size_t r) {
  std::vector<Interval> sum = points(inputs[r]);
  for (size_t bit = 1; r + bit < inputs.size() && (r & bit) == 0; bit *= 2) {
    add(sum, subtree(bound, 1, inputs, r + bit), bound.unit());
  }
  if (scale != 1) scale_by(sum, scale, bound.unit());
  bound.widen(sum);
  return sum;
}

void cover(std::vector<Interval>& hull, const std::vector<Interval>& other) {
  for (size_t e = 0; e < hull.size(); ++e) {
    hull[e] = {std::min(hull[e].low, other[e].low), std::max(hull[e].high, other[e].high)};
  }
}

std::vector<Interval> rounded_sum(const DeclaredBound& bound, const std::string& algorithm, double scale,
                                  const std::vector<std::vector<double>>& inputs) {
  if (algorithm == "ring") return ring(bound, scale, inputs);
  if (algorithm == "tree") return subtree(bound, scale, inputs, 0);
  std::vector<Interval> out = scatter_gather(bound, scale, inputs);
  if (algorithm != "auto") return out;
  cover(out, ring(bound, scale, inputs));
  cover(out, subtree(bound, scale, inputs, 0));
  return out;
}

}  // namespace

Expected expected_sum(const DeclaredBound& bound, const Reduction& reduction,
                      const std::vector<std::vector<double>>& inputs) {
  const double share = 1.0 / static_cast<double>(inputs.size());
  const double scale = reduction.op != CGX_AVG          ? 1.0
                       : reduction.dtype == CGX_FLOAT64 ? share
                                                        : double{static_cast<float>(share)};
  Expected out;
  out.exact.resize(inputs[0].size());
  for (size_t e = 0; e < out.exact.size(); ++e) {
    double sum = 0;
    for (const std::vector<double>& input : inputs) sum += input[e];
    out.exact[e] = sum * scale;
  }
  // Two ranks' sum is the same in any order.
  const bool rank_order =
      inputs.size() <= 2 || reduction.algorithm == "scatter_gather" || reduction.algorithm == "allgather";
  if (is_integer(reduction.dtype)) {
    out.bound = points(out.exact);
  } else if (bound.lossless() && reduction.dtype == CGX_FLOAT32 && rank_order) {
    // Summed in rank order, so that even the last bit is known.
    out.bound.resize(out.exact.size());
    for (size_t e = 0; e < out.exact.size(); ++e) {
      const double sum = float_sum(inputs, e);
      const double result = scale == 1 ? sum : double{static_cast<float>(sum) * static_cast<float>(scale)};
      out.bound[e] = {result, result};
    }
  } else {
    out.bound = rounded_sum(bound, reduction.algorithm, scale, inputs);
  }
  return out;
}

}  // namespace cgx::bench
