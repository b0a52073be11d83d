// The conformance suite of the codec registry: every listed codec at every value its ranges name.
#include <algorithm>
#include <limits>

#include "inputs.h"
#include "reference.h"
#include "spread.h"

namespace cgx {
namespace {

class Codecs : public testing::TestWithParam<std::string> {
 protected:
  CodecSpec spec_ = spec_of(GetParam());
};
class DenseCodecsTest : public Codecs {};

std::string test_name(const testing::TestParamInfo<std::string>& info) {
  std::string name = info.param;
  for (char& c : name) c = std::isalnum(c) != 0 ? c : '_';
  return name;
}
INSTANTIATE_TEST_SUITE_P(Registry, Codecs, testing::ValuesIn(all_specs()), test_name);
INSTANTIATE_TEST_SUITE_P(Registry, DenseCodecsTest, testing::ValuesIn(dense_specs()), test_name);

constexpr float kMax = std::numeric_limits<float>::max();
constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
const size_t kOddCounts[] = {1, 2, 3, 7, 8, 9, 31, 33, 255, 256, 257, 511, 512, 513, 767, 1025, 5000};

bool saturates(const CodecSpec& spec, const std::vector<float>& x) {
  CodecCounts counts;
  BlockContext context;
  context.counts = &counts;
  encode_all(spec, x, context);
  return counts.saturated != 0;
}

TEST_P(Codecs, PrintsAndParsesBackToItself) {
  const auto again = parse_spec(to_string(spec_));
  ASSERT_TRUE(again.ok()) << again.status().message();
  EXPECT_EQ(*again, spec_);
  EXPECT_EQ(to_string(*again), to_string(spec_));
}

TEST_P(Codecs, EncodingNothingIsEmpty) {
  EXPECT_EQ(encoded_bytes(spec_, DType::kF32, 0), 0u);
  EXPECT_TRUE(encode(spec_, DType::kF32, nullptr, 0, {}, {}, nullptr).ok());
  EXPECT_TRUE(decode(spec_, DType::kF32, nullptr, 0, Into::kAssign, nullptr).ok());
}

TEST_P(Codecs, WritesExactlyItsSizeAndNeverMoreThanRaw) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    for (const size_t count : {1ul, 7ul, 8ul, 9ul, 255ul, 256ul, 257ul, 511ul, 512ul, 513ul, 1'000'003ul}) {
      const size_t bytes = encoded_bytes(spec_, dtype, count);
      EXPECT_LE(bytes, count * dtype_bytes(dtype)) << count;
      EXPECT_TRUE(!is_raw(spec_, dtype, count) || bytes == count * dtype_bytes(dtype));
      // Two fillings of the buffer show which bytes are written.
      std::vector<uint16_t> x(2 * count, 0x3c01);
      std::vector<uint8_t> a(bytes + 16, 0xaa);
      std::vector<uint8_t> b(bytes + 16, 0x55);
      ASSERT_TRUE(encode(spec_, dtype, x.data(), count, {}, {}, a.data()).ok());
      ASSERT_TRUE(encode(spec_, dtype, x.data(), count, {}, {}, b.data()).ok());
      size_t written = 0;
      while (written < a.size() && a[written] == b[written]) ++written;
      EXPECT_EQ(written, bytes) << count << " " << dtype_name(dtype);
      for (size_t i = bytes; i < a.size(); ++i) ASSERT_EQ(a[i], 0xaa);
    }
  }
}

TEST_P(Codecs, IsDeterministicAndRanksDrawDifferently) {
  const auto x = gaussian(4096, 1);
  BlockContext context;
  context.key = {.seed = 7, .operation = 3, .tensor = 5, .rank = 1, .stage = 0};
  const auto block = encode_all(spec_, x, context);
  EXPECT_EQ(block, encode_all(spec_, x, context));
  bool any_differs = false;
  for (int field = 0; field < 5; ++field) {
    BlockContext other = context;
    if (field == 0) other.key.seed = 8;
    if (field == 1) other.key.operation = 4;
    if (field == 2) other.key.tensor = 6;
    if (field == 3) other.key.rank = 2;
    if (field == 4) other.key.stage = 1;
    any_differs |= encode_all(spec_, x, other) != block;
  }
  const bool deterministic = !is_unbiased(spec_) || is_raw(spec_, DType::kF32, x.size());
  EXPECT_TRUE(any_differs || deterministic || spec_.kind == CodecKind::kNone);
}

TEST_P(Codecs, DecodeAddAddsWhatDecodeAssigns) {
  const auto x = gaussian(1500, 2);
  const auto block = encode_all(spec_, x);
  const auto assigned = decode_all(spec_, block, x.size());
  auto added = gaussian(1500, 3);
  auto expected = added;
  for (size_t i = 0; i < x.size(); ++i) expected[i] += assigned[i];
  ASSERT_TRUE(decode(spec_, DType::kF32, block.data(), x.size(), Into::kAdd, added.data()).ok());
  EXPECT_EQ(bits_of(added), bits_of(expected));
}

TEST_P(Codecs, DecodesPartsToTheSameElements) {
  const auto x = gaussian(3000, 4);
  const auto block = encode_all(spec_, x);
  const auto whole = decode_all(spec_, block, x.size());
  const size_t step = granule(spec_) == 0 ? 256 : granule(spec_);
  for (size_t begin = 0; begin < x.size(); begin += step) {
    const size_t end = std::min(x.size(), begin + step + 77);
    std::vector<float> part(end - begin);
    ASSERT_TRUE(
        decode_part(spec_, DType::kF32, block.data(), x.size(), begin, end, Into::kAssign, part.data()).ok());
    EXPECT_EQ(bits_of(part), bits_of({whole.begin() + begin, whole.begin() + end})) << begin;
  }
}

TEST_P(Codecs, BlocksOfPiecesConcatenateToTheBlockOfTheWhole) {
  const size_t g = granule(spec_);
  if (g == 0) GTEST_SKIP() << "such a block is never cut";
  EXPECT_EQ(g % kGroup, 0u);
  const auto x = gaussian(3 * g + 2, 5);
  BlockContext context;
  context.first = 1024;
  const auto whole = encode_all(spec_, x, context);
  std::vector<uint8_t> pieces;
  for (size_t at = 0; at < x.size(); at += g) {
    BlockContext piece = context;
    piece.first += at;
    const std::vector<float> part(x.begin() + at, x.begin() + std::min(x.size(), at + g));
    const auto block = encode_all(spec_, part, piece);
    pieces.insert(pieces.end(), block.begin(), block.end());
  }
  EXPECT_EQ(pieces, whole);
}

TEST_P(Codecs, ResidualIsWhatTheBlockDoesNotSay) {
  for (const size_t count : kOddCounts) {
    const auto x = gaussian(count, 6);
    const auto before = gaussian(count, 7, 0.1f);
    std::vector<float> sum(count);
    for (size_t i = 0; i < count; ++i) sum[i] = x[i] + before[i];
    std::vector<float> after = before;  // in place
    const auto block = encode_all(spec_, x, {}, {after.data(), after.data()});
    EXPECT_EQ(block, encode_all(spec_, sum)) << count;
    const auto decoded = decode_all(spec_, block, count);
    for (size_t i = 0; i < count; ++i) ASSERT_EQ(after[i], sum[i] - decoded[i]) << i << " of " << count;
  }
}

TEST_P(Codecs, HalvesAreEncodedAsTheirValues) {
  for (const DType dtype : {DType::kF16, DType::kBF16}) {
    const auto source = gaussian(2000, 8);
    std::vector<uint16_t> half(source.size());
    std::vector<float> wide(source.size());
    for (size_t i = 0; i < source.size(); ++i) {
      half[i] = dtype == DType::kF16 ? f32_to_f16(source[i]) : f32_to_bf16(source[i]);
      wide[i] = dtype == DType::kF16 ? f16_to_f32(half[i]) : bf16_to_f32(half[i]);
    }
    std::vector<uint8_t> block(encoded_bytes(spec_, dtype, half.size()));
    ASSERT_TRUE(encode(spec_, dtype, half.data(), half.size(), {}, {}, block.data()).ok());
    const auto decoded = decode_all(spec_, block, half.size(), dtype);
    if (is_raw(spec_, dtype, half.size())) {
      EXPECT_EQ(bits_of(decoded), bits_of(wide));
    } else if (!is_raw(spec_, DType::kF32, half.size())) {
      EXPECT_EQ(bits_of(decoded), bits_of(round_trip(spec_, wide)));
    }
  }
}

TEST_P(Codecs, DecodesAnyBytesWithinItsBuffers) {
  std::mt19937 generator(9);
  for (const size_t count : kOddCounts) {
    for (int trial = 0; trial < 8; ++trial) {
      // Exact sizes on the heap, so that the address sanitizer sees a step outside.
      std::vector<uint8_t> block(encoded_bytes(spec_, DType::kF32, count));
      for (uint8_t& byte : block) byte = static_cast<uint8_t>(generator());
      std::vector<float> out(count);
      const Status status = decode(spec_, DType::kF32, block.data(), count, Into::kAdd, out.data());
      EXPECT_TRUE(status.ok() || status.code() == Code::kCorrupt) << status.message();
    }
  }
}

TEST_P(Codecs, FiniteElementsStayFinite) {
  for (const float huge : {kMax, -kMax, 0x1p127f, 70000.0f}) {
    for (const float rest : {0.0f, 1e-40f, 1.0f, -kMax, kMax}) {
      std::vector<float> x(600, rest);
      x[0] = huge;
      x[301] = -1;
      for (const float v : round_trip(spec_, x)) ASSERT_TRUE(std::isfinite(v)) << huge << " among " << rest;
    }
  }
}

TEST_P(Codecs, ZerosStayZeros) {
  std::vector<float> x(1000, 0.0f);
  for (size_t i = 0; i < x.size(); i += 3) x[i] = -0.0f;
  for (const float v : round_trip(spec_, x)) ASSERT_EQ(v, 0.0f);
}

TEST_P(Codecs, NonFiniteElementsComeOutNonFiniteAndAreCounted) {
  const auto x = gaussian(70000, 10);
  const auto clean = round_trip(spec_, x);
  for (const float bad : {kInf, -kInf, kNan}) {
    auto spoilt = x;
    spoilt[1234] = bad;
    CodecCounts counts;
    BlockContext context;
    context.counts = &counts;
    std::vector<float> after(x.size(), 0.0f);
    const auto block = encode_all(spec_, spoilt, context, {after.data(), after.data()});
    const auto decoded = decode_all(spec_, block, x.size());
    // A sparse codec may let another element speak for it, a bucket all of its own.
    const auto is_bad = [](float v) { return !std::isfinite(v); };
    EXPECT_TRUE(is_sparse(spec_) ? std::any_of(decoded.begin(), decoded.end(), is_bad)
                                 : is_bad(decoded[1234]));
    EXPECT_TRUE(std::none_of(after.begin(), after.end(), is_bad)) << "a residual is never poisoned";
    EXPECT_EQ(counts.elements, x.size());
    EXPECT_EQ(counts.non_finite, is_raw(spec_, DType::kF32, x.size()) ? 0u : 1u);
    const size_t g = granule(spec_);
    for (size_t i = 0; g != 0 && i < x.size(); ++i) {
      if (i / g == 1234 / g) continue;
      ASSERT_EQ(float_bits(decoded[i]), float_bits(clean[i])) << "a neighbour";
    }
  }
}

TEST_P(Codecs, MeanOfManyDrawsIsTheInput) {
  if (!is_unbiased(spec_) || spec_.kind == CodecKind::kNone) GTEST_SKIP() << "biased or exact";
  constexpr int kDraws = 400;
  const auto x = gaussian(2048, 11);
  if (saturates(spec_, x)) GTEST_SKIP() << "unbiased within its range, and this is above it";
  std::vector<double> sum(x.size());
  double error = 0;
  double norm = 0;
  for (const float v : x) norm += static_cast<double>(v) * v;
  for (int draw = 0; draw < kDraws; ++draw) {
    BlockContext context;
    context.key.operation = static_cast<uint32_t>(draw);
    const auto y = round_trip(spec_, x, context);
    error += nmse(y, x) / kDraws;
    for (size_t i = 0; i < x.size(); ++i) sum[i] += y[i];
  }
  double bias = 0;
  for (size_t i = 0; i < x.size(); ++i) bias += std::pow(sum[i] / kDraws - x[i], 2);
  // Independent draws leave an expected squared error of error / kDraws; of 2048 terms the sum
  // concentrates within a few percent, so 4 in the root is far out. 1e-6: fp32 itself.
  EXPECT_LE(std::sqrt(bias / norm), 4 * std::sqrt(error / kDraws) + 1e-6);
}

TEST_P(DenseCodecsTest, DriversReproduceTheDefinition) {
  BlockContext context;
  context.key = {.seed = 0x123456789abcdefull, .operation = 3, .tensor = 4, .rank = 5, .stage = 1};
  context.first = 2560;
  for (const size_t count : kOddCounts) {
    for (const float scale : {1.0f, 1e-40f, 1e-30f, 1e38f}) {
      auto x = gaussian(count, 12, scale);
      for (float& v : x) v = std::isfinite(v) ? v : kMax;
      if (count > 600) x[600] = kNan;
      std::vector<uint8_t> block;
      std::vector<float> decoded;
      const auto draw = [&](uint64_t i) { return random_draw(context.key, context.first + i); };
      if (!reference::encode_dense(spec_.values, x, draw, block, decoded)) GTEST_SKIP() << "no arithmetic";
      auto got = encode_all(spec_, x, context);
      auto values = decode_all(spec_, got, count);
      if (got.size() != block.size()) {  // a raw tail: compare what is encoded
        const size_t unit = granule(spec_);
        const size_t full = unit == 0 ? 0 : count / unit * unit;
        const size_t bytes = encoded_bytes(spec_, DType::kF32, full);
        got.resize(bytes);
        block.resize(bytes);
        values.resize(full);
        decoded.resize(full);
      }
      ASSERT_EQ(got, block) << count << " of " << scale;
      ASSERT_EQ(bits_of(values), bits_of(decoded)) << count << " of " << scale;
    }
  }
}

TEST_P(DenseCodecsTest, EveryCpuPathGivesTheSameBytes) {
  const auto x = gaussian(70001, 13);
  std::vector<uint16_t> half(x.size());
  for (size_t i = 0; i < x.size(); ++i) half[i] = static_cast<uint16_t>(i);  // every fp16, NaN too
  std::vector<std::vector<uint8_t>> blocks;
  std::vector<std::vector<uint32_t>> decoded;
  for (const std::string_view path : cpu_paths()) {
    ASSERT_TRUE(force_cpu_path(path).ok());
    std::vector<float> after(x.size());
    blocks.push_back(encode_all(spec_, x, {}, {nullptr, after.data()}));
    decoded.push_back(bits_of(decode_all(spec_, blocks.back(), x.size())));
    for (const DType dtype : {DType::kF16, DType::kBF16}) {
      std::vector<uint8_t> block(encoded_bytes(spec_, dtype, half.size()));
      ASSERT_TRUE(
          encode(spec_, dtype, half.data(), half.size(), {}, {nullptr, after.data()}, block.data()).ok());
      blocks.back().insert(blocks.back().end(), block.begin(), block.end());
      const auto residual = bits_of(after);
      decoded.back().insert(decoded.back().end(), residual.begin(), residual.end());
    }
    EXPECT_EQ(blocks.back(), blocks.front()) << path;
    EXPECT_EQ(decoded.back(), decoded.front()) << path;
  }
  ASSERT_TRUE(force_cpu_path("").ok());
}

TEST_P(DenseCodecsTest, MeasuredErrorIsTheCellsVariance) {
  // A multiple of every unit, so that nothing is raw; several draws of a large sample put the
  // estimate's own deviation near 1 %.
  const auto x = gaussian(65536, 14);
  reference::Cells cells;
  if (!reference::cells_of(spec_.values, x, cells)) GTEST_SKIP() << "no arithmetic";
  const double exact = reference::cells_nmse(cells, x);
  constexpr int kDraws = 20;
  double measured = 0;
  for (int draw = 0; draw < kDraws; ++draw) {
    BlockContext context;
    context.key.operation = static_cast<uint32_t>(draw);
    measured += nmse(round_trip(spec_, x, context), x) / kDraws;
  }
  // 5 % as in methods; 1e-13: where a code is exact, what is left is fp32's own rounding.
  EXPECT_NEAR(measured, exact, 0.05 * exact + 1e-13);
}

TEST_P(DenseCodecsTest, ExpectationOfEachElementIsTheElement) {
  if (!is_unbiased(spec_)) GTEST_SKIP() << "biased";
  const auto x = gaussian(512, 15);
  if (saturates(spec_, x)) GTEST_SKIP() << "unbiased within its range, and this is above it";
  reference::Cells cells;
  if (!reference::cells_of(spec_.values, x, cells)) GTEST_SKIP() << "no arithmetic";
  // The least draw that rounds up, for all elements at once, by bisection.
  std::vector<uint64_t> below(x.size(), 0);
  std::vector<uint64_t> above(x.size(), uint64_t{1} << 32);
  std::vector<uint8_t> block;
  std::vector<float> y;
  while (above[0] - below[0] > 1) {
    const auto middle = [&](uint64_t i) { return static_cast<uint32_t>((below[i] + above[i]) / 2); };
    ASSERT_TRUE(reference::encode_dense(spec_.values, x, middle, block, y));
    for (size_t i = 0; i < x.size(); ++i) (y[i] == cells.low[i] ? below : above)[i] = middle(i);
  }
  float largest = 0;
  for (const float v : x) largest = std::max(largest, std::fabs(v));
  for (size_t i = 0; i < x.size(); ++i) {
    const double up = 1 - std::ldexp(static_cast<double>(above[i]), -32);
    const double mean = cells.low[i] + up * (static_cast<double>(cells.high[i]) - cells.low[i]);
    // The draw has 23 bits of the cell, and position and value some four fp32 roundings, of which
    // the coarsest is relative to the bucket's range (a level's position has its width in bits less).
    const double cell = std::fabs(static_cast<double>(cells.high[i]) - cells.low[i]);
    ASSERT_NEAR(mean, x[i], std::ldexp(cell, -22) + std::ldexp(4.0 * largest, -22)) << i;
  }
}

}  // namespace
}  // namespace cgx
