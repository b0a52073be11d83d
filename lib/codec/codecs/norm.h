// The norm of a bucket, which scales the levels of both ditherings. L1 and L2 are summed in double, in a
// fixed order that SIMD lanes and a warp follow naturally: partial sum j of 64 takes elements j,
// j + 64, ... of the bucket, then halves are added to halves.
#include "base/hd.h"
#include "codec/spec.h"

CGX_BEGIN_CODEC

// A bucket's norm as fp32; NaN where an element is not finite. Finite elements never give Inf.
template <Norm kNorm>
struct NormFold {
  static constexpr bool kAnyOrder = false;
  static constexpr uint32_t kPartials = 64;
  using State = double;
  CGX_HD static State identity() { return 0.0; }
  CGX_HD static State lift(float x) {
    const double magnitude = static_cast<double>(bits_float(float_bits(x) & 0x7fffffffu));
    return kNorm == Norm::kL1 ? magnitude : dmul(magnitude, magnitude);
  }
  CGX_HD static State merge(State a, State b) { return dadd(a, b); }
  CGX_HD static float finish(State sum) {
    const double norm = kNorm == Norm::kL1 ? sum : dsqrt(sum);
    const double most = 3.4028234663852886e38;
    if (!(norm < 1e300)) return bits_float(0x7fc00000u);
    return static_cast<float>(norm < most ? norm : most);
  }
};

template <>
struct NormFold<Norm::kInf> {
  static constexpr bool kAnyOrder = true;
  static constexpr bool kOfMagnitudes = true;  // the largest |x| is all that counts
  using State = uint32_t;
  CGX_HD static State identity() { return 0; }
  template <typename F>
  CGX_HD static auto lift(F x) {
    return float_bits(x) & 0x7fffffffu;
  }
  template <typename U>
  CGX_HD static U merge(U a, U b) {
    return larger(a, b);
  }
  CGX_HD static float finish(State largest) {
    return bits_float(is_finite_bits(largest) ? largest : 0x7fc00000u);
  }
};

CGX_END_CODEC
