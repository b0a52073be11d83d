// What is reduced: values that are a function of (seed, rank, buffer, element), so that any rank can make any
// part of another's tensor again to check a result. Never zeros: they flatter memory, links and codecs.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "options.h"

namespace cgx::bench {

class Source {
 public:
  // "random": independent normal values, standard deviation 1 (for integers 100). Else a .npy file of
  // float32 or float16 values, read round and round from a different place for each rank and buffer.
  Source(const std::string& data, uint64_t seed);

  // Elements [first, first + count) of a rank's buffer, in `dtype`.
  void fill(int rank, int buffer, uint64_t first, uint64_t count, cgx_dtype dtype, void* out) const;

 private:
  void fill_floats(int rank, int buffer, uint64_t first, std::span<float> out) const;

  uint64_t seed_;
  std::vector<float> file_;  // empty: random
};

// Page-aligned memory whose pages exist before they are timed.
class Buffer {
 public:
  explicit Buffer(uint64_t bytes);
  void* data() { return memory_.get(); }
  const void* data() const { return memory_.get(); }
  uint64_t bytes() const { return bytes_; }

 private:
  struct Free {
    void operator()(void* memory) const;
  };
  std::unique_ptr<void, Free> memory_;
  uint64_t bytes_;
};

// How many buffers of `bytes` make caches no warmer than in use: 64 MiB of them, at least two unless huge.
int rotation(uint64_t bytes);

void to_doubles(cgx_dtype dtype, const void* in, std::span<double> out);

}  // namespace cgx::bench
