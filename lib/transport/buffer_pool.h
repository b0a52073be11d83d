// Private memory for messages, 64-byte aligned and reused: the buffer given back last, which is still in
// cache, is the first to be taken again.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <vector>

namespace cgx {

class BufferPool {
 public:
  // Buffers kept for reuse; what is given back beyond that is freed, oldest first.
  explicit BufferPool(size_t kept) : kept_(kept) {}

  // Null when memory is exhausted.
  uint8_t* take(size_t bytes) {
    for (size_t i = free_.size(); i-- > 0;) {
      // A buffer far larger than asked for is left to those who need it.
      if (free_[i].bytes < bytes || free_[i].bytes / 4 > bytes + 4096) continue;
      taken_.push_back(std::move(free_[i]));
      free_.erase(free_.begin() + static_cast<std::ptrdiff_t>(i));
      return taken_.back().memory.get();
    }
    const size_t rounded = (bytes + 63) / 64 * 64;
    if (rounded < bytes) return nullptr;
    auto* memory = static_cast<uint8_t*>(std::aligned_alloc(64, rounded == 0 ? 64 : rounded));
    if (memory != nullptr) taken_.push_back({std::unique_ptr<uint8_t, Free>(memory), rounded});
    return memory;
  }

  // REQUIRES: memory that was taken, and not given since.
  void give(const uint8_t* memory) {
    for (size_t i = taken_.size(); i-- > 0;) {
      if (taken_[i].memory.get() != memory) continue;
      free_.push_back(std::move(taken_[i]));
      taken_.erase(taken_.begin() + static_cast<std::ptrdiff_t>(i));
      if (free_.size() > kept_) free_.erase(free_.begin());
      return;
    }
  }

 private:
  struct Free {
    void operator()(uint8_t* memory) const { std::free(memory); }
  };
  struct Buffer {
    std::unique_ptr<uint8_t, Free> memory;
    size_t bytes;
  };

  size_t kept_;
  std::vector<Buffer> free_;  // oldest first
  std::vector<Buffer> taken_;
};

}  // namespace cgx
