// What `#wrong` means: each codec declares how far one rounding may move a value, and interval arithmetic
// over the algorithm's roundings gives the interval that each element of the result must lie in. Derivations
// are in bounds.cc, beside the numbers. An element outside (or NaN) is wrong.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "cgx/cgx.h"

namespace cgx::bench {

struct Interval {
  double low;
  double high;
};

class DeclaredBound {
 public:
  // `spec` is canonical (cgx_codec_spec). Throws BenchError for a codec that has no bound here.
  DeclaredBound(std::string_view spec, cgx_dtype dtype);

  bool lossless() const { return family_ == Family::kNone; }
  // Relative, of one addition of what is summed; twice for fp64, as the exact sum is one of doubles, too.
  double unit() const { return dtype_ == CGX_FLOAT64 ? 0x1p-52 : 0x1p-24; }
  // Spans given to widen() begin at a multiple of this in the tensor; 0: they are the whole tensor.
  uint64_t granule() const;
  // From intervals that hold the values encoded to intervals that hold what is decoded.
  void widen(std::span<Interval> values) const;

 private:
  enum class Family { kNone, kCast, kMaxMin, kDither, kNatDither, kNatural, kNatural8, kTopK, kRandK };

  void widen_buckets(std::span<Interval> values) const;
  void widen_bucket(std::span<Interval> bucket) const;
  void widen_each(std::span<Interval> values) const;

  Family family_ = Family::kNone;
  std::map<std::string, std::string, std::less<>> parameters_;
  cgx_dtype dtype_ = CGX_FLOAT32;
  double levels_ = 0;
  double smallest_ = 0;  // what underflow may add
  double relative_ = 0;
  uint64_t bucket_ = 0;
  std::shared_ptr<const DeclaredBound> inner_;  // a sparsifier's values
};

// One tensor's exact result and its bound.
struct Expected {
  std::vector<double> exact;
  std::vector<Interval> bound;
};

struct Reduction {
  std::string
      algorithm;  // "auto": any; the bound of "scatter_gather" also holds for "allgather" and "hierarchical"
  cgx_op op = CGX_SUM;
  cgx_dtype dtype = CGX_FLOAT32;
};

// inputs[rank] holds that rank's elements of one span of the tensor.
Expected expected_sum(const DeclaredBound& bound, const Reduction& reduction,
                      const std::vector<std::vector<double>>& inputs);

}  // namespace cgx::bench
