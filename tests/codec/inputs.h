// Deterministic test data, and encode/decode with the ceremony left out.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <string_view>
#include <vector>

#include "codec/codec.h"

namespace cgx {

inline std::vector<float> gaussian(size_t n, uint32_t seed, float scale = 1) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(n);
  for (float& v : x) v = scale * normal(generator);
  return x;
}

// Signs times exp(sigma * normal): a few elements carry nearly everything.
inline std::vector<float> lognormal(size_t n, uint32_t seed, float sigma) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(n);
  for (float& v : x) {
    const float magnitude = std::exp(sigma * normal(generator));
    v = (generator() & 1) != 0 ? magnitude : -magnitude;
  }
  return x;
}

inline CodecSpec spec_of(std::string_view text) {
  auto spec = parse_spec(text);
  EXPECT_TRUE(spec.ok()) << spec.status().message();
  return spec.ok() ? *spec : CodecSpec{};
}

inline std::vector<uint8_t> encode_all(const CodecSpec& spec, const std::vector<float>& x,
                                       const BlockContext& context = {}, Residual residual = {}) {
  std::vector<uint8_t> block(encoded_bytes(spec, DType::kF32, x.size()));
  const Status status = encode(spec, DType::kF32, x.data(), x.size(), context, residual, block.data());
  EXPECT_TRUE(status.ok()) << status.message();
  return block;
}

inline std::vector<float> decode_all(const CodecSpec& spec, const std::vector<uint8_t>& block, size_t count,
                                     DType dtype = DType::kF32) {
  std::vector<float> out(count, 123.0f);
  const Status status = decode(spec, dtype, block.data(), count, Into::kAssign, out.data());
  EXPECT_TRUE(status.ok()) << status.message();
  return out;
}

inline std::vector<float> round_trip(const CodecSpec& spec, const std::vector<float>& x,
                                     const BlockContext& context = {}) {
  return decode_all(spec, encode_all(spec, x, context), x.size());
}

// |a - b|^2 / |b|^2.
inline double nmse(const std::vector<float>& a, const std::vector<float>& b) {
  double error = 0;
  double norm = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double d = static_cast<double>(a[i]) - b[i];
    error += d * d;
    norm += static_cast<double>(b[i]) * b[i];
  }
  return error / norm;
}

// Bit patterns, so that NaN equals itself and -0 differs from +0.
inline std::vector<uint32_t> bits_of(const std::vector<float>& x) {
  std::vector<uint32_t> bits(x.size());
  for (size_t i = 0; i < x.size(); ++i) bits[i] = float_bits(x[i]);
  return bits;
}

}  // namespace cgx
