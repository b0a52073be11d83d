// Every CPU path against the scalar one, byte for byte: every dense codec and width, sizes about the edges of
// vectors, groups and buckets, every input type, every kind of feedback, and the values that are not
// plain. What the scalar path gives is compared with the definitions in conformance_test.cc.
#include <limits>
#include <random>

#include "base/half.h"
#include "inputs.h"
#include "spread.h"

namespace cgx {
namespace {

const size_t kCounts[] = {1,   15,  31,  33,  63,  64,  65,  127, 129, 191,  255,
                          256, 257, 320, 511, 512, 513, 600, 767, 768, 1025, 2065};

enum Kind { kGaussian, kNonFinite, kSubnormal, kHuge, kConstant, kZeros, kHalfZeros, kOneSign, kKinds };

// One of the values that definitions treat apart, every 37 elements from `first` on.
void sprinkle(std::vector<float>& x, size_t first, const std::vector<float>& values) {
  for (size_t i = first, j = 0; i < x.size(); i += 37, ++j) x[i] = values[j % values.size()];
}

std::vector<float> input(Kind kind, size_t count) {
  using Limits = std::numeric_limits<float>;
  auto x = gaussian(count, static_cast<uint32_t>(100 + count));
  const float nan = bits_float(0x7fffffffu);  // a carry out of its mantissa would change its sign
  switch (kind) {
    case kNonFinite:
      sprinkle(x, count / 3, {nan, -Limits::infinity(), bits_float(0xff800001u), Limits::infinity()});
      break;
    case kSubnormal:
      sprinkle(x, 0, {1e-40f, -Limits::denorm_min(), 0x1p-126f, -0x1.8p-110f, 0x1p-109f, -0.0f});
      break;
    case kHuge:
      sprinkle(x, 0, {Limits::max(), 0x1p127f, -0x1.fp126f, 65504.0f, -65520.0f, 0x1.8p16f});
      break;
    case kConstant:
      std::fill(x.begin(), x.end(), -3.25f);
      break;
    case kZeros:
      for (size_t i = 0; i < count; ++i) x[i] = i % 3 == 0 ? -0.0f : 0.0f;
      break;
    case kHalfZeros:
      for (size_t i = 0; i < count; i += 2) x[i] = 0.0f;
      break;
    case kOneSign:  // a bucket's elements; zeros are of its sign, and then of the other
      for (size_t i = 0; i < count; ++i) {
        const bool negative = i / 512 % 2 != 0;
        x[i] = i % 37 == 0 ? 0.0f : std::fabs(x[i]);
        if (negative != (i > 1024 && i % 37 == 0)) x[i] = -x[i];
      }
      break;
    default:
      break;
  }
  return x;
}

std::vector<uint8_t> stored(DType dtype, const std::vector<float>& x) {
  std::vector<uint8_t> bytes(x.size() * dtype_bytes(dtype));
  for (size_t i = 0; i < x.size(); ++i) {
    const uint16_t half = dtype == DType::kF16 ? f32_to_f16(x[i]) : f32_to_bf16(x[i]);
    if (dtype == DType::kF32) {
      memcpy(&bytes[4 * i], &x[i], 4);
    } else {
      memcpy(&bytes[2 * i], &half, 2);
    }
  }
  return bytes;
}

struct Case {
  DType dtype;
  Kind kind;
  size_t count;
  bool before, after, decoded;
};

template <typename T>
void append(std::vector<uint8_t>& to, const std::vector<T>& values) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(values.data());
  to.insert(to.end(), bytes, bytes + values.size() * sizeof(T));
}

// `count` floats that begin at a multiple of 64 bytes, or an element later: only the former can be written
// past the caches.
class Floats {
 public:
  Floats(size_t count, bool aligned, float value) : count_(count), room_(count + 32, value) {
    const auto address = reinterpret_cast<uintptr_t>(room_.data());
    skip_ = (64 - address % 64) % 64 / sizeof(float) + (aligned ? 0 : 1);
  }
  float* data() { return room_.data() + skip_; }
  std::vector<float> values() { return {data(), data() + count_}; }

 private:
  size_t count_, skip_;
  std::vector<float> room_;
};

// The other ways to the same values: past the caches, and added to what lies elsewhere.
void expect_other_ways(const CodecSpec& spec, const Case& c, const std::vector<uint8_t>& block,
                       const std::vector<float>& whole, const std::vector<float>& sum) {
  for (const bool aligned : {true, false}) {
    Floats streamed(c.count, aligned, 1.0f);
    EXPECT_TRUE(decode(spec, c.dtype, block.data(), c.count, Into::kStream, streamed.data()).ok());
    EXPECT_EQ(bits_of(streamed.values()), bits_of(whole)) << "aligned: " << aligned;
  }
  const std::vector<float> addend(c.count, 1.5f);
  std::vector<float> apart(c.count);
  EXPECT_TRUE(
      decode_part(spec, c.dtype, block.data(), c.count, 0, c.count, Into::kAdd, apart.data(), addend.data())
          .ok());
  EXPECT_EQ(bits_of(apart), bits_of(sum));
}

// What encoding gives back past the caches, while it asks for other memory.
void expect_streamed_back(const CodecSpec& spec, const Case& c, BlockContext context,
                          const std::vector<uint8_t>& x, const std::vector<uint8_t>& block,
                          const std::vector<float>& whole) {
  context.counts = nullptr;
  const std::vector<float> next(c.count);
  context.read_next = next.data();
  for (const bool aligned : {true, false}) {
    Floats streamed(c.count, aligned, 1.0f);
    std::vector<uint8_t> again(block.size());
    EXPECT_TRUE(encode(spec, c.dtype, x.data(), c.count, context, {nullptr, nullptr, streamed.data(), true},
                       again.data())
                    .ok());
    EXPECT_EQ(again, block);
    EXPECT_EQ(bits_of(streamed.values()), bits_of(whole)) << "aligned: " << aligned;
  }
}

// Everything that encoding and decoding a case gives.
std::vector<uint8_t> outcome(const CodecSpec& spec, const Case& c) {
  const auto x = stored(c.dtype, input(c.kind, c.count));
  auto residual = gaussian(c.count, 7, 0.1f);
  std::vector<float> decoded(c.count, 1.0f);
  std::vector<float> sum(c.count, 1.5f);
  CodecCounts counts;
  BlockContext context = {{.seed = 9, .operation = 5, .tensor = 3, .rank = 2, .stage = 1}, 256, &counts};
  std::vector<uint8_t> all(encoded_bytes(spec, c.dtype, c.count));
  const size_t block_bytes = all.size();
  const float* before = c.before ? residual.data() : nullptr;
  float* after = c.after ? residual.data() : nullptr;
  EXPECT_TRUE(encode(spec, c.dtype, x.data(), c.count, context,
                     {before, after, c.decoded ? decoded.data() : nullptr}, all.data())
                  .ok());
  const std::vector<uint8_t> block(all.begin(), all.begin() + block_bytes);
  EXPECT_TRUE(decode(spec, c.dtype, block.data(), c.count, Into::kAdd, sum.data()).ok());
  const std::vector<float> whole = decode_all(spec, block, c.count, c.dtype);
  EXPECT_TRUE(!c.decoded || bits_of(decoded) == bits_of(whole)) << "given back";
  expect_other_ways(spec, c, block, whole, sum);
  if (c.decoded && !c.before && !c.after) expect_streamed_back(spec, c, context, x, block, whole);
  append(all, whole);
  append(all, residual);
  append(all, sum);
  append(all, std::vector<uint64_t>{counts.elements, counts.saturated, counts.non_finite});
  return all;
}

std::vector<std::string> specs() {
  auto specs = dense_specs();
  for (const CodecRow& row : codec_rows()) {
    if (row.layout_bytes != nullptr) continue;
    for (int bits = 1; bits <= 8; ++bits) {
      for (const int bucket : {32, 64, 256, 512}) {
        const std::string text = fmt::format("{}:bits={},bucket={}", row.name, bits, bucket);
        if (parse_spec(text).ok()) specs.push_back(text);
      }
    }
    const std::string few = fmt::format("{}:bits=7,levels=20", row.name);
    if (parse_spec(few).ok()) specs.push_back(few);
  }
  return specs;
}

class CpuPaths : public testing::TestWithParam<std::string> {
 protected:
  // What each path gives for a case, compared with what the first, scalar one gives.
  void compare(const CodecSpec& spec, const Case& c) {
    std::vector<uint8_t> expected;
    for (const std::string_view path : cpu_paths()) {
      ASSERT_TRUE(force_cpu_path(path).ok());
      const auto got = outcome(spec, c);
      if (path == cpu_paths().front()) expected = got;
      ASSERT_EQ(got, expected) << path << ": " << c.count << " of kind " << c.kind << ", "
                               << dtype_name(c.dtype) << ", feedback " << c.before << c.after << c.decoded;
    }
  }
  void TearDown() override { ASSERT_TRUE(force_cpu_path("").ok()); }
};

TEST_P(CpuPaths, GiveTheSameBytes) {
  const CodecSpec spec = spec_of(GetParam());
  for (const size_t count : kCounts) {
    for (int kind = 0; kind < kKinds; ++kind) {
      for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
        compare(spec, {dtype, static_cast<Kind>(kind), count, false, false, false});
        compare(spec, {dtype, static_cast<Kind>(kind), count, true, true, false});
      }
    }
  }
}

TEST_P(CpuPaths, GiveBackTheSame) {
  const CodecSpec spec = spec_of(GetParam());
  for (const size_t count : {33ul, 256ul, 700ul, 1025ul}) {
    for (int kind = 0; kind < kKinds; ++kind) {
      for (int feedback = 1; feedback < 8; ++feedback) {
        const bool before = (feedback & 1) != 0;
        const bool after = (feedback & 2) != 0;
        compare(spec, {DType::kF32, static_cast<Kind>(kind), count, before, after, feedback >= 4});
        if (feedback < 4) continue;
        for (const DType half : {DType::kF16, DType::kBF16}) {
          compare(spec, {half, static_cast<Kind>(kind), count, before, after, true});
        }
      }
    }
  }
}

// All 65536 halves, each with eight draws: what is encoded without widening rounds as its definition does.
TEST_P(CpuPaths, RoundEveryHalfTheSame) {
  const CodecSpec spec = spec_of(GetParam());
  std::vector<uint16_t> halves(1u << 16);
  for (size_t i = 0; i < halves.size(); ++i) halves[i] = static_cast<uint16_t>(i);
  for (const DType dtype : {DType::kF16, DType::kBF16}) {
    for (uint32_t operation = 0; operation < 8; ++operation) {
      std::vector<uint8_t> expected;
      for (const std::string_view path : cpu_paths()) {
        ASSERT_TRUE(force_cpu_path(path).ok());
        CodecCounts counts;
        const BlockContext context = {{.seed = 11, .operation = operation}, 0, &counts};
        std::vector<uint8_t> block(encoded_bytes(spec, dtype, halves.size()));
        ASSERT_TRUE(encode(spec, dtype, halves.data(), halves.size(), context, {}, block.data()).ok());
        append(block, std::vector<uint64_t>{counts.elements, counts.saturated, counts.non_finite});
        if (path == cpu_paths().front()) expected = block;
        ASSERT_EQ(block, expected) << path << ": " << dtype_name(dtype) << ", operation " << operation;
      }
    }
  }
}

// Blocks that no encoder made: any bytes that are taken decode to the same bits.
TEST_P(CpuPaths, DecodeAnyBytesTheSame) {
  const CodecSpec spec = spec_of(GetParam());
  std::mt19937 random(7);
  for (const size_t count : {600, 1025}) {
    std::vector<uint8_t> block(encoded_bytes(spec, DType::kF32, count));
    for (int trial = 0; trial < 8; ++trial) {
      for (uint8_t& byte : block) byte = static_cast<uint8_t>(random());
      std::vector<uint32_t> expected;
      for (const std::string_view path : cpu_paths()) {
        ASSERT_TRUE(force_cpu_path(path).ok());
        std::vector<float> values(count);
        const bool taken = decode(spec, DType::kF32, block.data(), count, Into::kAssign, values.data()).ok();
        const auto bits = taken ? bits_of(values) : std::vector<uint32_t>();
        if (path == cpu_paths().front()) expected = bits;
        ASSERT_EQ(bits, expected) << path << ": " << count << ", trial " << trial;
      }
    }
  }
}

std::string test_name(const testing::TestParamInfo<std::string>& info) {
  std::string name = info.param + "_" + std::to_string(info.index);
  for (char& ch : name) ch = std::isalnum(ch) != 0 ? ch : '_';
  return name;
}
INSTANTIATE_TEST_SUITE_P(Dense, CpuPaths, testing::ValuesIn(specs()), test_name);

}  // namespace
}  // namespace cgx
