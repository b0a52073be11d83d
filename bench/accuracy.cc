// One pass over a span: bound, error, projection.
#include "accuracy.h"

#include <cmath>

namespace cgx::bench {

void Accuracy::add(std::span<const double> result, const Expected& expected) {
  for (size_t e = 0; e < result.size(); ++e) {
    const double error = result[e] - expected.exact[e];
    const bool inside = result[e] >= expected.bound[e].low && result[e] <= expected.bound[e].high;
    wrong += inside ? 0 : 1;
    exact_squares += expected.exact[e] * expected.exact[e];
    if (!std::isfinite(error)) continue;
    error_squares += error * error;
    projected += error * expected.exact[e];
    projected_squares += error * expected.exact[e] * error * expected.exact[e];
  }
}

void Accuracy::add(const Accuracy& other) {
  wrong += other.wrong;
  error_squares += other.error_squares;
  exact_squares += other.exact_squares;
  projected += other.projected;
  projected_squares += other.projected_squares;
}

double Accuracy::nmse() const { return exact_squares == 0 ? 0 : error_squares / exact_squares; }

double Accuracy::bias_z() const {
  return projected_squares == 0 ? 0 : projected / std::sqrt(projected_squares);
}

}  // namespace cgx::bench
