// What the drivers must reproduce, element by element and straight from the definitions: slow, obvious,
// and with the draw of every element in the test's hands.
#pragma once

#include <cstring>
#include <functional>
#include <vector>

#include "codec/codec_list.h"
#include "codec/wire.h"

namespace cgx::reference {

using Draw = std::function<uint32_t(uint64_t element)>;

inline void put_code(uint8_t* group, uint32_t m, uint32_t bits, uint32_t i, uint32_t code) {
  uint32_t low = 0;
  for (uint32_t width = 8; width != 0; width /= 2) {
    if ((bits & width) == 0) continue;
    const auto s = static_cast<uint32_t>(plane_bytes(m, width));
    const uint32_t field = (code >> low) & ((1u << width) - 1);
    group[i % s] = static_cast<uint8_t>(group[i % s] | field << (i / s * width));
    group += s;
    low += width;
  }
}

template <typename Fold>
auto fold(const float* x, size_t n) {
  if constexpr (Fold::kAnyOrder) {
    auto state = Fold::identity();
    for (size_t i = n; i-- > 0;) state = Fold::merge(Fold::lift(x[i]), state);  // any order: backwards
    return Fold::finish(state);
  } else {
    std::vector<typename Fold::State> p(64, Fold::identity());
    for (size_t i = 0; i < n; ++i) p[i % 64] = Fold::merge(p[i % 64], Fold::lift(x[i]));
    for (size_t half = 32; half != 0; half /= 2) {
      for (size_t j = 0; j < half; ++j) p[j] = Fold::merge(p[j], p[j + half]);
    }
    return Fold::finish(p[0]);
  }
}

template <typename C>
typename C::Meta bucket_meta(const ValueSpec& spec, const float* x, size_t n) {
  const auto params = C::params(spec);
  if constexpr (requires { typename C::Fold; }) {
    return C::meta(fold<typename C::Fold>(x, n), params);
  } else {
    if (spec.norm == Norm::kInf) return C::meta(fold<NormFold<Norm::kInf>>(x, n), params);
    if (spec.norm == Norm::kL1) return C::meta(fold<NormFold<Norm::kL1>>(x, n), params);
    return C::meta(fold<NormFold<Norm::kL2>>(x, n), params);
  }
}

// Encodes whole units and a partial one, never raw; also gives what each element decodes to.
template <typename C>
void encode(const ValueSpec& spec, const std::vector<float>& x, const Draw& draw, std::vector<uint8_t>& block,
            std::vector<float>& decoded) {
  const size_t count = x.size();
  decoded.resize(count);
  block.clear();
  const size_t whole = C::unit(spec) == 0 ? count : C::unit(spec);
  for (size_t at = 0; at < count; at += whole) {
    const size_t m = std::min(whole, count - at);
    std::vector<uint8_t> unit(C::unit_bytes(spec, m), 0);
    if constexpr (requires { typename C::Meta; }) {
      const UnitLayout layout = C::layout(spec, count);
      const auto params = C::params(spec);
      typename C::Meta meta = {};
      for (size_t i = 0; i < m; ++i) {
        if (i % layout.bucket == 0) {
          meta = bucket_meta<C>(spec, &x[at + i], std::min<size_t>(layout.bucket, m - i));
          wire_store(&unit[layout.meta(i / layout.bucket)], meta);
        }
        decoded[at + i] = bits_float(0x7fc00000u);
        if (!C::is_finite(meta)) continue;
        const uint32_t r = C::is_random(spec) ? draw(at + i) : 0x80000000u;
        const uint32_t code = C::encode(x[at + i], C::coder(meta, params), r);
        const size_t group = i / kGroup;
        const auto n = static_cast<uint32_t>(std::min<size_t>(kGroup, m - group * kGroup));
        put_code(&unit[layout.group(m, group)], n, spec.bits, static_cast<uint32_t>(i % kGroup), code);
        decoded[at + i] = C::decode(code, C::decoder(meta, params));
      }
    } else {
      const auto coder = C::coder(spec);
      for (size_t i = 0; i < m; ++i) {
        const auto code =
            static_cast<typename C::Code>(C::encode(x[at + i], coder, C::kRandom ? draw(at + i) : 0u));
        decoded[at + i] = C::decode(uint32_t{code}, coder);
        if constexpr (C::kCodeBits == 9) {
          unit[i / 8] = static_cast<uint8_t>(unit[i / 8] | (code >> 8) << (i % 8));
          unit[natural_exponents(static_cast<uint32_t>(m)) + i] = static_cast<uint8_t>(code);
        } else {
          wire_store(&unit[i * sizeof(code)], code);
        }
      }
    }
    block.insert(block.end(), unit.begin(), unit.end());
  }
}

template <typename... C>
bool encode_listed(CodecList<C...>, const ValueSpec& spec, const std::vector<float>& x, const Draw& draw,
                   std::vector<uint8_t>& block, std::vector<float>& decoded) {
  bool found = false;
  const auto one = [&]<typename D>(CodecList<D>) {
    if constexpr (D::kKind != CodecKind::kNone) {
      if (D::kKind != spec.kind) return;
      encode<D>(spec, x, draw, block, decoded);
      found = true;
    }
  };
  (one(CodecList<C>{}), ...);
  return found;
}

// False for `none`, which has no arithmetic.
inline bool encode_dense(const ValueSpec& spec, const std::vector<float>& x, const Draw& draw,
                         std::vector<uint8_t>& block, std::vector<float>& decoded) {
  return encode_listed(DenseCodecs{}, spec, x, draw, block, decoded);
}

// The two values an element can become, from the definition itself: codes are monotone in the draw.
struct Cells {
  std::vector<float> low, high;
};
inline bool cells_of(const ValueSpec& spec, const std::vector<float>& x, Cells& cells) {
  std::vector<uint8_t> block;
  return encode_dense(
             spec, x, [](uint64_t) { return 0u; }, block, cells.low) &&
         encode_dense(
             spec, x, [](uint64_t) { return 0xffffffffu; }, block, cells.high);
}

// The expected NMSE, exact over the rounding: stochastically rounding y in [l, u] has variance (y - l)(u -
// y).
inline double cells_nmse(const Cells& cells, const std::vector<float>& x) {
  double error = 0;
  double norm = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double y = x[i];
    const double l = cells.low[i];
    const double u = cells.high[i];
    error += l == u ? (y - l) * (y - l) : (y - l) * (u - y);
    norm += y * y;
  }
  return error / norm;
}

}  // namespace cgx::reference
