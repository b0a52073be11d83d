// One pass over a span: bound, error, projection.
#include "accuracy.h"

#include <cmath>

namespace cgx::bench {

void Accuracy::add(std::span<const double> result, const Expected& expected) {
  for (size_t e = 0; e < result.size(); ++e) {
    const double error = result[e] - expected.exact[e];
    const auto [low, high] = expected.bound[e];
    const bool anything = low == -HUGE_VAL && high == HUGE_VAL;  // also what overflowed, and NaN after that
    const bool inside = anything || (result[e] >= low && result[e] <= high);
    wrong += inside ? 0 : 1;
    const double square = expected.exact[e] * expected.exact[e], along = error * expected.exact[e];
    if (std::isfinite(square)) exact_squares += square;
    if (!std::isfinite(error * error) || !std::isfinite(along * along)) continue;
    error_squares += error * error;
    projected += along;
    projected_squares += along * along;
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
