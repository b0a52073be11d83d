// topk and randk through the codec interface: what is kept, what comes back, what a residual keeps, the
// bounds of methods' theory, and bytes that no encoder wrote.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "base/half.h"
#include "codec/codec.h"
#include "codec/codecs/randk.h"
#include "codec/codecs/topk.h"
#include "codec/value_block.h"
#include "codec/wire.h"

namespace cgx {
namespace {

const char* const kSpecs[] = {
    "topk:ratio=0.01",
    "topk:ratio=0.1|natural",
    "topk:ratio=0.3|natural8",
    "topk:ratio=0.25|maxmin:bits=4,bucket=64",
    "topk:ratio=0.2|cast:fp16",
    "topk:ratio=0.2|natdither:bits=4,norm=inf,bucket=1024",
    "randk:ratio=0.01",
    "randk:ratio=0.3|natural",
    "randk:ratio=0.2|natural8",
    "randk:ratio=0.15|maxmin:bits=3,bucket=0",
    "randk:ratio=0.9",
    "topk:ratio=0.2|maxmin:bits=8,bucket=65536",
    "topk:ratio=0.01,indices=packed",
    "topk:ratio=0.6,indices=packed|natural8",
    "topk:ratio=0.002,indices=packed|maxmin:bits=4,bucket=64",
};

CodecSpec spec(const std::string& text) {
  auto parsed = parse_spec(text);
  EXPECT_TRUE(parsed.ok()) << parsed.status().message();
  return parsed.ok() ? *parsed : CodecSpec{};
}

std::vector<float> normals(size_t count, uint32_t seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(count);
  for (float& v : x) v = normal(engine);
  return x;
}

std::vector<uint8_t> encoded(const CodecSpec& s, const std::vector<float>& x,
                             const BlockContext& context = {}, Residual residual = {}) {
  std::vector<uint8_t> block(encoded_bytes(s, DType::kF32, x.size()));
  const Status status = encode(s, DType::kF32, x.data(), x.size(), context, residual, block.data());
  EXPECT_TRUE(status.ok()) << status.message();
  return block;
}

std::vector<float> decoded(const CodecSpec& s, const std::vector<uint8_t>& block, size_t count) {
  std::vector<float> out(count, std::numeric_limits<float>::quiet_NaN());
  const Status status = decode(s, DType::kF32, block.data(), count, Into::kAssign, out.data());
  EXPECT_TRUE(status.ok()) << status.message();
  return out;
}

BlockContext with_operation(uint32_t operation) {
  BlockContext context;
  context.key = {.seed = 7, .operation = operation, .tensor = 3, .rank = 1, .stage = 0};
  return context;
}

double square(const std::vector<float>& x) {
  double sum = 0;
  for (float v : x) sum += double{v} * v;
  return sum;
}

double square_distance(const std::vector<float>& x, const std::vector<float>& y) {
  double sum = 0;
  for (size_t i = 0; i < x.size(); ++i) sum += (double{x[i]} - y[i]) * (double{x[i]} - y[i]);
  return sum;
}

// As docs/WIRE.md has it.
size_t index_bytes(const CodecSpec& s, size_t n, size_t k) {
  if (s.indices == IndexCoding::kPlain) return 4 * k;
  const auto l = static_cast<size_t>(std::floor(std::log2(static_cast<double>(n / k))));
  return 4 * ((n - 1) >> (l + 8)) + 4 * ((k * l + 31) / 32) + 4 * ((k + ((n - 1) >> l) + 31) / 32);
}

TEST(Sparse, SizesFollowTheFormula) {
  for (const char* text : kSpecs) {
    const CodecSpec s = spec(text);
    for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
      EXPECT_EQ(encoded_bytes(s, dtype, 0), 0u);
      for (size_t count : {1, 2, 7, 17, 255, 256, 257, 1000, 100003}) {
        const size_t k = kept_count(s.ratio, count);
        const size_t header = s.kind == CodecKind::kTopK ? index_bytes(s, count, k) : 24;
        const size_t layout = header + value_block_bytes(s.values, dtype, k);
        const size_t raw = count * dtype_bytes(dtype);
        EXPECT_EQ(encoded_bytes(s, dtype, count), std::min(layout, raw)) << text << " " << count;
        EXPECT_EQ(is_raw(s, dtype, count), layout >= raw) << text << " " << count;
      }
    }
    EXPECT_EQ(granule(s), 0u);
  }
}

TEST(Sparse, SmallTensorsTravelWhole) {
  for (const char* text : kSpecs) {
    const CodecSpec s = spec(text);
    for (size_t count = 0; count <= 17; ++count) {
      const std::vector<float> x = normals(count, 5);
      const auto y = decoded(s, encoded(s, x), count);
      if (!is_raw(s, DType::kF32, count)) continue;
      EXPECT_EQ(x, y) << text << " " << count;
    }
  }
}

TEST(TopK, KeepsTheLargestExactlyAndNothingElse) {
  const CodecSpec s = spec("topk:ratio=0.01");
  for (size_t count : {300, 5000, 100001}) {
    const std::vector<float> x = normals(count, 1);
    const auto y = decoded(s, encoded(s, x), count);
    const size_t k = kept_count(0.01, count);
    std::vector<float> magnitudes(count);
    for (size_t i = 0; i < count; ++i) magnitudes[i] = std::fabs(x[i]);
    std::nth_element(magnitudes.begin(), magnitudes.begin() + (k - 1), magnitudes.end(), std::greater<>());
    size_t kept = 0;
    for (size_t i = 0; i < count; ++i) {
      const bool large = std::fabs(x[i]) >= magnitudes[k - 1];
      EXPECT_EQ(y[i], large ? x[i] : 0.0f);
      kept += large;
    }
    EXPECT_EQ(kept, k);
  }
}

TEST(Sparse, AnyPartDecodesAsThatPartOfTheWhole) {
  const size_t count = 6001;
  const std::vector<float> x = normals(count, 2);
  for (const char* text : kSpecs) {
    const CodecSpec s = spec(text);
    const auto block = encoded(s, x, with_operation(9));
    const auto whole = decoded(s, block, count);
    for (size_t begin : {0, 1, 256, 1000, 5999, 6001}) {
      for (size_t end : {0, 1, 300, 3000, 6000, 6001}) {
        if (begin > end) continue;
        std::vector<float> part(end - begin, 99), sum(end - begin, 1);
        ASSERT_TRUE(
            decode_part(s, DType::kF32, block.data(), count, begin, end, Into::kAssign, part.data()).ok());
        ASSERT_TRUE(
            decode_part(s, DType::kF32, block.data(), count, begin, end, Into::kAdd, sum.data()).ok());
        for (size_t i = begin; i < end; ++i) {
          ASSERT_EQ(part[i - begin], whole[i]) << text << " [" << begin << ", " << end << ") " << i;
          ASSERT_EQ(sum[i - begin], 1 + whole[i]) << text;
        }
      }
    }
  }
}

TEST(Sparse, TheResidualIsExactlyWhatWasLost) {
  const size_t count = 5003;
  for (const char* text : kSpecs) {
    const CodecSpec s = spec(text);
    for (DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
      const std::vector<float> wide = normals(count, 3), before = normals(count, 4);
      std::vector<uint16_t> narrow(count);
      std::vector<float> lifted(wide);
      for (size_t i = 0; i < count && dtype != DType::kF32; ++i) {
        narrow[i] = dtype == DType::kF16 ? f32_to_f16(wide[i]) : f32_to_bf16(wide[i]);
        lifted[i] = dtype == DType::kF16 ? f16_to_f32(narrow[i]) : bf16_to_f32(narrow[i]);
      }
      const void* x = dtype == DType::kF32 ? static_cast<const void*>(wide.data()) : narrow.data();
      std::vector<uint8_t> block(encoded_bytes(s, dtype, count)), again(block.size());
      std::vector<float> after(count), in_place(before), y(count);
      const BlockContext context = with_operation(2);
      ASSERT_TRUE(encode(s, dtype, x, count, context, {before.data(), after.data()}, block.data()).ok());
      ASSERT_TRUE(encode(s, dtype, x, count, context, {in_place.data(), in_place.data()}, again.data()).ok());
      EXPECT_EQ(block, again) << text;
      EXPECT_EQ(after, in_place) << text;
      ASSERT_TRUE(decode(s, dtype, block.data(), count, Into::kAssign, y.data()).ok());
      for (size_t i = 0; i < count; ++i)
        ASSERT_EQ(after[i], (lifted[i] + before[i]) - y[i]) << text << " " << i;
      // Writing no residual changes no byte.
      ASSERT_TRUE(encode(s, dtype, x, count, context, {before.data(), nullptr}, again.data()).ok());
      EXPECT_EQ(block, again) << text;
    }
  }
}

// E|C_nat(TopK x) - x|^2 <= |x|^2 - (7/8)|TopK x|^2 <= (1 - (7/8) k/d)|x|^2. Both are equalities where all
// magnitudes are (4/3) 2^e: there natural's relative variance m(1-m)/(1+m)^2 is 1/8. Each kept element
// then loses x^2/16 or x^2/4 with probabilities 2/3 and 1/3; a trial's mean over k of them has a standard
// deviation of (3/16) sqrt(2/9) / sqrt(k) x^2, so over R trials 4 of them are 0.36 x^2 / sqrt(k R).
TEST(TopK, WithNaturalIsContractiveByTheKnownFactor) {
  const size_t count = 10000, trials = 50;
  const CodecSpec s = spec("topk:ratio=0.1|natural");
  const double k = static_cast<double>(kept_count(0.1, count));
  std::vector<float> worst(count, 4.0f / 3);
  const std::vector<float> gaussian = normals(count, 6);
  double worst_loss = 0, gaussian_loss = 0;
  for (uint32_t t = 0; t < trials; ++t) {
    worst_loss += square_distance(decoded(s, encoded(s, worst, with_operation(t)), count), worst) / trials;
    gaussian_loss +=
        square_distance(decoded(s, encoded(s, gaussian, with_operation(t)), count), gaussian) / trials;
  }
  const double n = static_cast<double>(count);
  const double delta = 7.0 / 8 * k / n;
  const double x2 = 16.0 / 9;
  EXPECT_NEAR(worst_loss, (1 - delta) * square(worst), 0.36 * x2 * std::sqrt(k / trials));
  EXPECT_LE(gaussian_loss, (1 - delta) * square(gaussian));
}

// Stratum j of size s keeps one element, times s: E y_i = x_i, Var y_i = (s - 1) x_i^2. Over R trials the
// mean lies within 5 standard errors of x_i for all i but a few in a million.
TEST(RandK, IsUnbiasedWithTheKnownVariance) {
  const size_t count = 1003, trials = 5000;
  for (const char* text : {"randk:ratio=0.1", "randk:ratio=0.03", "randk:ratio=0.3"}) {
    const CodecSpec s = spec(text);
    const size_t k = kept_count(s.ratio, count);
    ASSERT_FALSE(is_raw(s, DType::kF32, count));
    const std::vector<float> x = normals(count, 8);
    std::vector<double> mean(count);
    double loss = 0;
    for (uint32_t t = 0; t < trials; ++t) {
      const auto y = decoded(s, encoded(s, x, with_operation(t)), count);
      for (size_t i = 0; i < count; ++i) mean[i] += double{y[i]} / trials;
      loss += square_distance(x, y) / trials;
    }
    double expected_loss = 0;
    for (size_t j = 0; j < k; ++j) {
      const uint64_t begin = stratum_begin(j, k, count), end = stratum_begin(j + 1, k, count);
      for (uint64_t i = begin; i < end; ++i) {
        const double variance = static_cast<double>(end - begin - 1) * x[i] * x[i];
        expected_loss += variance;
        EXPECT_LE(std::fabs(mean[i] - x[i]), 5 * std::sqrt(variance / trials) + 1e-6) << text << " " << i;
      }
    }
    // A trial's loss sums k independent strata of relative spread below 3 for Gaussian x; four standard
    // deviations of the mean over the trials.
    EXPECT_NEAR(loss / expected_loss, 1, 4 * 3 / std::sqrt(static_cast<double>(k * trials))) << text;
    EXPECT_TRUE(is_unbiased(s));
  }
}

TEST(RandK, CompositionIsUnbiasedToo) {
  const size_t count = 517, trials = 5000;
  const CodecSpec s = spec("randk:ratio=0.2|natural");
  const std::vector<float> x = normals(count, 9);
  std::vector<double> mean(count);
  for (uint32_t t = 0; t < trials; ++t) {
    const auto y = decoded(s, encoded(s, x, with_operation(t)), count);
    for (size_t i = 0; i < count; ++i) mean[i] += double{y[i]} / trials;
  }
  // omega of a composition: w1 w2 + w1 + w2 with w1 = s - 1 <= 4, w2 = 1/8.
  for (size_t i = 0; i < count; ++i) {
    EXPECT_LE(std::fabs(mean[i] - x[i]), 5 * std::fabs(x[i]) * std::sqrt((4.0 / 8 + 4 + 1.0 / 8) / trials));
  }
  EXPECT_TRUE(is_unbiased(s));
  EXPECT_FALSE(is_unbiased(spec("randk:ratio=0.2|maxmin:bits=4,rounding=nearest")));
  EXPECT_FALSE(is_unbiased(spec("topk:ratio=0.2|natural")));
}

// A cell of 20000 draws in 10 has a standard deviation of sqrt(20000 * 0.09) = 42; 5 of them are 212.
TEST(RandK, DrawsEveryElementOfAStratumEquallyOften) {
  const uint64_t count = 100, k = 10;
  for (uint64_t j = 0; j < k; ++j) {
    std::vector<int> times(count);
    for (uint32_t t = 0; t < 20000; ++t) ++times[stratum_pick(with_operation(t).key, 0, j, k, count)];
    for (uint64_t i = 0; i < count; ++i) {
      if (i / 10 == j) {
        EXPECT_NEAR(times[i], 2000, 212);
      } else {
        EXPECT_EQ(times[i], 0);
      }
    }
  }
}

TEST(RandK, StrataTileTheBlock) {
  for (uint64_t count : {uint64_t{1}, uint64_t{17}, uint64_t{1003}, uint64_t{1} << 32}) {
    for (uint64_t k : {uint64_t{1}, count / 3 + 1, count}) {
      EXPECT_EQ(stratum_begin(0, k, count), 0u);
      EXPECT_EQ(stratum_begin(k, k, count), count);
      for (uint64_t j : {uint64_t{0}, k / 2, k - 1}) {
        const uint64_t size = stratum_begin(j + 1, k, count) - stratum_begin(j, k, count);
        EXPECT_GE(size, count / k);
        EXPECT_LE(size, count / k + (count % k != 0));
        const uint64_t pick = stratum_pick({}, 0, j, k, count);
        EXPECT_GE(pick, stratum_begin(j, k, count));
        EXPECT_LT(pick, stratum_begin(j + 1, k, count));
      }
    }
  }
}

TEST(RandK, DrawsDifferBetweenRanksTensorsOperationsStagesAndBlocks) {
  auto picks = [](const RandomKey& key, uint64_t first) {
    std::vector<uint64_t> out;
    for (uint64_t j = 0; j < 32; ++j) out.push_back(stratum_pick(key, first, j, 32, 32000));
    return out;
  };
  const RandomKey base = with_operation(1).key;
  std::vector<RandomKey> keys(6, base);
  keys[1].seed += 1;
  keys[2].operation += 1;
  keys[3].tensor += 1;
  keys[4].rank += 1;
  keys[5].stage += 1;
  std::set<std::vector<uint64_t>> seen;
  for (const RandomKey& key : keys) EXPECT_TRUE(seen.insert(picks(key, 0)).second);
  EXPECT_TRUE(seen.insert(picks(base, 256)).second);
  EXPECT_EQ(picks(base, 0), picks(base, 0));
}

TEST(Sparse, NonFiniteInputComesOutNonFiniteAndIsCounted) {
  const float specials[] = {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                            -std::numeric_limits<float>::infinity()};
  const size_t count = 4000;
  for (const char* text : kSpecs) {
    const CodecSpec s = spec(text);
    if (is_raw(s, DType::kF32, count)) continue;
    for (float special : specials) {
      for (size_t at : {0, 1234, 3999}) {
        std::vector<float> x = normals(count, 10);
        x[at] = special;
        CodecCounts counts;
        BlockContext context = with_operation(static_cast<uint32_t>(at));
        context.counts = &counts;
        const auto y = decoded(s, encoded(s, x, context), count);
        EXPECT_GE(std::count_if(y.begin(), y.end(), [](float v) { return !std::isfinite(v); }), 1) << text;
        EXPECT_EQ(counts.non_finite, 1u) << text;
        EXPECT_EQ(counts.elements, count) << text;
      }
    }
  }
}

TEST(Sparse, NonFiniteElementsLeaveNoResidual) {
  const size_t count = 4000;
  for (const char* text : kSpecs) {
    const CodecSpec s = spec(text);
    for (size_t every : {1, 2, 1000}) {
      std::vector<float> x = normals(count, 15), after(count);
      for (size_t i = 0; i < count; i += every) x[i] = std::numeric_limits<float>::infinity();
      encoded(s, x, with_operation(4), {nullptr, after.data()});
      for (size_t i = 0; i < count; ++i) {
        ASSERT_TRUE(std::isfinite(after[i])) << text << " " << i;
        if (i % every != 0) continue;
        ASSERT_EQ(after[i], 0) << text << " " << i;
      }
    }
  }
}

TEST(RandK, FiniteValuesStayFiniteWhenScaled) {
  const size_t count = 1000;
  const CodecSpec s = spec("randk:ratio=0.1");
  const float most = std::numeric_limits<float>::max();
  const std::vector<float> x(count, -most);
  CodecCounts counts;
  BlockContext context = with_operation(1);
  context.counts = &counts;
  const auto y = decoded(s, encoded(s, x, context), count);
  EXPECT_EQ(std::count(y.begin(), y.end(), -most), 100);
  EXPECT_EQ(std::count(y.begin(), y.end(), 0.0f), 900);
  EXPECT_EQ(counts.saturated, 100u);
  EXPECT_EQ(counts.non_finite, 0u);
}

TEST(TopK, RefusesIndicesThatNoEncoderWrites) {
  const size_t count = 1000;
  const CodecSpec s = spec("topk:ratio=0.01");
  const auto good = encoded(s, normals(count, 11));
  auto expect_corrupt = [&](size_t entry, uint32_t index, uint32_t named) {
    auto block = good;
    wire_store(block.data() + 4 * entry, index);
    std::vector<float> y(count, 5);
    const Status status = decode(s, DType::kF32, block.data(), count, Into::kAssign, y.data());
    EXPECT_EQ(status.code(), Code::kCorrupt);
    EXPECT_NE(status.message().find(fmt::format("index {}", named)), std::string::npos) << status.message();
    EXPECT_EQ(y, std::vector<float>(count, 5)) << "a refused block must not write";
  };
  expect_corrupt(9, 1000, 1000);
  expect_corrupt(9, UINT32_MAX, UINT32_MAX);
  const uint32_t second = wire_load<uint32_t>(good.data() + 4), third = wire_load<uint32_t>(good.data() + 8);
  expect_corrupt(3, third, third);  // equal to the entry before it
  expect_corrupt(0, 999, second);   // the entry after it is the first that does not rise

  const CodecSpec packed = spec("topk:ratio=0.01,indices=packed");
  auto block = encoded(packed, normals(count, 11));
  block[8] = 0;  // of the cells, which follow 10 indices of 6 bits
  std::vector<float> y(count, 5);
  EXPECT_EQ(decode(packed, DType::kF32, block.data(), count, Into::kAssign, y.data()).code(), Code::kCorrupt);
  EXPECT_EQ(y, std::vector<float>(count, 5));
}

TEST(RandK, RefusesHeadersThatNoEncoderWrites) {
  const size_t count = 1000;
  const CodecSpec s = spec("randk:ratio=0.1");
  for (size_t at : {18, 19}) {
    auto block = encoded(s, normals(count, 12));
    block[at] = 0x80;
    std::vector<float> y(count);
    EXPECT_EQ(decode(s, DType::kF32, block.data(), count, Into::kAdd, y.data()).code(), Code::kCorrupt);
  }
}

TEST(Sparse, AnyBytesDecodeOrAreRefused) {
  std::mt19937 engine(13);
  for (const char* text : kSpecs) {
    const CodecSpec s = spec(text);
    for (size_t count : {40, 257, 3000}) {
      // Exactly as large as promised, so that the sanitizers see any step outside.
      std::vector<uint8_t> block = encoded(s, normals(count, 14));
      std::vector<float> y(count);
      for (int t = 0; t < 200; ++t) {
        if (t % 50 == 49) {
          for (uint8_t& byte : block) byte = static_cast<uint8_t>(engine());
        } else {
          block[engine() % block.size()] ^= static_cast<uint8_t>(1u << engine() % 8);
        }
        const Status status = decode(s, DType::kF32, block.data(), count, Into::kAdd, y.data());
        EXPECT_TRUE(status.ok() || status.code() == Code::kCorrupt);
        const size_t begin = engine() % count, end = begin + engine() % (count - begin + 1);
        std::vector<float> part(end - begin);
        const Status some =
            decode_part(s, DType::kF32, block.data(), count, begin, end, Into::kAssign, part.data());
        EXPECT_TRUE(some.ok() || some.code() == Code::kCorrupt);
      }
    }
  }
}

TEST(Sparse, BlocksBeyondTheirIndicesAreRefused) {
  uint8_t nothing[64] = {};
  const size_t count = (size_t{1} << 32) + 1;
  for (const char* text : {"topk:ratio=0.01", "randk:ratio=0.01"}) {
    EXPECT_EQ(encode(spec(text), DType::kF32, nothing, count, {}, {}, nothing).code(),
              Code::kInvalidArgument);
    EXPECT_EQ(decode(spec(text), DType::kF32, nothing, count, Into::kAdd, nullptr).code(),
              Code::kInvalidArgument);
  }
}

TEST(Sparse, ErrorFeedbackIsForTopK) {
  EXPECT_TRUE(check_error_feedback(spec("topk:ratio=0.01")).ok());
  EXPECT_TRUE(check_error_feedback(spec("topk:ratio=0.01|natural")).ok());
  EXPECT_FALSE(check_error_feedback(spec("randk:ratio=0.01")).ok());
  EXPECT_FALSE(parse_spec("randk:ratio=0.5|natural+ef").ok());
}

}  // namespace
}  // namespace cgx
