// The error that each algorithm makes, measured against theory: eight ranks, normally distributed gradients
// that are independent, nearly the same or the same on all ranks, by two unbiased codecs. Prints
// docs/NUMERICS.md's table.
//
// Theory. An unbiased rounding adds w times the mean square of what it is given, w the NMSE of one rounding
// of normally distributed elements, and roundings are independent. So a partial sum of m ranks whose noise
// was V before has V + w (P + V) after, with P = m (independent ranks) or m^2 (equal ones) in units of one
// rank's mean square. To first order in w (V dropped beside P) that is the closed form in each case below;
// `predict` keeps V.
//
// What is measured of independent gradients lies between the two, as noise is added to the signal but has not
// its distribution, within 5 %: 1.5 % by which w depends on the scale, and four deviations of a mean of
// kCount squared errors, 4 sqrt(5 / kCount) = 2.5 %.
//
// Gradients that are *exactly* equal are rounded on cells that lie in the same places: a sum of roundings of
// f between 0 and 1 lies in that cell, and rounding it again to its ends gives the variance f (1 - f) of one
// rounding, whatever was before. So less than theory is measured, down to that of the last rounding alone
// (allgather, which has none after its sums: to theory), and by natural on sums of 3, 5, 6 or 7 ranks, whose
// cells differ, up to its worst case, 1.53 w. Gradients that differ a little lie between that and theory.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "plan/ranks_run.h"

namespace cgx {
namespace {

constexpr int kRanks = 8;
constexpr uint64_t kCount = 1 << 17;

double square(double x) { return x * x; }

// What one rounding of normal elements loses, |x - decode(encode(x))|^2 / |x|^2, over two octaves of scales:
// natural's depends on where its powers of two fall.
struct Range {
  double low = 1e9, high = 0;
  double mid() const { return (low + high) / 2; }
};

Range rounding_error(const CodecSpec& spec) {
  Range range;
  for (int step = 0; step < 8; ++step) {
    const float scale = std::exp2(static_cast<float>(step) / 4);
    std::vector<float> x = test::gradient(50 + step, kCount), y(kCount);
    for (float& e : x) e *= scale;
    std::vector<uint8_t> block(encoded_bytes(spec, DType::kF32, kCount));
    EXPECT_TRUE(encode(spec, DType::kF32, x.data(), kCount, {}, {}, block.data()).ok());
    EXPECT_TRUE(decode(spec, DType::kF32, block.data(), kCount, Into::kAssign, y.data()).ok());
    double lost = 0, all = 0;
    for (uint64_t i = 0; i < kCount; ++i) {
      lost += square(static_cast<double>(x[i]) - y[i]);
      all += square(x[i]);
    }
    range.low = std::min(range.low, lost / all);
    range.high = std::max(range.high, lost / all);
  }
  return range;
}

struct Case {
  const char* algorithm;
  std::vector<int> hosts;
  // Over w |S|^2 to first order.
  double independent, equal;
  // Noise of the result: what n ranks' partial sums are is asked with m.
  std::function<double(double w, const std::function<double(double m)>& power)> predict;
};

// Noise after one more rounding of the sum of m ranks.
double rounded(double w, double power, double noise) { return noise + w * (power + noise); }

std::vector<Case> cases() {
  const double n = kRanks;
  const auto leaders = [](int hosts) {
    return [hosts](double w, const auto& power) {
      const double host = rounded(w, power(kRanks / hosts), 0);
      return rounded(w, power(kRanks), (hosts - 1) * host);
    };
  };
  const auto scatter_gather = [](double w, const auto& power) {
    return rounded(w, power(kRanks), (kRanks - 1) * rounded(w, power(1), 0));
  };
  const auto ring = [](double w, const auto& power) {
    double noise = 0;
    for (int m = 1; m <= kRanks; ++m) noise = rounded(w, power(m), noise);
    return noise;
  };
  const auto tree = [](double w, const auto& power) {
    // Subtrees of 1, 2, 4 ranks: their children are one of each smaller size.
    double children = 0;
    for (int m = 1; m < kRanks; m *= 2) children += rounded(w, power(m), children);
    return rounded(w, power(kRanks), children);
  };
  const auto allgather = [](double w, const auto& power) { return kRanks * rounded(w, power(1), 0); };
  return {
      {"scatter_gather", {}, 1 + (n - 1) / n, 1 + (n - 1) / (n * n), scatter_gather},
      {"ring", {}, 1 + (n - 1) / 2, 1 + (n - 1) * (2 * n - 1) / (6 * n), ring},
      {"tree", {}, 1 + std::log2(n) / 2, 1 + (n - 1) / (2 * n), tree},
      {"allgather", {}, 1, 1 / n, allgather},
      // h - 1 hosts' sums are rounded: g = n / h ranks of n, (h - 1) / h in all; or (h - 1) (g / n)^2 = (h -
      // 1) / h^2.
      {"hierarchical", {0, 0, 0, 0, 1, 1, 1, 1}, 1 + 1.0 / 2, 1 + 1.0 / 4, leaders(2)},
      {"hierarchical", {0, 0, 1, 1, 2, 2, 3, 3}, 1 + 3.0 / 4, 1 + 3.0 / 16, leaders(4)},
  };
}

enum class Ranks { kIndependent, kNearlyEqual, kEqual };
constexpr const char* kNames[] = {"independent", "nearly equal", "equal"};
constexpr float kOwn = 0.3f;  // of what nearly equal ones differ in, beside what they share

double power(Ranks ranks, double m) {
  return ranks == Ranks::kIndependent ? m : m * m + (ranks == Ranks::kEqual ? 0 : m * square(kOwn));
}

std::vector<float> elements(Ranks ranks, int rank) {
  if (ranks == Ranks::kIndependent) return test::gradient(rank, kCount);
  std::vector<float> x = test::gradient(100, kCount);
  if (ranks == Ranks::kEqual) return x;
  const std::vector<float> own = test::gradient(rank, kCount);
  for (uint64_t i = 0; i < kCount; ++i) x[i] += kOwn * own[i];
  return x;
}

// |y - S|^2 / |S|^2.
double measured(const Case& one, const std::string& spec, Ranks ranks) {
  const Layout layout = test::uniform(kCount, spec);
  const PlanKey key{0, kRanks, layout, 64 << 10, one.hosts};
  test::RunOptions options;
  std::vector<double> sum(kCount);
  for (int r = 0; r < kRanks; ++r) {
    const std::vector<float> x = elements(ranks, r);
    for (uint64_t i = 0; i < kCount; ++i) sum[i] += x[i];
    options.x.push_back(test::bytes_of(x));
  }
  const test::Outcome outcome =
      test::run_plans(layout, test::plans_of(*find_algorithm(one.algorithm), key), options);
  test::expect_replicas(outcome, one.algorithm);
  const auto y = test::elements_of<float>(outcome.y[0]);
  double lost = 0, all = 0;
  for (uint64_t i = 0; i < kCount; ++i) {
    lost += square(y[i] - sum[i]);
    all += square(sum[i]);
  }
  return lost / all;
}

TEST(Error, OfEachAlgorithmIsThatOfTheory) {
  constexpr double kTiny = 1e-9;
  constexpr double kWorst = 1.53;  // 1/8 of 0.0817, and step^2 / 4 of step^2 / 6
  for (const char* spec : {"natural", "maxmin:bits=4,bucket=512"}) {
    const Range w = rounding_error(test::spec_of(spec));
    std::printf("%s: w = %.4f (%.4f to %.4f by scale)\n", spec, w.mid(), w.low, w.high);
    for (const Case& one : cases()) {
      for (const Ranks ranks : {Ranks::kIndependent, Ranks::kNearlyEqual, Ranks::kEqual}) {
        const auto power_of = [ranks](double m) { return power(ranks, m); };
        const auto times_w = [&](double error) {
          return one.predict(error, power_of) / power_of(kRanks) / error;
        };
        const double nmse = measured(one, spec, ranks);
        const int hosts = one.hosts.empty() ? 1 : one.hosts.back() + 1;
        const std::string what =
            fmt::format("{} on {} hosts, {}", one.algorithm, hosts, kNames[static_cast<int>(ranks)]);
        std::printf("  %-42s first order %.3f, second %.3f, measured %.3f times w\n", what.c_str(),
                    times_w(kTiny), times_w(w.mid()), nmse / w.mid());
        if (ranks == Ranks::kIndependent) {
          EXPECT_GE(nmse, 0.95 * w.low * times_w(kTiny)) << what;
          EXPECT_LE(nmse, 1.05 * w.high * times_w(w.high)) << what;
        } else {
          EXPECT_GE(nmse, 0.95 * w.low * std::min(times_w(kTiny), 1.0)) << what;
          EXPECT_LE(nmse, 1.05 * w.high * kWorst * times_w(kWorst * w.high)) << what;
        }
      }
    }
  }
}

TEST(Error, FirstOrderIsTheLimitOfSmallErrors) {
  constexpr double kTiny = 1e-7;
  for (const Case& one : cases()) {
    const double independent = one.predict(kTiny, [](double m) { return m; }) / kRanks / kTiny;
    const double equal = one.predict(kTiny, [](double m) { return m * m; }) / (kRanks * kRanks) / kTiny;
    EXPECT_NEAR(independent, one.independent, 1e-4) << one.algorithm;
    EXPECT_NEAR(equal, one.equal, 1e-4) << one.algorithm;
  }
}

}  // namespace
}  // namespace cgx
