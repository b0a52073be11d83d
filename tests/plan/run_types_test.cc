// run() on the other element types and reductions, and what it refuses.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/half.h"
#include "plan/oracle.h"

namespace cgx {
namespace {

using test::Outcome;
using test::uniform;

template <typename T>
DType dtype_of();
template <>
DType dtype_of<double>() {
  return DType::kF64;
}
template <>
DType dtype_of<int8_t>() {
  return DType::kI8;
}
template <>
DType dtype_of<uint8_t>() {
  return DType::kU8;
}
template <>
DType dtype_of<int16_t>() {
  return DType::kI16;
}
template <>
DType dtype_of<int32_t>() {
  return DType::kI32;
}
template <>
DType dtype_of<int64_t>() {
  return DType::kI64;
}

template <typename T>
T reduced(ReduceOp op, T a, T b) {
  using U = std::conditional_t<std::is_integral_v<T>, uint64_t, T>;
  switch (op) {
    case ReduceOp::kSum:
      return static_cast<T>(static_cast<U>(a) + static_cast<U>(b));
    case ReduceOp::kProd:
      return static_cast<T>(static_cast<U>(a) * static_cast<U>(b));
    case ReduceOp::kMin:
      return std::min(a, b);
    case ReduceOp::kMax:
      return std::max(a, b);
  }
  return a;
}

template <typename T>
class RunTypesTest : public testing::Test {};
using Types = testing::Types<double, int8_t, uint8_t, int16_t, int32_t, int64_t>;
TYPED_TEST_SUITE(RunTypesTest, Types);

TYPED_TEST(RunTypesTest, AllReductionsAreMadeInTheElementsOwnType) {
  const uint64_t count = 5003;
  std::vector<std::vector<TypeParam>> x(3, std::vector<TypeParam>(count));
  std::mt19937_64 random(5);
  for (auto& rank : x) {
    for (TypeParam& e : rank) {
      e = std::is_integral_v<TypeParam>
              ? static_cast<TypeParam>(random())
              : static_cast<TypeParam>(static_cast<int64_t>(random())) / TypeParam(1e18);
    }
  }
  test::RunOptions options;
  for (const auto& rank : x) options.x.push_back(test::bytes_of(rank));
  for (const Algorithm& algorithm : algorithms()) {
    // The ring's sums start at the chunk's own rank: other bits for fp64 sums and products.
    if (std::string(algorithm.name) == "ring" && !std::is_integral_v<TypeParam>) continue;
    for (ReduceOp op : {ReduceOp::kSum, ReduceOp::kMin, ReduceOp::kMax, ReduceOp::kProd}) {
      std::vector<TypeParam> expected = x[0];
      for (size_t r = 1; r < x.size(); ++r) {
        for (size_t i = 0; i < count; ++i) expected[i] = reduced(op, expected[i], x[r][i]);
      }
      options.op = op;
      options.in_place = op == ReduceOp::kMax;
      const Layout layout = uniform(count, "none", dtype_of<TypeParam>());
      const Outcome outcome =
          test::run_plans(layout, test::plans_of(algorithm, {0, 3, layout, 4096}), options);
      test::expect_replicas(outcome, algorithm.name);
      ASSERT_EQ(outcome.y[0], test::bytes_of(expected)) << algorithm.name << " op " << static_cast<int>(op);
    }
  }
}

// From 1 MiB on, and only out of place, results are copied past the cache; the pieces of ranks and slices
// begin at any byte.
TYPED_TEST(RunTypesTest, LargeResultsAreTheSameInPlaceAndNot) {
  const uint64_t count = (1 << 20) / sizeof(TypeParam) + 77;
  test::RunOptions options;
  for (int r = 0; r < 3; ++r) {
    std::mt19937 random(static_cast<uint32_t>(r));
    std::vector<TypeParam> x(count);
    for (TypeParam& e : x) e = static_cast<TypeParam>(random() % 100);
    options.x.push_back(test::bytes_of(x));
  }
  const Layout layout = uniform(count, "none", dtype_of<TypeParam>());
  for (const Algorithm& algorithm : algorithms()) {
    const std::vector<Plan> plans = test::plans_of(algorithm, {0, 3, layout, 50'000});
    options.in_place = true;
    const Outcome in_place = test::run_plans(layout, plans, options);
    options.in_place = false;
    const Outcome outcome = test::run_plans(layout, plans, options);
    test::expect_replicas(outcome, algorithm.name);
    ASSERT_EQ(outcome.y[0], in_place.y[0]) << algorithm.name;
  }
}

class RunHalfTest : public testing::TestWithParam<DType> {
 protected:
  static uint16_t narrow(float x) { return GetParam() == DType::kF16 ? f32_to_f16(x) : f32_to_bf16(x); }
  static float widen(uint16_t x) { return GetParam() == DType::kF16 ? f16_to_f32(x) : bf16_to_f32(x); }
  static std::vector<uint16_t> elements(int rank, uint64_t count) {
    std::vector<uint16_t> out;
    for (float e : test::gradient(rank, count)) out.push_back(narrow(e));
    return out;
  }
  // Unit roundoff of the type.
  static float precision() { return GetParam() == DType::kF16 ? 0x1p-11f : 0x1p-8f; }
};

INSTANTIATE_TEST_SUITE_P(Types, RunHalfTest, testing::Values(DType::kF16, DType::kBF16),
                         [](const auto& test) { return std::string(dtype_name(test.param)); });

TEST_P(RunHalfTest, SumsAreMadeInFp32AndRoundedOnce) {
  const uint64_t count = 5003;
  const int size = 4;
  test::RunOptions options{.scale = 0.25f};
  std::vector<float> sum(count, 0);
  for (int r = 0; r < size; ++r) {
    const std::vector<uint16_t> x = elements(r, count);
    for (size_t i = 0; i < count; ++i) sum[i] = r == 0 ? widen(x[i]) : sum[i] + widen(x[i]);
    options.x.push_back(test::bytes_of(x));
  }
  std::vector<uint16_t> expected;
  for (float e : sum) expected.push_back(narrow(e * 0.25f));
  for (const char* algorithm : {"scatter_gather", "allgather"}) {
    const Layout layout = uniform(count, "none", GetParam());
    const Outcome outcome =
        test::run_plans(layout, test::plans_of(*find_algorithm(algorithm), {0, size, layout, 2048}), options);
    test::expect_replicas(outcome, algorithm);
    EXPECT_EQ(outcome.y[0], test::bytes_of(expected)) << algorithm;
  }
}

// 8-bit levels between the extremes of elements below 1/16: a rounding is off by less than a unit. The
// contributions' units are 1/8 / 255, the sum of `size` of them has `size` times that, and ring sums on
// the way at most as much at each of `size` roundings. Storing a sum below size / 16 in the type rounds it by
// the type's precision.
TEST_P(RunHalfTest, CompressedSumsAreOffByTheirRoundingsOnly) {
  const uint64_t count = 5003;
  const int size = 3;
  test::RunOptions options;
  std::vector<double> sum(count, 0);
  for (int r = 0; r < size; ++r) {
    const std::vector<uint16_t> x = elements(r, count);
    for (size_t i = 0; i < count; ++i) {
      ASSERT_LT(std::abs(widen(x[i])), 0x1p-4f);
      sum[i] += widen(x[i]);
    }
    options.x.push_back(test::bytes_of(x));
  }
  const double bound = size * size * (0x1p-3 / 255) + size * 0x1p-4 * static_cast<double>(precision());
  for (const Algorithm& algorithm : algorithms()) {
    const Layout layout = uniform(count, "maxmin:bits=8,bucket=64", GetParam());
    const Outcome outcome =
        test::run_plans(layout, test::plans_of(algorithm, {0, size, layout, 2048}), options);
    test::expect_replicas(outcome, algorithm.name);
    const auto y = test::elements_of<uint16_t>(outcome.y[0]);
    for (size_t i = 0; i < count; ++i) {
      ASSERT_LE(std::abs(static_cast<double>(widen(y[i])) - sum[i]), bound)
          << algorithm.name << " element " << i;
    }
  }
}

// What is encoded and what is kept back add up to what was there: x + before = decoded + after. In
// scatter_gather on one owner's chunk that is: y + sum_after = own + before + the peer's decoded block.
TEST_P(RunHalfTest, SparseResidualsCountTheRoundingOfTheSum) {
  const uint64_t count = 256;  // one chunk, owned by rank 0; rank 1's is empty
  const Layout layout = uniform(count, "topk:ratio=0.1+ef", GetParam());
  std::vector<test::Floats> sum_after(2, test::Floats(count, 0)), contribution_after = sum_after;
  test::RunOptions options;
  for (int r = 0; r < 2; ++r) {
    const size_t at = static_cast<size_t>(r);
    options.x.push_back(test::bytes_of(elements(r, count)));
    options.residuals.push_back({{nullptr, contribution_after[at].data(), nullptr, sum_after[at].data()}});
  }
  const Outcome outcome =
      test::run_plans(layout, test::plans_of(*find_algorithm("scatter_gather"), {0, 2, layout}), options);
  test::expect_replicas(outcome, "topk");
  const std::vector<uint16_t> own = elements(0, count), peer = elements(1, count);
  const auto y = test::elements_of<uint16_t>(outcome.y[0]);
  size_t kept = 0;
  for (size_t i = 0; i < count; ++i) {
    kept += (y[i] & 0x7fff) != 0;
    const float decoded = widen(peer[i]) - contribution_after[1][i];
    EXPECT_EQ(contribution_after[0][i], 0) << i;
    // Either the element was dropped, or it was rounded to the type: then the difference is exact, too.
    EXPECT_EQ(widen(y[i]) + sum_after[0][i], widen(own[i]) + decoded) << i;
  }
  EXPECT_EQ(kept, 26u);  // ceil(0.1 * 256)
}

TEST(RunRefuses, CompressedReductionsOtherThanSums) {
  const Layout layout = uniform(1000, "maxmin:bits=4");
  const Outcome outcome = test::run_plans(layout, test::plans_of(*find_algorithm("ring"), {0, 2, layout}),
                                          {.op = ReduceOp::kMax});
  for (const std::string& e : outcome.errors) {
    EXPECT_NE(e.find("min, max and product need the codec none, not maxmin:bits=4"), std::string::npos) << e;
  }
}

TEST(RunRefuses, AveragesOfIntegers) {
  const Layout layout = uniform(1000, "none", DType::kI32);
  test::RunOptions options{.scale = 0.5f, .x = {2, test::bytes_of(std::vector<int32_t>(1000, 1))}};
  const Outcome outcome =
      test::run_plans(layout, test::plans_of(*find_algorithm("ring"), {0, 2, layout}), options);
  EXPECT_NE(outcome.errors[0].find("int32 elements cannot be scaled by 0.5"), std::string::npos)
      << outcome.errors[0];
}

TEST(RunRefuses, NothingOfANanInMinAndMax) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  test::RunOptions options{.op = ReduceOp::kMin};
  options.x = {test::bytes_of(test::Floats{nan, 1, 2}), test::bytes_of(test::Floats{1, nan, 3})};
  const Layout layout = uniform(3, "none");
  const Outcome outcome =
      test::run_plans(layout, test::plans_of(*find_algorithm("scatter_gather"), {0, 2, layout}), options);
  const auto y = test::elements_of<float>(outcome.y[0]);
  EXPECT_TRUE(std::isnan(y[0]));
  EXPECT_TRUE(std::isnan(y[1]));
  EXPECT_EQ(y[2], 2);
}

// A wire that turns every byte of what this rank receives into 0xff.
class BrokenWire final : public Transport {
 public:
  explicit BrokenWire(Transport& real) : real_(real) {}
  const char* name() const override { return "broken"; }
  int rank() const override { return real_.rank(); }
  int size() const override { return real_.size(); }
  Result<uint8_t*> acquire(size_t bytes, const Wait& wait) override { return real_.acquire(bytes, wait); }
  Status send(uint8_t* m, size_t bytes, std::span<const int> peers) override {
    return real_.send(m, bytes, peers);
  }
  Status post(int peer, size_t bytes) override { return real_.post(peer, bytes); }
  Result<const uint8_t*> receive(int peer, size_t bytes, const Wait& wait) override {
    auto message = real_.receive(peer, bytes, wait);
    if (message.ok()) std::memset(const_cast<uint8_t*>(*message), 0xff, bytes);
    return message;
  }
  void release(const uint8_t* message) override { real_.release(message); }
  Status flush(const Wait& wait) override { return real_.flush(wait); }
  void abort(const Status& reason) override { real_.abort(reason); }
  TransportStats stats() const override { return real_.stats(); }

 private:
  Transport& real_;
};

TEST(RunRefuses, CorruptBytesAndTellsThePeers) {
  const Layout layout = uniform(10000, "topk:ratio=0.01");
  test::RunOptions options;
  options.wrap = [](Transport& real) -> std::unique_ptr<Transport> {
    return real.rank() == 1 ? std::make_unique<BrokenWire>(real) : nullptr;
  };
  const Outcome outcome =
      test::run_plans(layout, test::plans_of(*find_algorithm("scatter_gather"), {0, 3, layout}), options);
  EXPECT_EQ(outcome.errors[1].rfind(fmt::format("{}: elements [", static_cast<int>(Code::kCorrupt)), 0), 0u)
      << outcome.errors[1];
  EXPECT_NE(outcome.errors[1].find("received from rank"), std::string::npos) << outcome.errors[1];
  for (size_t r : {0u, 2u}) {
    EXPECT_EQ(outcome.errors[r].rfind(fmt::format("{}: ", static_cast<int>(Code::kPeerFailed)), 0), 0u)
        << outcome.errors[r];
  }
}

}  // namespace
}  // namespace cgx
