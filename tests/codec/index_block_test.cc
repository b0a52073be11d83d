// Blocks of indices: both codings against a definition a bit at a time, any part of them, their size, and
// bytes that no encoder wrote.
#include "codec/index_block.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "codec/wire.h"

namespace cgx {
namespace {

using Indices = std::vector<uint32_t>;

const IndexCoding kCodings[] = {IndexCoding::kPlain, IndexCoding::kPacked};

// k of `count`, spread evenly, in one run at the front, or in one at the end.
enum class Spread { kEven, kFront, kBack };

Indices choose(uint64_t count, uint64_t k, Spread spread, uint32_t seed = 1) {
  Indices all;
  if (spread != Spread::kEven) {
    for (uint64_t j = 0; j < k; ++j) {
      all.push_back(static_cast<uint32_t>(spread == Spread::kFront ? j : count - k + j));
    }
    return all;
  }
  std::mt19937_64 engine(seed);
  for (uint64_t j = 0; j < k; ++j) {  // one of each of k strata
    const uint64_t begin = j * count / k, end = (j + 1) * count / k;
    all.push_back(static_cast<uint32_t>(begin + engine() % (end - begin)));
  }
  return all;
}

// Exactly as large as the block, so that the sanitizers see any step outside.
std::vector<uint8_t> encoded(IndexCoding coding, const Indices& indices, uint64_t count) {
  std::vector<uint8_t> block(index_block_bytes(coding, count, indices.size()), 0xaa);
  encode_indices(coding, indices.data(), count, indices.size(), block.data());
  return block;
}

// What docs/WIRE.md says, a bit at a time.
std::vector<uint8_t> packed_by_definition(const Indices& indices, uint64_t count) {
  const uint64_t k = indices.size();
  uint32_t width = 0;
  while ((uint64_t{2} << width) <= count / k) ++width;
  const uint64_t spans = (count - 1) >> (width + 8);
  std::vector<bool> bits;
  const auto put = [&](uint64_t value, uint32_t n) {
    for (uint32_t b = 0; b < n; ++b) bits.push_back((value >> b & 1) != 0);
  };
  const auto fill_word = [&] {
    while (bits.size() % 32 != 0) bits.push_back(false);
  };
  for (uint64_t s = 1; s <= spans; ++s) {
    put(static_cast<uint64_t>(std::lower_bound(indices.begin(), indices.end(), s << (width + 8)) -
                              indices.begin()),
        32);
  }
  for (uint32_t index : indices) put(index, width);
  fill_word();
  uint64_t cell = 0;
  for (uint32_t index : indices) {
    for (; cell < index >> width; ++cell) put(0, 1);
    put(1, 1);
  }
  for (; cell < (count - 1) >> width; ++cell) put(0, 1);
  fill_word();
  std::vector<uint8_t> bytes(bits.size() / 8);
  for (size_t i = 0; i < bits.size(); ++i)
    bytes[i / 8] = static_cast<uint8_t>(bytes[i / 8] | bits[i] << i % 8);
  return bytes;
}

struct Shape {
  uint64_t count, k;
};
const Shape kShapes[] = {{1, 1},       {2, 1},      {2, 2},         {255, 3},   {256, 256},
                         {257, 129},   {1000, 10},  {1000, 999},    {9000, 90}, {65536, 655},
                         {100003, 31}, {100003, 1}, {300000, 30000}};

TEST(IndexBlock, PackedBytesAreThoseOfTheDefinition) {
  for (const auto& [count, k] : kShapes) {
    for (Spread spread : {Spread::kEven, Spread::kFront, Spread::kBack}) {
      const Indices indices = choose(count, k, spread);
      EXPECT_EQ(encoded(IndexCoding::kPacked, indices, count), packed_by_definition(indices, count))
          << k << " of " << count;
    }
  }
}

TEST(IndexBlock, AnyPartReadsAsThoseIndices) {
  for (IndexCoding coding : kCodings) {
    for (const auto& [count, k] : kShapes) {
      for (Spread spread : {Spread::kEven, Spread::kFront, Spread::kBack}) {
        const Indices indices = choose(count, k, spread);
        const auto block = encoded(coding, indices, count);
        std::mt19937_64 engine(2);
        for (int t = 0; t < 40; ++t) {
          const uint64_t begin = t == 0 ? 0 : engine() % (count + 1);
          const uint64_t end = t == 0 ? count : begin + engine() % (count - begin + 1);
          IndexPart part;
          ASSERT_TRUE(part.read(coding, block.data(), count, k, begin, end).ok());
          const auto low = std::lower_bound(indices.begin(), indices.end(), begin);
          const auto high = std::lower_bound(low, indices.end(), end);
          ASSERT_EQ(part.size(), static_cast<size_t>(high - low)) << k << " of " << count;
          if (part.size() == 0) continue;
          ASSERT_EQ(part.first(), static_cast<size_t>(low - indices.begin()));
          for (size_t i = 0; i < part.size(); ++i) ASSERT_EQ(part[i], low[static_cast<ptrdiff_t>(i)]);
        }
      }
    }
  }
}

TEST(IndexBlock, ReachesTheLastOf32Bits) {
  const uint64_t count = uint64_t{1} << 32;
  for (const Indices& indices : {Indices{0}, Indices{UINT32_MAX}, Indices{5, 1u << 31, UINT32_MAX}}) {
    for (IndexCoding coding : kCodings) {
      const auto block = encoded(coding, indices, count);
      for (uint64_t begin : {uint64_t{0}, uint64_t{1} << 31, count - 1}) {
        IndexPart part;
        ASSERT_TRUE(part.read(coding, block.data(), count, indices.size(), begin, count).ok());
        const auto low = std::lower_bound(indices.begin(), indices.end(), begin);
        ASSERT_EQ(part.size(), static_cast<size_t>(indices.end() - low));
        for (size_t i = 0; i < part.size(); ++i) EXPECT_EQ(part[i], low[static_cast<ptrdiff_t>(i)]);
      }
    }
  }
}

// With r = count / (k 2^width) in [1, 2) an index has `width` low bits, its own bit, r cells and r / 256
// spans of 32 bits: width + 1 + r (1 + 1/8). As r <= 1 + log2(r), that is at most 2 + log2(count / k) + 2/8.
// Each of the parts is filled up to a word; the spans are whole words.
TEST(IndexBlock, PackedIndicesTakeNoMoreBitsThanTheirBound) {
  const auto bits = [](uint64_t count, uint64_t k) {
    return 8.0 * static_cast<double>(index_block_bytes(IndexCoding::kPacked, count, k));
  };
  for (const auto& [count, k] : kShapes) {
    const double size = static_cast<double>(k);
    EXPECT_LE(bits(count, k), size * (2.25 + std::log2(static_cast<double>(count) / size)) + 2 * 32)
        << k << " of " << count;
  }
  const uint64_t k = 1 << 20;  // and as many as said, less the span that needs no count
  const double exact = static_cast<double>(k) * (6 + 1 + 100.0 / 64 * (1 + 32.0 / 256));
  EXPECT_NEAR(bits(100 * k, k), exact, 2 * 32);
}

std::string refusal(const std::vector<uint8_t>& block, uint64_t count, uint64_t k, uint64_t begin,
                    uint64_t end) {
  IndexPart part;
  const Status status = part.read(IndexCoding::kPacked, block.data(), count, k, begin, end);
  return status.code() == Code::kCorrupt ? status.message() : std::string();
}

TEST(IndexBlock, RefusesCountsThatNoEncoderWrites) {
  const uint64_t count = 100000, k = 1000;  // 7 spans of 16384
  const auto good = encoded(IndexCoding::kPacked, choose(count, k, Spread::kEven), count);
  const PackedIndexLayout layout(count, k);
  ASSERT_EQ(layout.last_span(), 6u);
  const uint64_t span = uint64_t{1} << layout.span_width();
  const auto with = [&](uint64_t of_span, uint32_t before) {
    auto block = good;
    wire_store(block.data() + layout.before_at(of_span), before);
    return block;
  };
  const uint32_t third = wire_load<uint32_t>(good.data() + layout.before_at(3));
  for (uint32_t wrong :
       {third - 1, third + 1, 0u, static_cast<uint32_t>(k), static_cast<uint32_t>(k + 1), UINT32_MAX}) {
    const auto block = with(3, wrong);
    EXPECT_NE(refusal(block, count, k, 0, count).find("span 2"), std::string::npos) << wrong;
    EXPECT_NE(refusal(block, count, k, 2 * span, 3 * span), "") << wrong;
    EXPECT_EQ(refusal(block, count, k, 0, 2 * span), "") << "it lies elsewhere";
  }
}

TEST(IndexBlock, RefusesBitsThatNoEncoderWrites) {
  const uint64_t count = 100000, k = 1000;
  const Indices indices = choose(count, k, Spread::kEven);
  const auto good = encoded(IndexCoding::kPacked, indices, count);
  const PackedIndexLayout layout(count, k);
  const uint64_t span = uint64_t{1} << layout.span_width();
  for (const int high : {0x00, 0xff}) {  // no element, or as many as there are bits
    auto block = good;
    std::fill(block.begin() + static_cast<ptrdiff_t>(layout.high_at()), block.end(),
              static_cast<uint8_t>(high));
    EXPECT_NE(refusal(block, count, k, 0, count), "");
    EXPECT_NE(refusal(block, count, k, 3 * span, 3 * span + 1), "");
  }
  // The last element of span 1 moved to where its last cell ends: as many bits as before, but in span 2.
  const uint64_t j =
      static_cast<uint64_t>(std::lower_bound(indices.begin(), indices.end(), 2 * span) - indices.begin()) - 1;
  auto block = good;
  const auto flip = [&](uint64_t bit) {
    block[layout.high_at() + bit / 8] ^= static_cast<uint8_t>(1u << (bit % 8));
  };
  flip((indices[j] >> layout.low_width) + j);
  flip(2 * 256 + j);
  EXPECT_NE(refusal(block, count, k, 0, count).find("span 1"), std::string::npos);
  EXPECT_NE(refusal(block, count, k, span, 2 * span).find("span 1"), std::string::npos);
  EXPECT_EQ(refusal(block, count, k, 2 * span, count), "");
}

TEST(IndexBlock, RefusesLowBitsThatNoEncoderWrites) {
  const uint64_t count = 100000, k = 1000;
  const Indices indices = choose(count, k, Spread::kEven);
  const auto good = encoded(IndexCoding::kPacked, indices, count);
  const PackedIndexLayout layout(count, k);
  const uint64_t mask = (uint64_t{1} << layout.low_width) - 1;
  const auto with = [&](uint64_t j, uint64_t low) {
    auto block = good;
    const uint64_t bit = j * layout.low_width;
    uint8_t* const at = block.data() + layout.low_at() + bit / 32 * 4;
    wire_store(at, (wire_load<uint64_t>(at) & ~(mask << bit % 32)) | low << bit % 32);
    return block;
  };
  size_t j = 1;  // two in one cell: equal, and in the wrong order
  while (indices[j] >> layout.low_width != indices[j - 1] >> layout.low_width) ++j;
  for (uint64_t low : {indices[j - 1] & mask, uint64_t{0}}) {
    EXPECT_NE(refusal(with(j, low), count, k, 0, count).find(fmt::format("entry {}", j)), std::string::npos);
  }
  // 100000 is element 32 of its cell: what lies there has no room above.
  const Indices last = {1, 2, 99999};
  auto block = encoded(IndexCoding::kPacked, last, count);
  const PackedIndexLayout of_three(count, last.size());
  const uint64_t bit = 2 * of_three.low_width;
  uint8_t* const at = block.data() + of_three.low_at() + bit / 32 * 4;
  wire_store(at, wire_load<uint64_t>(at) | ((uint64_t{1} << of_three.low_width) - 1) << bit % 32);
  EXPECT_NE(refusal(block, count, last.size(), 0, count).find("entry 2"), std::string::npos);
}

// A count that a peer wrote asks for no more memory than the part's spans can hold.
TEST(IndexBlock, AllocatesForWhatAPartCanHoldAtMost) {
  const uint64_t count = uint64_t{1} << 32, k = count / 2;
  const PackedIndexLayout layout(count, k);  // spans of 512
  std::vector<uint8_t> block(layout.before_at(4));
  wire_store(block.data() + layout.before_at(2), static_cast<uint32_t>(k - 1));
  EXPECT_NE(refusal(block, count, k, 512, 1024).find("span 1"), std::string::npos);
}

TEST(IndexBlock, WhateverIsReadFromAnyBytesRisesWithinThePart) {
  std::mt19937_64 engine(3);
  for (IndexCoding coding : kCodings) {
    for (const auto& [count, k] : kShapes) {
      auto block = encoded(coding, choose(count, k, Spread::kEven), count);
      for (int t = 0; t < 300; ++t) {
        if (t % 50 == 49) {
          for (uint8_t& byte : block) byte = static_cast<uint8_t>(engine());
        } else {
          block[engine() % block.size()] ^= static_cast<uint8_t>(1u << (engine() % 8));
        }
        const uint64_t begin = t % 3 == 0 ? 0 : engine() % count;
        const uint64_t end = t % 3 == 0 ? count : begin + engine() % (count - begin + 1);
        IndexPart part;
        const Status status = part.read(coding, block.data(), count, k, begin, end);
        if (!status.ok()) {
          ASSERT_EQ(status.code(), Code::kCorrupt);
          continue;
        }
        ASSERT_LE(part.size(), std::min(k, end - begin));
        ASSERT_LE(part.first() + part.size(), k);
        uint64_t least = begin;
        for (size_t i = 0; i < part.size(); ++i) {
          ASSERT_GE(part[i], least);
          ASSERT_LT(part[i], end);
          least = uint64_t{part[i]} + 1;
        }
      }
    }
  }
}

}  // namespace
}  // namespace cgx
