// Blocks of indices: how a top-k block says which elements it keeps. `plain` is 32 bits each; `packed` is
// Elias-Fano coding (Elias 1974, Fano 1971), at most 2.25 + log2(count / k) bits each: for small ratios 0.6
// to 0.8 above what no code of k elements among `count` can be below. Both sizes follow from (count, k)
// alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/status.h"
#include "codec/spec.h"

namespace cgx {

// REQUIRES: 0 < k <= count <= 2^48.
size_t index_block_bytes(IndexCoding coding, uint64_t count, uint64_t k);

// Writes k indices, which rise strictly and are below `count`. REQUIRES: 0 < k <= count <= 2^32.
void encode_indices(IndexCoding coding, const uint32_t* indices, uint64_t count, uint64_t k, uint8_t* block);

// The indices that lie in a part of the tensor, copied, then checked: whoever wrote the block, and whatever
// becomes of its memory, these rise strictly within the part.
class IndexPart {
 public:
  IndexPart() = default;
  IndexPart(const IndexPart&) = delete;
  IndexPart& operator=(const IndexPart&) = delete;

  // Those in [begin, end) of a block. Any bytes are read or refused (kCorrupt); kResource: no memory for as
  // many indices as the part, or the spans it lies in, can hold. REQUIRES: 0 < k <= count <= 2^32 and
  // begin <= end <= count.
  Status read(IndexCoding coding, const uint8_t* block, uint64_t count, uint64_t k, uint64_t begin,
              uint64_t end);

  // They are entries [first(), first() + size()) of the block.
  size_t first() const { return first_; }
  size_t size() const { return size_; }
  uint32_t operator[](size_t i) const { return at_[i]; }

 private:
  // Memory for so many.
  Result<uint32_t*> reserve(size_t entries);
  Status read_plain(const uint8_t* block, uint64_t count, uint64_t k, uint64_t begin, uint64_t end);
  Status read_packed(const uint8_t* block, uint64_t count, uint64_t k, uint64_t begin, uint64_t end);

  static constexpr size_t kFew = 4096;  // of 32 Ki elements, an eighth; more are allocated
  uint32_t few_[kFew];
  std::unique_ptr<uint32_t[]> many_;
  const uint32_t* at_ = few_;
  size_t first_ = 0;
  size_t size_ = 0;
};

}  // namespace cgx
