// Frames: round trips, every damage refused, and the golden files reproduced byte for byte on every CPU
// path. CGX_GOLDEN_DIR is set by CMake.
#include "codec/frame.h"

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <map>
#include <random>
#include <string>

#include "base/crc32c.h"
#include "codec/wire.h"
#include "golden_cases.h"

namespace cgx {
namespace {

std::vector<uint8_t> sample_frame(std::vector<uint8_t>& block) {
  const CodecSpec spec = *parse_spec("topk:ratio=0.1|natural");
  const golden::Case c = {"topk:ratio=0.1|natural", DType::kF32, 300};
  block.resize(encoded_bytes(spec, c.dtype, c.count));
  EXPECT_TRUE(
      encode(spec, c.dtype, golden::input(c).data(), c.count, golden::context(), {}, block.data()).ok());
  return write_frame({spec, c.dtype, c.count, block});
}

TEST(Frame, SaysWhatItHolds) {
  std::vector<uint8_t> block;
  const auto bytes = sample_frame(block);
  const auto frame = read_frame(bytes);
  ASSERT_TRUE(frame.ok()) << frame.status().message();
  EXPECT_EQ(frame->spec, *parse_spec("topk:ratio=0.1|natural"));
  EXPECT_EQ(frame->dtype, DType::kF32);
  EXPECT_EQ(frame->count, 300u);
  EXPECT_TRUE(std::equal(block.begin(), block.end(), frame->block.begin(), frame->block.end()));
}

TEST(Frame, HoldsNothingAndIntegersToo) {
  for (DType dtype : {DType::kF32, DType::kI64, DType::kU8}) {
    for (uint64_t count : {0, 3}) {
      const std::vector<uint8_t> block(count * dtype_bytes(dtype), 5);
      const auto bytes = write_frame({*parse_spec("none"), dtype, count, block});
      const auto frame = read_frame(bytes);
      ASSERT_TRUE(frame.ok()) << frame.status().message();
      EXPECT_EQ(frame->dtype, dtype);
      EXPECT_EQ(frame->count, count);
    }
  }
}

// Every field is under a checksum, and a CRC finds any single flipped bit.
TEST(Frame, AnyFlippedBitIsFound) {
  std::vector<uint8_t> block;
  const auto good = sample_frame(block);
  for (size_t bit = 0; bit < 8 * good.size(); ++bit) {
    auto bad = good;
    bad[bit / 8] ^= static_cast<uint8_t>(1u << bit % 8);
    const auto frame = read_frame(bad);
    ASSERT_FALSE(frame.ok()) << "bit " << bit;
    EXPECT_TRUE(frame.status().code() == Code::kCorrupt || frame.status().code() == Code::kUnsupported);
    EXPECT_FALSE(frame.status().message().empty());
  }
}

TEST(Frame, AnyOtherLengthIsFound) {
  std::vector<uint8_t> block;
  auto bytes = sample_frame(block);
  for (size_t n = 0; n < bytes.size(); ++n) EXPECT_FALSE(read_frame(std::span(bytes).first(n)).ok()) << n;
  bytes.push_back(0);
  EXPECT_EQ(read_frame(bytes).status().code(), Code::kCorrupt);
}

// Checksums that fit, contents that do not.
TEST(Frame, WellSignedNonsenseIsRefused) {
  const std::vector<uint8_t> block(12);
  const CodecSpec natural = *parse_spec("natural");
  const Frame lies[] = {
      {natural, DType::kF32, 1000, block},                        // another size
      {natural, DType::kI32, 3, block},                           // a type it does not take
      {natural, DType::kF32, UINT64_MAX, block},                  // overflows
      {*parse_spec("topk:ratio=1"), DType::kF32, ~0ull / 4, {}},  // overflows in sums
  };
  for (const Frame& lie : lies) {
    const auto bytes = write_frame(lie);
    EXPECT_EQ(read_frame(bytes).status().code(), Code::kCorrupt);
  }
}

TEST(Frame, AnyBytesAreReadOrRefused) {
  std::mt19937 engine(1);
  std::vector<uint8_t> block;
  const auto good = sample_frame(block);
  for (int t = 0; t < 2000; ++t) {
    auto bytes = good;
    bytes.resize(engine() % (good.size() + 20));
    for (int flips = 0; flips < 4 && !bytes.empty(); ++flips) {
      bytes[engine() % std::min<size_t>(bytes.size(), 40)] = static_cast<uint8_t>(engine());
    }
    EXPECT_FALSE(read_frame(bytes).ok());
  }
}

class Golden : public ::testing::TestWithParam<golden::Case> {};

std::vector<uint8_t> read_golden(const std::string& name) {
  std::ifstream file(std::string(CGX_GOLDEN_DIR) + "/" + name, std::ios::binary);
  EXPECT_TRUE(file.good()) << name << " is missing: add it with cgx_write_golden";
  return {std::istreambuf_iterator<char>(file), {}};
}

uint32_t decoded_crc(const std::string& name) {
  std::ifstream file(std::string(CGX_GOLDEN_DIR) + "/decoded.txt");
  std::map<std::string, uint32_t> crcs;
  std::string key;
  for (uint32_t crc; file >> key >> std::hex >> crc;) crcs[key] = crc;
  EXPECT_TRUE(crcs.contains(name)) << name;
  return crcs[name];
}

TEST_P(Golden, IsReproducedOnEveryCpuPath) {
  const golden::Case& c = GetParam();
  const auto bytes = read_golden(golden::file_name(c));
  const auto frame = read_frame(bytes);
  ASSERT_TRUE(frame.ok()) << frame.status().message();
  EXPECT_EQ(frame->spec, *parse_spec(c.spec));
  EXPECT_EQ(frame->dtype, c.dtype);
  ASSERT_EQ(frame->count, c.count);

  const auto x = golden::input(c);
  const uint32_t crc = decoded_crc(golden::file_name(c));
  for (std::string_view path : cpu_paths()) {
    ASSERT_TRUE(force_cpu_path(path).ok());
    std::vector<uint8_t> block(frame->block.size());
    ASSERT_TRUE(encode(frame->spec, c.dtype, x.data(), c.count, golden::context(), {}, block.data()).ok());
    EXPECT_TRUE(std::equal(block.begin(), block.end(), frame->block.begin())) << path;
    std::vector<float> y(c.count);
    ASSERT_TRUE(decode(frame->spec, c.dtype, frame->block.data(), c.count, Into::kAssign, y.data()).ok());
    EXPECT_EQ(crc32c(0, y.data(), 4 * y.size()), crc) << path;
  }
  ASSERT_TRUE(force_cpu_path("").ok());
}

INSTANTIATE_TEST_SUITE_P(Frames, Golden, ::testing::ValuesIn(golden::cases()), [](const auto& tested) {
  std::string name = golden::file_name(tested.param);
  std::replace_if(
      name.begin(), name.end(), [](char ch) { return !std::isalnum(static_cast<unsigned char>(ch)); }, '_');
  return name;
});

}  // namespace
}  // namespace cgx
