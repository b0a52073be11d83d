// Decoding of bucketed codecs: plain buckets in vectors, from the packed bytes where a code lies in one
// plane, else from the unpacked ones; the rest an element at a time. Included once per instruction set.
#if defined(CGX_BUCKETED_DECODE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CGX_BUCKETED_DECODE_INL_H_
#undef CGX_BUCKETED_DECODE_INL_H_
#else
#define CGX_BUCKETED_DECODE_INL_H_
#endif

#include "codec/codec_list.h"
#include "codec/simd/elements-inl.h"
#include "codec/simd/pack-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cgx {
namespace HWY_NAMESPACE {

// True where C's arithmetic for plain buckets is also that of vectors.
template <typename C>
constexpr bool has_lanes() {
  if constexpr (!kVectors) {
    return false;
  } else if constexpr (requires { typename C::Meta; }) {
    return requires(F32 x, Draw r, U32 u, typename C::Coder c, typename C::Decoder d) {
      C::encode_plain(x, c, r);
      C::decode_plain(u, d);
    };
  } else {
    return requires(F32 x, Draw r, U32 u, typename C::Coder c) {
      C::encode(x, c, r);
      C::decode(u, c);
    };
  }
}

// Codes that lie in bytes become words as they are.
struct CodeBytes {
  static constexpr uint32_t kStep = 2 * kLanes;
  CGX_HD static const uint8_t* prepared(const uint8_t* codes, uint32_t, uint8_t*) { return codes; }
  CGX_HD static U32 load(const uint8_t* codes) { return load_bytes(codes); }
};

// The values of a plain bucket's codes as vectors: computed, computed in part while they are still bytes, or
// looked up where all fit in a vector, or in one for each of a float's bytes.
template <typename C>
struct ComputedValues : CodeBytes {
  explicit ComputedValues(const typename C::Decoder& d) : decoder(d) {}
  typename C::Decoder decoder;
  CGX_HD F32 operator()(U32 code) const { return C::decode_plain(code, decoder); }
};
template <typename C>
struct FactorValues {
  static constexpr uint32_t kStep = kByteLanes;
  typename C::Decoder decoder;
  // REQUIRES: n is a multiple of kStep. `codes` may lie in `buffer`, so it goes from the front to the back.
  CGX_HD const uint8_t* prepared(const uint8_t* codes, uint32_t n, uint8_t* buffer) const {
    if (C::has_factor_codes(decoder)) return codes;
    for (uint32_t j = 0; j < n; j += kByteLanes) {
      store_byte_lanes(C::factor(load_byte_lanes(codes + j), decoder), buffer + j);
    }
    return buffer;
  }
  CGX_HD static U32 load(const uint8_t* factors) { return load_signed_bytes(factors); }
  CGX_HD F32 operator()(U32 factor) const { return C::times(factor, decoder); }
};
template <typename C>
struct LookedUpValues : CodeBytes {
  explicit LookedUpValues(const typename C::Decoder& decoder)
      : table(C::decode_plain(lane_numbers(), decoder)) {}
  F32 table;
  CGX_HD F32 operator()(U32 code) const { return look_up(table, code); }
};
constexpr bool fit_a_table(uint32_t bits) { return kLanes >= 8 && (1u << bits) <= kLanes; }
// Where words are too few lanes for that, four bytes are looked up and put together.
constexpr bool kByteTables = kVectors && kLanes < 16;
#if HWY_TARGET != HWY_SCALAR && HWY_TARGET != HWY_EMU128
template <typename C>
struct ByteTableValues {
  static constexpr uint32_t kStep = kByteLanes;
  explicit ByteTableValues(const typename C::Decoder& decoder)
      : table([&](U32 codes) HWY_ATTR { return C::decode_plain(codes, decoder); }) {}
  ByteTable table;
  CGX_HD static const uint8_t* prepared(const uint8_t* codes, uint32_t, uint8_t*) { return codes; }
  CGX_HD void look_up(U8 codes, F32 (&x)[4]) const { table.look_up(codes, x); }
};
#endif
template <typename Values>
constexpr bool are_of_bytes() {
  return requires(const Values values, U8 codes, F32(&x)[4]) { values.look_up(codes, x); };
}

template <typename C>
class BucketedDecoder {
 public:
  static void run(const ValueSpec& spec, const uint8_t* in, size_t count, size_t begin, size_t end, Into into,
                  Target to) {
    const BucketedDecoder d(C::layout(spec, count), C::params(spec));
    const size_t unit = d.layout_.elements();
    for (size_t at = begin / unit * unit; at < end; at += unit) {
      const size_t m = count - at < unit ? count - at : unit;
      const uint8_t* block = in + at / unit * d.layout_.bytes(unit);
      const Part part = {block, block + d.layout_.group(m, 0), m, begin > at ? begin - at : 0,
                         end - at < m ? end - at : m};
      d.decode_unit(part, into, to.from(at + part.first - begin));
    }
  }

 private:
  using Params = typename C::Params;
  using Meta = typename C::Meta;
  using Decoder = typename C::Decoder;

  // Elements [first, last) of a unit of m.
  struct Part {
    const uint8_t* metas;
    const uint8_t* packed;
    size_t m, first, last;
    const uint8_t* codes = nullptr;  // a byte each, where the whole unit is unpacked
  };

  BucketedDecoder(const UnitLayout& layout, const Params& params)
      : layout_(layout), group_bytes_(packed_bytes(kGroup, layout.bits)), params_(params) {}

  void decode_unit(const Part& part, Into into, const Target& to) const {
    switch (into) {
      case Into::kAssign:
        return decode_unit<Into::kAssign>(part, to);
      case Into::kAdd:
        return decode_unit<Into::kAdd>(part, to);
      case Into::kStream:
        return decode_unit<Into::kStream>(part, to);
    }
  }

  template <Into kInto>
  void decode_unit(const Part& part, const Target& to) const {
    if (layout_.bucket >= kGroup) return decode_bucket<kInto>(part, 0, part.first, part.last, to);
    alignas(64) uint8_t codes[kGroup];  // a unit is a group
    Part unpacked = part;
    unpacked.codes = codes_at(part, 0, codes);
    for (size_t i = part.first; i < part.last; i += layout_.bucket) {
      const size_t end = part.last - i < layout_.bucket ? part.last : i + layout_.bucket;
      decode_bucket<kInto>(unpacked, i / layout_.bucket, i, end, to.from(i - part.first));
    }
  }

  // Elements [begin, end) of a unit, all of them of one bucket.
  template <Into kInto>
  void decode_bucket(const Part& part, size_t bucket, size_t begin, size_t end, const Target& to) const {
    const Meta meta = wire_load<Meta>(part.metas + layout_.meta(bucket));
    const Decoder decoder = C::decoder(meta, params_);
    const bool finite = C::is_finite(meta);
    if constexpr (has_lanes<C>()) {
      if (finite && C::is_plain(meta)) {
        if (fit_a_table(layout_.bits)) {
          return decode_plain<kInto>(part, begin, end, decoder, LookedUpValues<C>(decoder), to);
        }
        if constexpr (kByteTables) {
          if (layout_.bits <= 4) {
            return decode_plain<kInto>(part, begin, end, decoder, ByteTableValues<C>(decoder), to);
          }
        }
        if constexpr (requires { C::has_factors(decoder); }) {
          if (layout_.bucket >= FactorValues<C>::kStep && C::has_factors(decoder)) {
            return decode_groups<kInto>(part, begin, end, decoder, FactorValues<C>{decoder}, to);
          }
        }
        return decode_plain<kInto>(part, begin, end, decoder, ComputedValues<C>(decoder), to);
      }
    }
    for (size_t i = begin; i < end; i += kGroup) {
      alignas(64) uint8_t buffer[kGroup];
      const uint32_t n = static_cast<uint32_t>(end - i < kGroup ? end - i : kGroup);
      decode_staged(decoder, finite, codes_at(part, i, buffer), n, kInto, to.from(i - begin));
    }
  }

  // The codes from element i on: where they are if each has a byte, else unpacked with their group.
  const uint8_t* codes_at(const Part& part, size_t i, uint8_t* buffer) const {
    const size_t group = i - i % kGroup;
    const uint8_t* packed = part.packed + i / kGroup * group_bytes_;
    if (layout_.bits == 8) return packed + i % kGroup;
    if (part.codes != nullptr) return part.codes + i;
    unpack_group(packed, static_cast<uint32_t>(part.m - group < kGroup ? part.m - group : kGroup),
                 layout_.bits, buffer);
    return buffer + i % kGroup;
  }

  // Whole groups of one-plane codes need no unpacking.
  template <Into kInto, typename Values>
  CGX_HD void decode_plain(const Part& part, size_t begin, size_t end, const Decoder& decoder,
                           const Values values, const Target to) const {
    const size_t whole = layout_.bucket < kGroup ? 0 : (end - begin) / kGroup * kGroup;
    const uint8_t* packed = part.packed + begin / kGroup * group_bytes_;
    size_t done = 0;
    if (layout_.bits == 4) {
      for (; done < whole; done += kGroup) packed = decode_plane<kInto, 4>(packed, values, to.from(done));
    } else if (layout_.bits == 2) {
      for (; done < whole; done += kGroup) packed = decode_plane<kInto, 2>(packed, values, to.from(done));
    } else if (layout_.bits == 1) {
      for (; done < whole; done += kGroup) packed = decode_plane<kInto, 1>(packed, values, to.from(done));
    }
    decode_groups<kInto>(part, begin + done, end, decoder, values, to.from(done));
  }

  // Field k of the bytes from j on holds the codes from k kBytes + j on. Values are written in order: two
  // streams at once take the memory nearly twice as long.
  template <Into kInto, uint32_t kWidth, typename Values>
  CGX_HD static const uint8_t* decode_plane(const uint8_t* HWY_RESTRICT in, const Values values,
                                            const Target to) {
    constexpr uint32_t kBytes = plane_bytes(kGroup, kWidth);
    ask_ahead<kInto>(to);
    HWY_UNROLL(8)
    for (uint32_t k = 0; k < 8 / kWidth; ++k) {
      constexpr uint32_t kMask = (1u << kWidth) - 1;
      if constexpr (are_of_bytes<Values>()) {
        for (uint32_t j = 0; j < kBytes; j += kByteLanes) {
          emit_bytes<kInto>((in_blocks(load_byte_lanes(in + j)) >> (k * kWidth)) & kMask, values, to,
                            k * kBytes + j);
        }
      } else {
        HWY_UNROLL(16)
        for (uint32_t j = 0; j < kBytes; j += kLanes) {
          emit<kInto>(values((load_bytes(in + j) >> (k * kWidth)) & kMask), to, k * kBytes + j);
        }
      }
    }
    return in + kBytes;
  }

  template <Into kInto, typename Values>
  CGX_HD static void emit_bytes(U8 codes, const Values& values, const Target& to, size_t i) {
    F32 x[4];
    values.look_up(codes, x);
    HWY_UNROLL(4)
    for (uint32_t k = 0; k < 4; ++k) emit<kInto>(x[k], to, i + k * kLanes);
  }

  template <Into kInto, typename Values>
  CGX_HD void decode_groups(const Part& part, size_t begin, size_t end, const Decoder& decoder,
                            const Values values, const Target& all) const {
    for (size_t i = begin; i < end; i += kGroup) {
      const Target to = all.from(i - begin);
      ask_ahead<kInto>(to);
      alignas(64) uint8_t buffer[kGroup];
      const uint8_t* codes = codes_at(part, i, buffer);
      const uint32_t n = static_cast<uint32_t>(end - i < kGroup ? end - i : kGroup);
      const uint32_t whole = n - n % Values::kStep;
      const uint8_t* words = values.prepared(codes, whole, buffer);
      if constexpr (are_of_bytes<Values>()) {
        for (uint32_t j = 0; j < whole; j += kByteLanes) {
          emit_bytes<kInto>(in_blocks(load_byte_lanes(words + j)), values, to, j);
        }
      } else {
        for (uint32_t j = 0; j < whole; j += 2 * kLanes) {
          emit<kInto>(values(values.load(words + j)), to, j);
          emit<kInto>(values(values.load(words + j + kLanes)), to, j + kLanes);
        }
      }
      if (whole != n) decode_staged(decoder, true, codes + whole, n - whole, kInto, to.from(whole));
    }
  }

  HWY_NOINLINE static void decode_staged(const Decoder decoder, bool finite,
                                         const uint8_t* HWY_RESTRICT codes, uint32_t n, Into into,
                                         const Target& to) {
    alignas(64) float values[kGroup];
    for (uint32_t i = 0; i < n; ++i) {
      values[i] = finite ? C::decode(uint32_t{codes[i]}, decoder) : bits_float(0x7fc00000u);
    }
    emit(values, n, into, to);
  }

  const UnitLayout layout_;
  const size_t group_bytes_;
  const Params params_;
};

}  // namespace HWY_NAMESPACE
}  // namespace cgx
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
