// See other_ops.h.
#include "other_ops.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstdint>

#include "types.h"

namespace cgx::bench {
namespace {

Interval point(double x) { return {x, x}; }

double extreme(cgx_op op, const std::vector<std::vector<double>>& inputs, size_t e) {
  double found = inputs[0][e];
  for (const auto& input : inputs) {
    found = op == CGX_MIN ? std::min(found, input[e]) : std::max(found, input[e]);
  }
  return found;
}

// Integers wrap: the product modulo a power of two is the same in any order.
double wrapped_product(cgx_dtype dtype, const std::vector<std::vector<double>>& inputs, size_t e) {
  uint64_t product = 1;
  for (const auto& input : inputs) product *= static_cast<uint64_t>(static_cast<int64_t>(input[e]));
  switch (dtype) {
    case CGX_INT8:
      return static_cast<int8_t>(product);
    case CGX_UINT8:
      return static_cast<uint8_t>(product);
    case CGX_INT16:
      return static_cast<int16_t>(product);
    case CGX_INT32:
      return static_cast<int32_t>(product);
    default:
      return static_cast<double>(static_cast<int64_t>(product));
  }
}

struct Precision {
  double unit;      // of one rounding, relative
  double smallest;  // number above zero: what underflow may take
  double largest;
};

Precision precision_of(cgx_dtype dtype) {
  switch (dtype) {
    case CGX_FLOAT16:
      return {0x1p-11, 0x1p-24, 65504};
    case CGX_BFLOAT16:
      return {0x1p-8, 0x1p-133, FLT_MAX};
    case CGX_FLOAT64:
      return {0x1p-52, 0x1p-1074, DBL_MAX};  // twice: the exact product is one of doubles, too
    default:
      return {0x1p-24, 0x1p-149, FLT_MAX};
  }
}

// Each of up to n partial products is rounded once, relative to itself. One that underflows is off by the
// smallest number, which the factors still to come may enlarge; near the largest number anything goes.
Interval product_bound(cgx_dtype dtype, const std::vector<std::vector<double>>& inputs, size_t e,
                       double product) {
  const Precision type = precision_of(dtype);
  double grown = 1;  // no partial product is larger, in any order
  for (const auto& input : inputs) grown *= std::max(1.0, std::fabs(input[e]));
  if (grown > 0.9 * type.largest) return {-HUGE_VAL, HUGE_VAL};
  const auto n = static_cast<double>(inputs.size());
  const double slack = std::fabs(product) * n * type.unit * 1.01 + n * type.smallest * grown;
  return {product - slack, product + slack};
}

}  // namespace

Expected expected_other(const Reduction& reduction, const std::vector<std::vector<double>>& inputs) {
  Expected out;
  for (size_t e = 0; e < inputs[0].size(); ++e) {
    double exact = 1;
    Interval bound = {};
    if (reduction.op != CGX_PROD) {
      exact = extreme(reduction.op, inputs, e);
      bound = point(exact);
    } else if (is_integer(reduction.dtype)) {
      exact = wrapped_product(reduction.dtype, inputs, e);
      bound = point(exact);
    } else {
      for (const auto& input : inputs) exact *= input[e];
      bound = product_bound(reduction.dtype, inputs, e, exact);
    }
    out.exact.push_back(exact);
    out.bound.push_back(bound);
  }
  return out;
}

}  // namespace cgx::bench
