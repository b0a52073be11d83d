// How far results are from the exact ones: sums that ranks add up over their shares of a tensor.
#pragma once

#include <cstdint>
#include <span>

#include "bounds.h"

namespace cgx::bench {

struct Accuracy {
  uint64_t wrong = 0;  // outside the declared bound, or not finite
  double error_squares = 0;
  double exact_squares = 0;
  double projected = 0;  // sum of error * exact
  double projected_squares = 0;

  void add(std::span<const double> result, const Expected& expected);
  void add(const Accuracy& other);

  // ||result - exact||^2 / ||exact||^2.
  double nmse() const;
  // The error projected on the exact result, over its standard error, from all elements of all checked
  // operations: sum(e s) / sqrt(sum (e s)^2). Elements are rounded independently, so an unbiased codec gives
  // a standard normal number; one that shrinks or grows what it encodes goes far outside +-4, ever further
  // the more elements there are. 0 where there is no error.
  double bias_z() const;
};

}  // namespace cgx::bench
