// Hands out pieces of a rank's pool. Among the free pieces that fit, the tightest; among equals, the one
// freed last, which is still in cache: a pipeline of equal slices cycles through a few hot pieces.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace cgx {

class ShmPool {
 public:
  explicit ShmPool(uint64_t bytes) : pieces_{{0, bytes, true, 0}} {}

  // The offset of `bytes` bytes (rounded up to 64), or nothing. Freed neighbours are joined only when
  // nothing fits, because joining would lose which is hot.
  std::optional<uint64_t> allocate(uint64_t bytes);
  // REQUIRES: offset came from allocate()
  void free(uint64_t offset);
  uint64_t used_bytes() const { return used_bytes_; }

 private:
  struct Piece {
    uint64_t offset, bytes;
    bool is_free;
    uint64_t freed_at;
  };
  std::vector<Piece>::iterator at_or_after(uint64_t offset);
  std::optional<size_t> find_recent(uint64_t bytes);
  std::optional<size_t> find(uint64_t bytes) const;
  void join_free_neighbours();

  std::vector<Piece> pieces_;  // by offset, without gaps
  uint64_t used_bytes_ = 0;
  uint64_t frees_ = 0;
  struct Freed {
    uint64_t offset, bytes;
  };
  std::array<Freed, 16> recent_{};  // what was freed last, by frees_ % 16; may have changed since
};

}  // namespace cgx
