// Box-Muller over a counter-seeded generator per block of elements, .npy files, and conversions by bits.
#include "data.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <numbers>

namespace cgx::bench {
namespace {

constexpr uint64_t kBlock = 4096;  // elements that one seed makes

// SplitMix64 (Steele, Lea and Flood 2014).
uint64_t next(uint64_t& state) {
  state += 0x9E3779B97F4A7C15u;
  uint64_t z = state;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

void normal_block(uint64_t seed, float* out) {
  uint64_t state = seed;
  for (uint64_t e = 0; e < kBlock; e += 2) {
    const uint64_t bits = next(state);
    const float u = (static_cast<float>(bits >> 40) + 1.0f) * 0x1p-24f;  // (0, 1]
    const float angle = static_cast<float>(bits & 0xFFFFFF) * (0x1p-23f * std::numbers::pi_v<float>);
    const float radius = std::sqrt(-2.0f * std::log(u));
    out[e] = radius * std::cos(angle);
    out[e + 1] = radius * std::sin(angle);
  }
}

uint64_t mixed(uint64_t a, uint64_t b) {
  uint64_t state = a * 0xD1342543DE82EF95u + b;
  return next(state);
}

uint16_t half_bits(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  const uint16_t sign = static_cast<uint16_t>(bits >> 16 & 0x8000);
  const float magnitude = std::min(std::fabs(x), 65504.0f);
  if (magnitude < 0x1p-14f) {  // subnormal: a multiple of 2^-24
    return static_cast<uint16_t>(sign | static_cast<uint16_t>(std::nearbyint(magnitude * 0x1p24f)));
  }
  uint32_t m = std::bit_cast<uint32_t>(magnitude);
  m += 0xFFF + (m >> 13 & 1);  // to nearest, ties to even
  return static_cast<uint16_t>(sign | ((m >> 13) - (112 << 10)));
}

double half_value(uint16_t bits) {
  const int exponent = bits >> 10 & 31;
  const int fraction = bits & 1023;
  double magnitude = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(fraction + 1024, exponent - 25);
  if (exponent == 31) magnitude = fraction == 0 ? HUGE_VAL : NAN;
  return bits & 0x8000 ? -magnitude : magnitude;
}

uint16_t bfloat_bits(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x);
  return static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

// What is left of a file, as values of type `Element`; nothing where it cannot be read.
template <typename Element, typename Convert>
std::vector<float> read_rest(std::ifstream& file, Convert&& one) {
  const std::streamoff begin = file.tellg();
  file.seekg(0, std::ios::end);
  std::vector<Element> elements(static_cast<size_t>(file.tellg() - begin) / sizeof(Element));
  file.seekg(begin);
  file.read(reinterpret_cast<char*>(elements.data()),
            static_cast<std::streamsize>(elements.size() * sizeof(Element)));
  if (!file) return {};
  std::vector<float> values(elements.size());
  std::transform(elements.begin(), elements.end(), values.begin(),
                 [&](Element x) { return static_cast<float>(one(x)); });
  return values;
}

std::vector<float> read_npy(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string head(10, '\0');
  if (!file.read(head.data(), 10) || head.compare(0, 6, "\x93NUMPY") != 0) {
    throw UsageError(fmt::format("--data {}: cannot be read as a .npy file", path));
  }
  uint32_t header_bytes = static_cast<uint8_t>(head[8]) | uint32_t{static_cast<uint8_t>(head[9])} << 8;
  if (head[6] != 1) {  // version 2 and 3 have four bytes of length
    std::string more(2, '\0');
    file.read(more.data(), 2);
    header_bytes |= uint32_t{static_cast<uint8_t>(more[0])} << 16 | uint32_t{static_cast<uint8_t>(more[1])}
                                                                        << 24;
  }
  std::string header(std::min(header_bytes, 1u << 20), '\0');
  file.read(header.data(), static_cast<std::streamsize>(header.size()));
  const bool halves = header.find("'<f2'") != std::string::npos;
  if (!file || (!halves && header.find("'<f4'") == std::string::npos)) {
    throw UsageError(
        fmt::format("--data {}: expected little-endian float32 or float16 ('<f4', '<f2')", path));
  }
  std::vector<float> values =
      halves ? read_rest<uint16_t>(file, half_value) : read_rest<float>(file, std::identity{});
  if (values.empty()) throw UsageError(fmt::format("--data {}: holds no values", path));
  if (!std::all_of(values.begin(), values.end(), [](float x) { return std::isfinite(x); })) {
    throw UsageError(fmt::format("--data {}: holds values that are not finite", path));
  }
  return values;
}

template <typename Out, typename Convert>
void convert(std::span<const float> in, void* out, Convert&& one) {
  Out* to = static_cast<Out*>(out);
  for (size_t e = 0; e < in.size(); ++e) to[e] = static_cast<Out>(one(in[e]));
}

// Small enough for a sum of 16 ranks.
void fill_integers(std::span<const float> values, cgx_dtype dtype, void* out) {
  const auto scaled = [](float factor, float low, float high) {
    return [=](float x) { return static_cast<int32_t>(std::lround(std::clamp(x * factor, low, high))); };
  };
  switch (dtype) {
    case CGX_INT8:
      return convert<int8_t>(values, out, scaled(3, -7, 7));
    case CGX_UINT8:
      return convert<uint8_t>(values, out, [](float x) { return std::clamp(std::fabs(x) * 5, 0.0f, 15.0f); });
    case CGX_INT16:
      return convert<int16_t>(values, out, scaled(100, -2000, 2000));
    case CGX_INT64:
      return convert<int64_t>(values, out, scaled(100, -1e8f, 1e8f));
    default:
      return convert<int32_t>(values, out, scaled(100, -1e8f, 1e8f));
  }
}

template <typename In, typename Convert>
void widen_to_doubles(const void* in, std::span<double> out, Convert&& one) {
  const In* from = static_cast<const In*>(in);
  for (size_t e = 0; e < out.size(); ++e) out[e] = one(from[e]);
}

}  // namespace

Source::Source(const std::string& data, uint64_t seed) : seed_(seed) {
  if (data != "random") file_ = read_npy(data);
}

void Source::fill_floats(int rank, int buffer, uint64_t first, std::span<float> out) const {
  const uint64_t stream = mixed(mixed(seed_, static_cast<uint64_t>(rank)), static_cast<uint64_t>(buffer));
  if (!file_.empty()) {
    // Shifted by whole multiples of a large odd stride, so that ranks do not hold equal tensors.
    const uint64_t shift = (static_cast<uint64_t>(rank) * 64 + static_cast<uint64_t>(buffer)) * 104729;
    for (size_t e = 0; e < out.size(); ++e) out[e] = file_[(first + e + shift) % file_.size()];
    return;
  }
  float block[kBlock];
  for (size_t done = 0; done < out.size();) {
    const uint64_t at = first + done;
    const size_t skip = at % kBlock;
    const size_t take = std::min<size_t>(kBlock - skip, out.size() - done);
    normal_block(mixed(stream, at / kBlock), block);
    std::copy_n(block + skip, take, out.data() + done);
    done += take;
  }
}

void Source::fill(int rank, int buffer, uint64_t first, uint64_t count, cgx_dtype dtype, void* out) const {
  if (dtype == CGX_FLOAT32) return fill_floats(rank, buffer, first, {static_cast<float*>(out), count});
  std::vector<float> values(count);
  fill_floats(rank, buffer, first, values);
  switch (dtype) {
    case CGX_FLOAT16:
      return convert<uint16_t>(values, out, half_bits);
    case CGX_BFLOAT16:
      return convert<uint16_t>(values, out, bfloat_bits);
    case CGX_FLOAT64:
      return convert<double>(values, out, [](float x) { return double{x}; });
    default:
      return fill_integers(values, dtype, out);
  }
}

void to_doubles(cgx_dtype dtype, const void* in, std::span<double> out) {
  const auto exactly = [](auto x) { return static_cast<double>(x); };
  switch (dtype) {
    case CGX_FLOAT32:
      return widen_to_doubles<float>(in, out, [](float x) { return double{x}; });
    case CGX_FLOAT16:
      return widen_to_doubles<uint16_t>(in, out, half_value);
    case CGX_BFLOAT16:
      return widen_to_doubles<uint16_t>(
          in, out, [](uint16_t x) { return double{std::bit_cast<float>(uint32_t{x} << 16)}; });
    case CGX_FLOAT64:
      return widen_to_doubles<double>(in, out, [](double x) { return x; });
    case CGX_INT8:
      return widen_to_doubles<int8_t>(in, out, exactly);
    case CGX_UINT8:
      return widen_to_doubles<uint8_t>(in, out, exactly);
    case CGX_INT16:
      return widen_to_doubles<int16_t>(in, out, exactly);
    case CGX_INT64:
      return widen_to_doubles<int64_t>(in, out, exactly);
    default:
      return widen_to_doubles<int32_t>(in, out, exactly);
  }
}

void Buffer::Free::operator()(void* memory) const { std::free(memory); }

Buffer::Buffer(uint64_t bytes) : bytes_(bytes) {
  const uint64_t rounded = (bytes + 4095) / 4096 * 4096;
  memory_.reset(std::aligned_alloc(4096, std::max<uint64_t>(rounded, 4096)));
  if (memory_ == nullptr) throw BenchError(fmt::format("no memory for a buffer of {} bytes", bytes));
  std::memset(memory_.get(), 0x5A, std::max<uint64_t>(rounded, 4096));
}

int rotation(uint64_t bytes) {
  constexpr uint64_t kTotal = 64 << 20;
  if (bytes > 4 * kTotal) return 1;  // far beyond any cache by itself
  return static_cast<int>(std::clamp<uint64_t>(kTotal / std::max<uint64_t>(bytes, 1), 2, 64));
}

}  // namespace cgx::bench
