#include "base/stream_copy.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <vector>

namespace cgx {
namespace {

TEST(StreamCopy, CopiesEveryByteAndNoOther) {
  std::vector<uint8_t> from(20'000), to(20'000);
  for (size_t i = 0; i < from.size(); ++i) from[i] = static_cast<uint8_t>(i * 7 + i / 256);
  for (const Copy copy : {stream_copy, plain_copy}) {
    for (const size_t bytes : {size_t{0}, size_t{1}, size_t{63}, size_t{4095}, size_t{4096}, size_t{9000}}) {
      for (size_t offset = 0; offset < 130; ++offset) {
        std::fill(to.begin(), to.end(), uint8_t{0xa5});
        copy(to.data() + offset, from.data() + 1, bytes);
        stream_fence();
        ASSERT_EQ(std::memcmp(to.data() + offset, from.data() + 1, bytes), 0) << bytes << " at " << offset;
        ASSERT_EQ(to[offset + bytes], 0xa5);
        ASSERT_TRUE(offset == 0 || to[offset - 1] == 0xa5);
      }
    }
  }
}

}  // namespace
}  // namespace cgx
