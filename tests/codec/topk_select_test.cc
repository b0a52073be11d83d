// Exact selection against its definition by sorting, on inputs that a sample would misjudge.
#include "codec/topk_select.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <random>
#include <string_view>
#include <vector>

#include "base/half.h"
#include "codec/codecs/topk.h"

namespace cgx {
namespace {

std::vector<uint32_t> by_sorting(const std::vector<float>& x, size_t k) {
  std::vector<uint32_t> order(x.size());
  std::iota(order.begin(), order.end(), 0u);
  std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    return (float_bits(x[a]) & 0x7fffffffu) > (float_bits(x[b]) & 0x7fffffffu);
  });
  order.resize(k);
  std::sort(order.begin(), order.end());
  return order;
}

// By every instruction set, with memory left over from the one before.
void expect_kept(const Elements& from, const std::vector<float>& lifted, size_t k, float* sum) {
  const std::vector<uint32_t> expected = by_sorting(lifted, k);
  const std::vector<float> before =
      from.before ? std::vector<float>(from.before, from.before + lifted.size()) : std::vector<float>();
  SparseScratch scratch;
  for (const std::string_view path : cpu_paths()) {
    ASSERT_TRUE(force_cpu_path(path).ok());
    if (sum != nullptr && sum == from.before) std::copy(before.begin(), before.end(), sum);
    auto kept = select_topk(from, lifted.size(), k, sum, scratch);
    ASSERT_TRUE(kept.ok()) << kept.status().message();
    ASSERT_TRUE(std::equal(expected.begin(), expected.end(), kept->indices))
        << path << " " << lifted.size() << " " << k;
    for (size_t j = 0; j < k; ++j) {
      ASSERT_EQ(float_bits(kept->values[j]), float_bits(lifted[kept->indices[j]])) << path << " " << j;
    }
    if (sum == nullptr) continue;
    ASSERT_TRUE(std::equal(lifted.begin(), lifted.end(), sum, [](float a, float b) {
      return float_bits(a) == float_bits(b);
    })) << path;
  }
  ASSERT_TRUE(force_cpu_path("").ok());
}

std::vector<size_t> interesting_k(size_t count) {
  std::vector<size_t> out;
  for (size_t k :
       {size_t{1}, size_t{2}, count / 1000, count / 100, count / 10, count / 2, count - 1, count}) {
    if (k >= 1 && k <= count) out.push_back(k);
  }
  return out;
}

void expect_kept_for_every_k(const std::vector<float>& x) {
  for (size_t k : interesting_k(x.size())) expect_kept({DType::kF32, x.data(), nullptr}, x, k, nullptr);
}

std::vector<float> generate(size_t count, const std::function<float(size_t, std::mt19937&)>& f) {
  std::mt19937 engine(static_cast<uint32_t>(count));
  std::vector<float> x(count);
  for (size_t i = 0; i < count; ++i) x[i] = f(i, engine);
  return x;
}

float normal(std::mt19937& engine) { return std::normal_distribution<float>()(engine); }

TEST(SelectTopK, KeepsTheLargestOfSmallTensors) {
  for (size_t count = 1; count <= 17; ++count) {
    const auto x = generate(count, [](size_t, auto& engine) { return normal(engine); });
    for (size_t k = 1; k <= count; ++k) expect_kept({DType::kF32, x.data(), nullptr}, x, k, nullptr);
  }
}

TEST(SelectTopK, KeepsTheLargestOfLargeTensors) {
  for (size_t count : {255, 256, 257, 2047, 2049, 10000, 70001}) {
    expect_kept_for_every_k(generate(count, [](size_t, auto& engine) { return normal(engine); }));
  }
}

// So many candidates that a sample of them says where to look, and sometimes says it wrongly.
TEST(SelectTopK, FindsTheLastOfManyCandidates) {
  const size_t count = 600000;
  const auto expect_for = [](const std::vector<float>& x) {
    for (size_t k : {count / 12, count / 10, count / 4}) {
      expect_kept({DType::kF32, x.data(), nullptr}, x, k, nullptr);
    }
  };
  expect_for(generate(count, [](size_t, auto& e) { return normal(e); }));
  expect_for(generate(count, [](size_t, auto& e) { return std::nearbyint(normal(e) * 4); }));
  expect_for(generate(count, [](size_t i, auto&) { return static_cast<float>(i); }));
  expect_for(generate(count, [](size_t i, auto& e) { return i < 70000 ? 10 + normal(e) : normal(e); }));
  expect_for(generate(count, [](size_t i, auto& e) { return e() % 5 == 0 ? 7.0f + (i % 16 == 0) : 0.5f; }));
}

TEST(SelectTopK, TiesGoToTheLowerIndex) {
  for (size_t count : {1000, 40000}) {
    expect_kept_for_every_k(std::vector<float>(count, -1.5f));
    expect_kept_for_every_k(std::vector<float>(count, 0.0f));
    expect_kept_for_every_k(generate(count, [](size_t i, auto&) { return i % 2 == 0 ? 2.0f : -2.0f; }));
    expect_kept_for_every_k(generate(count, [](size_t, auto& e) { return std::nearbyint(normal(e) * 4); }));
  }
}

// Gradients of embeddings and dead units: more zeros than the ratio leaves room for.
TEST(SelectTopK, FillsUpFromAValueThatIsMostOfTheTensor) {
  for (int one_in : {3, 50, 5000}) {
    expect_kept_for_every_k(
        generate(50000, [&](size_t, auto& e) { return e() % one_in == 0 ? normal(e) : 0.0f; }));
    expect_kept_for_every_k(
        generate(50000, [&](size_t, auto& e) { return e() % one_in == 0 ? normal(e) : 2.5f; }));
  }
}

TEST(SelectTopK, IsExactWhereTheSampleMisleads) {
  const size_t count = 60000;
  expect_kept_for_every_k(generate(count, [](size_t i, auto&) { return static_cast<float>(i); }));
  expect_kept_for_every_k(generate(count, [](size_t i, auto&) { return -static_cast<float>(60000 - i); }));
  // All that matters is in one short run, or at one phase of a period.
  expect_kept_for_every_k(
      generate(count, [](size_t i, auto& e) { return i / 300 == 100 ? 10 + normal(e) : 1e-9f; }));
  expect_kept_for_every_k(
      generate(count, [](size_t i, auto& e) { return i % 32 == 5 ? 10 + normal(e) : normal(e); }));
  expect_kept_for_every_k(
      generate(count, [](size_t, auto& e) { return std::ldexp(1.0f, static_cast<int>(e() % 250) - 140); }));
}

TEST(SelectTopK, NaNAndInfCountAsTheLargest) {
  const float specials[] = {std::numeric_limits<float>::quiet_NaN(),
                            std::numeric_limits<float>::infinity(),
                            -std::numeric_limits<float>::infinity(),
                            std::numeric_limits<float>::max(),
                            std::numeric_limits<float>::denorm_min(),
                            -0.0f,
                            0.0f,
                            bits_float(0xffffffffu)};
  for (size_t count : {8, 300, 30000}) {
    expect_kept_for_every_k(
        generate(count, [&](size_t i, auto& e) { return i % 7 == 0 ? specials[e() % 8] : normal(e); }));
    expect_kept_for_every_k(std::vector<float>(count, bits_float(0xffffffffu)));
  }
}

TEST(SelectTopK, ReadsHalvesAndResidualsAndWritesTheirSum) {
  for (size_t count : {5, 300, 9000}) {
    for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
      const auto wide = generate(count, [](size_t, auto& e) { return normal(e); });
      std::vector<uint16_t> narrow(count);
      std::vector<float> lifted(wide);
      for (size_t i = 0; i < count && dtype != DType::kF32; ++i) {
        narrow[i] = dtype == DType::kF16 ? f32_to_f16(wide[i]) : f32_to_bf16(wide[i]);
        lifted[i] = dtype == DType::kF16 ? f16_to_f32(narrow[i]) : bf16_to_f32(narrow[i]);
      }
      const void* x = dtype == DType::kF32 ? static_cast<const void*>(wide.data()) : narrow.data();
      for (size_t k : interesting_k(count)) {
        expect_kept({dtype, x, nullptr}, lifted, k, nullptr);
        std::vector<float> residual = generate(count, [](size_t, auto& e) { return normal(e) / 2; });
        std::vector<float> sum(count), expected(count);
        for (size_t i = 0; i < count; ++i) expected[i] = lifted[i] + residual[i];
        expect_kept({dtype, x, residual.data()}, expected, k, nullptr);
        expect_kept({dtype, x, residual.data()}, expected, k, sum.data());
        expect_kept({dtype, x, nullptr}, lifted, k, sum.data());
        expect_kept({dtype, x, residual.data()}, expected, k, residual.data());
      }
    }
  }
}

// Halves are compared as they are: every one of them, a signalling NaN too, has the place of its fp32 value.
TEST(SelectTopK, OrdersHalvesAsTheirFp32Values) {
  const size_t count = 1u << 16;
  for (DType dtype : {DType::kF16, DType::kBF16}) {
    std::vector<uint16_t> halves(count);
    std::iota(halves.begin(), halves.end(), uint16_t{0});
    std::shuffle(halves.begin(), halves.end(), std::mt19937(5));
    // Without NaN, and those alone.
    const uint16_t inf = dtype == DType::kF16 ? 0x7c00 : 0x7f80;
    auto numbers = halves;
    std::erase_if(numbers, [&](uint16_t h) { return (h & 0x7fff) > inf; });
    auto nans = halves;
    std::erase_if(nans, [&](uint16_t h) { return (h & 0x7fff) <= inf; });
    for (const auto& some : {halves, numbers, nans}) {
      std::vector<float> lifted(some.size());
      for (size_t i = 0; i < some.size(); ++i) {
        lifted[i] = dtype == DType::kF16 ? f16_to_f32(some[i]) : bf16_to_f32(some[i]);
      }
      for (size_t k : interesting_k(some.size()))
        expect_kept({dtype, some.data(), nullptr}, lifted, k, nullptr);
    }
  }
}

// An input made by somebody who knows the sample's places: all but these are large, so that there are more
// candidates than room, with the sum half written.
TEST(SelectTopK, IsExactWhereTheSampleSawNothingLarge) {
  const size_t stride = 64, count = 64000;
  auto x = generate(count, [](size_t, auto& e) { return 10 + normal(e); });
  for (size_t i = 0; i < count / stride; ++i) {
    const uint32_t fraction = static_cast<uint32_t>(i) * 0x9e3779b9u;
    x[i * stride + ((fraction >> 8) * stride >> 24)] = 1e-3f;
  }
  expect_kept_for_every_k(x);
  std::vector<float> residual = generate(count, [](size_t, auto& e) { return normal(e) * 1e-6f; });
  std::vector<float> sum(count), expected(count);
  for (size_t i = 0; i < count; ++i) expected[i] = x[i] + residual[i];
  expect_kept({DType::kF32, x.data(), residual.data()}, expected, 640, sum.data());
  expect_kept({DType::kF32, x.data(), residual.data()}, expected, 640, residual.data());
}

TEST(KeptCount, IsTheShareRoundedUpAndAtLeastOne) {
  EXPECT_EQ(kept_count(0.01, 1), 1u);
  EXPECT_EQ(kept_count(0.01, 100), 1u);
  EXPECT_EQ(kept_count(0.01, 101), 2u);
  EXPECT_EQ(kept_count(1e-300, 1000), 1u);
  EXPECT_EQ(kept_count(0.5, 7), 4u);
  EXPECT_EQ(kept_count(1, 1), 1u);
  EXPECT_EQ(kept_count(1, uint64_t{1} << 32), uint64_t{1} << 32);
  // Ratios as people write them mean what they say, although neither 0.07 nor 0.07 * 100 is exact.
  for (uint64_t percent = 1; percent <= 100; ++percent) {
    for (uint64_t hundreds : {1, 3, 7, 1000, 40000000}) {
      EXPECT_EQ(kept_count(static_cast<double>(percent) / 100, hundreds * 100), percent * hundreds)
          << percent;
    }
  }
}

}  // namespace
}  // namespace cgx
