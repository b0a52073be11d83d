// Every path of the CRC gives the published numbers, and the same as the bitwise definition.
#include "base/crc32c.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

namespace cgx {
namespace {

std::vector<Crc32cPath> paths() {
  std::vector<Crc32cPath> all;
  for (const Crc32cPath path : {Crc32cPath::kTable, Crc32cPath::kInstruction, Crc32cPath::kFold128,
                                Crc32cPath::kFold256, Crc32cPath::kFold512}) {
    if (path <= crc32c_path()) all.push_back(path);
  }
  return all;
}

uint32_t by_definition(const std::vector<uint8_t>& data, size_t from, size_t bytes) {
  uint32_t state = ~0u;
  for (size_t i = from; i < from + bytes; ++i) {
    state ^= data[i];
    for (int bit = 0; bit < 8; ++bit) state = (state >> 1) ^ ((state & 1) != 0 ? 0x82f63b78u : 0);
  }
  return ~state;
}

// RFC 3720, appendix B.4.
TEST(Crc32c, GivesThePublishedNumbers) {
  const std::vector<uint8_t> zeros(32, 0), ones(32, 0xff);
  std::vector<uint8_t> up(32);
  for (size_t i = 0; i < up.size(); ++i) up[i] = static_cast<uint8_t>(i);
  const std::string digits = "123456789";
  for (const Crc32cPath path : paths()) {
    EXPECT_EQ(crc32c(path, 0, zeros.data(), 32), 0x8a9136aau);
    EXPECT_EQ(crc32c(path, 0, ones.data(), 32), 0x62a8ab43u);
    EXPECT_EQ(crc32c(path, 0, up.data(), 32), 0x46dd794eu);
    EXPECT_EQ(crc32c(path, 0, digits.data(), 9), 0xe3069283u);
    EXPECT_EQ(crc32c(path, 0, nullptr, 0), 0u);
  }
}

TEST(Crc32c, EveryPathEqualsTheDefinitionAtEveryLengthAndOffset) {
  std::vector<uint8_t> data(3000);
  uint32_t noise = 1;
  for (uint8_t& byte : data) byte = static_cast<uint8_t>((noise = noise * 1664525 + 1013904223) >> 24);
  for (const Crc32cPath path : paths()) {
    for (size_t bytes = 0; bytes < 1100; bytes += bytes < 600 ? 1 : 37) {
      const size_t from = bytes % 67;
      EXPECT_EQ(crc32c(path, 0, data.data() + from, bytes), by_definition(data, from, bytes))
          << "path " << static_cast<int>(path) << ", " << bytes << " bytes";
    }
  }
}

TEST(Crc32c, PiecesGiveTheSameAsTheWhole) {
  std::vector<uint8_t> data(2777, 0x5a);
  for (size_t i = 0; i < data.size(); i += 3) data[i] = static_cast<uint8_t>(i);
  for (const Crc32cPath path : paths()) {
    const uint32_t whole = crc32c(path, 0, data.data(), data.size());
    for (const size_t cut : {size_t{1}, size_t{512}, size_t{700}, size_t{2776}}) {
      const uint32_t head = crc32c(path, 0, data.data(), cut);
      EXPECT_EQ(crc32c(path, head, data.data() + cut, data.size() - cut), whole);
    }
  }
}

}  // namespace
}  // namespace cgx
