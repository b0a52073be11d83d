// Size arithmetic beyond 2^31, 2^32 and 2^35 elements, without the memory: sizes of blocks, places in
// messages, and the plans of every algorithm, whose ranges the checker follows.
#include <gtest/gtest.h>

#include "base/random.h"
#include "codec/codec_row.h"
#include "plan/check.h"
#include "plan/layouts.h"
#include "plan/levels.h"

namespace cgx {
namespace {

using test::spec_of;
using test::uniform;

constexpr uint64_t kBeyond[] = {(uint64_t{1} << 31) - 1,     (uint64_t{1} << 31) + 77,
                                (uint64_t{1} << 32) - 1,     (uint64_t{1} << 32) + 513,
                                (uint64_t{1} << 35) + 12345, (uint64_t{1} << 36) - 3};

std::vector<std::string> dense_specs() {
  std::vector<std::string> all = {"maxmin:bits=3,bucket=65536", "maxmin:bits=7,bucket=32"};
  for (const CodecRow& row : codec_rows()) {
    const std::string name = row.name;
    if (name == "topk" || name == "randk") continue;
    all.push_back(name == "cast" ? "cast:bf16" : name);
  }
  return all;
}

// A block cut at a multiple of its granule is as long as its pieces, so sizes of huge counts follow from
// small ones.
TEST(Huge, BlocksAreAsLongAsTheirPieces) {
  for (const std::string& text : dense_specs()) {
    const CodecSpec spec = spec_of(text);
    const uint64_t unit = granule(spec);
    ASSERT_NE(unit, 0u) << text;
    for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
      if (is_raw(spec, dtype, unit)) continue;
      const uint64_t unit_bytes = encoded_bytes(spec, dtype, unit);
      for (const uint64_t count : kBeyond) {
        const uint64_t expected = count / unit * unit_bytes + encoded_bytes(spec, dtype, count % unit);
        EXPECT_EQ(encoded_bytes(spec, dtype, count), expected) << text << " of " << count;
        EXPECT_LT(expected, count * dtype_bytes(dtype));
      }
    }
  }
}

TEST(Huge, SparseBlocksKeepTheirShareOfUpTo2To32Elements) {
  const double packed = (6 + 1 + 100.0 / 64 * (1 + 32.0 / 256)) / 8;  // as in index_block_test.cc
  const std::pair<const char*, double> kEach[] = {{"topk:ratio=0.01", 8},
                                                  {"topk:ratio=0.4", 8},
                                                  {"topk:ratio=0.01|natural8", 5},
                                                  {"topk:ratio=0.01,indices=packed", packed + 4}};
  for (const auto& [text, each] : kEach) {
    const CodecSpec spec = spec_of(text);
    for (const uint64_t count : {(uint64_t{1} << 31) + 77, uint64_t{1} << 32}) {
      const double kept = spec.ratio * static_cast<double>(count);
      const double filling = spec.indices == IndexCoding::kPacked ? 3 * 4 : 0;  // and a span's count
      EXPECT_NEAR(static_cast<double>(encoded_bytes(spec, DType::kF32, count)), kept * each,
                  each + 1 + filling)
          << text;
    }
    EXPECT_FALSE(Layout::uniform(DType::kF32, (uint64_t{1} << 32) + 1, spec, 0).ok());
  }
}

TEST(Huge, PiecesLieWhereSizesSay) {
  const uint64_t big = (uint64_t{1} << 33) + 1;
  const auto layout = Layout::make(DType::kF32, 3 * big + 5,
                                   {{0, big, spec_of("maxmin:bits=4"), 0},
                                    {big, 5, spec_of("none"), 1},
                                    {big + 5, big, spec_of("natural"), 2},
                                    {2 * big + 5, big, spec_of("none"), 3}});
  ASSERT_TRUE(layout.ok()) << layout.status().message();
  uint64_t wire = 0;
  for (const Piece& piece : layout->pieces(0, layout->count())) {
    EXPECT_GE(piece.wire_offset, wire);
    EXPECT_LT(piece.wire_offset, wire + kBlockAlign);
    wire = piece.wire_offset + piece.wire_bytes;
  }
  EXPECT_EQ(wire, layout->wire_bytes(0, layout->count()));
  EXPECT_GT(wire, 4 * big);
  // In the middle of the third segment.
  const uint64_t begin = layout->chunk_cut(big + 5 + (uint64_t{1} << 32) + 1);
  EXPECT_EQ((begin - big - 5) % kGroup, 0u);
  EXPECT_EQ(layout->pieces(begin, layout->count())[0].in_segment, begin - big - 5);
}

class HugePlan : public testing::TestWithParam<const Algorithm*> {};
INSTANTIATE_TEST_SUITE_P(List, HugePlan, testing::ValuesIn([] {
                           std::vector<const Algorithm*> all;
                           for (const Algorithm& a : algorithms()) all.push_back(&a);
                           return all;
                         }()),
                         [](const auto& test) { return std::string(test.param->name); });

// Slices of some GiB, so that plans stay short.
TEST_P(HugePlan, IsRight) {
  for (const uint64_t count : kBeyond) {
    for (const int size : {1, 2, 5, 13, 16}) {
      for (const char* spec : {"none", "maxmin:bits=4,bucket=512", "natural"}) {
        const PlanKey key{0, size, uniform(count, spec), count / 8, test::groupings(size)[2], {}};
        const Status status = check_algorithm(*GetParam(), key);
        ASSERT_TRUE(status.ok()) << count << " elements, " << size << " ranks, " << spec << ": "
                                 << status.message();
      }
    }
  }
}

// With the usual slices: 2^32 bytes of int8 in 16384 of them.
TEST_P(HugePlan, IsRightInUsualSlices) {
  const Layout layout = uniform((uint64_t{1} << 32) + 3, "none", DType::kI8);
  const Status status = check_algorithm(*GetParam(), {0, 2, layout, 256 << 10, {0, 1}, {}});
  EXPECT_TRUE(status.ok()) << status.message();
}

// Elements 2^32 apart have other random bits: a block encodes differently at the two places.
TEST(Huge, RandomBitsDoNotRepeatAfter2To32Elements) {
  const CodecSpec spec = spec_of("natural");
  std::vector<float> x(4096, 1.5f);
  const auto block_at = [&](uint64_t first) {
    std::vector<uint8_t> block(encoded_bytes(spec, DType::kF32, x.size()));
    BlockContext context;
    context.first = first;
    EXPECT_TRUE(encode(spec, DType::kF32, x.data(), x.size(), context, {}, block.data()).ok());
    return block;
  };
  const std::vector<uint8_t> here = block_at(0);
  for (const uint64_t distance : {uint64_t{1} << 31, uint64_t{1} << 32, uint64_t{1} << 35}) {
    EXPECT_NE(block_at(distance), here) << distance;
  }
}

}  // namespace
}  // namespace cgx
