// What the fuzz targets share: taking an input apart, and stopping when a promise does not hold.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

#define FUZZ_CHECK(condition)         \
  ((condition) ? static_cast<void>(0) \
               : (std::fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition), std::abort()))

namespace cgx::fuzz {

class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data), size_(size) {}

  // 0 once there is nothing left.
  template <typename T>
  T take() {
    T value{};
    const size_t bytes = size_ < sizeof value ? size_ : sizeof value;
    if (bytes > 0) std::memcpy(&value, data_, bytes);
    data_ += bytes;
    size_ -= bytes;
    return value;
  }
  std::string_view take(size_t bytes) {
    const std::string_view part = rest().substr(0, bytes);
    data_ += part.size();
    size_ -= part.size();
    return part;
  }
  std::string_view rest() const { return {reinterpret_cast<const char*>(data_), size_}; }

 private:
  const uint8_t* data_;
  size_t size_;
};

}  // namespace cgx::fuzz
