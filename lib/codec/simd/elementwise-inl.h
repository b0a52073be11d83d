// Codecs without metadata: a code an element, a group at a time in vectors from the elements to the block's
// bytes. Partial groups, and codecs whose arithmetic is written for one element only, go through arrays
// that stay in L1. Included once per instruction set.
#if defined(CGX_ELEMENTWISE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CGX_ELEMENTWISE_INL_H_
#undef CGX_ELEMENTWISE_INL_H_
#else
#define CGX_ELEMENTWISE_INL_H_
#endif

#include "codec/codec_list.h"
#include "codec/simd/bucketed_decode-inl.h"
#include "codec/simd/elements-inl.h"
#include "codec/simd/halves-inl.h"
#include "codec/simd/pack-inl.h"
#include "codec/simd/random-inl.h"

HWY_BEFORE_NAMESPACE();
namespace cgx {
namespace HWY_NAMESPACE {

// Codes [i, i + 4 kLanes) of a whole group, to and from where wire.h says they lie.
template <int kCodeBits>
CGX_HD void store_codes(const U32 (&code)[4], uint32_t i, uint8_t* out) {
  if constexpr (kCodeBits == 16) {
    for (uint32_t k = 0; k < 4; ++k) {
      uint16_t halves[kLanes];
      store_halves(code[k], halves);
      memcpy(out + 2 * (i + k * kLanes), halves, sizeof(halves));
    }
  } else if constexpr (kCodeBits == 9) {
    store_bits(code, 0x100, out + i / 8);
    store_bytes(low_bytes(code), out + natural_exponents(kGroup) + i);
  } else {
    store_bytes(code, out + i);
  }
}

template <int kCodeBits>
CGX_HD U32 load_codes(const uint8_t* in, uint32_t i) {
  if constexpr (kCodeBits == 16) {
    uint16_t halves[kLanes];
    memcpy(halves, in + 2 * i, sizeof(halves));
    return load_halves(halves);
  } else if constexpr (kCodeBits == 9) {
    return load_bytes(in + natural_exponents(kGroup) + i) | load_bits(in + i / 8, i % 8, 0x100);
  } else {
    return load_bytes(in + i);
  }
}

// True where most of C's codes follow from a sign and an exponent byte, which natural's text rounds to.
template <typename C>
constexpr bool is_exponent_codec() {
  return requires(typename C::Coder c) { C::exponents(c); };
}

template <typename C, typename S>
class ElementwiseEncoder {
 public:
  ElementwiseEncoder(const ValueSpec& spec, const Elements& from, size_t count, const BlockContext& context,
                     const GiveBack& back)
      : coder_(C::coder(spec)),
        group_bytes_(C::unit_bytes(spec, kGroup)),
        from_(from),
        source_(from),
        count_(count),
        context_(context),
        back_(back),
        random_(context.key) {}

  void run(uint8_t* out) {
    for (size_t at = 0; at < count_; at += kGroup, out += group_bytes_) {
      if constexpr (C::kRandom) random_.seek(static_cast<uint32_t>((context_.first + at) / kGroup));
      if constexpr (has_lanes<C>()) {
        if (count_ - at >= kGroup) {
          encode_group(at, out);
          continue;
        }
      }
      encode_staged(at, static_cast<uint32_t>(count_ - at < kGroup ? count_ - at : kGroup), out);
    }
  }

 private:
  using Code = typename C::Code;
  using Coder = typename C::Coder;
  static constexpr bool kGivesBack = S::kFeedback != Feedback::kNone;

  // What a group's loop needs, in locals: the bytes that it stores could be any member.
  struct Group {
    S source;
    GiveBack back;
    GroupDraws draws;
    Coder coder;
    size_t at;  // of its first element
  };
  CGX_HD Group group(size_t at) const {
    return {source_.from(at), back_.from(at), random_.group(), coder_, at};
  }

  struct Block {  // what goes through the registers together
    F32 x[4];
  };
  CGX_HD static Block load(const S& source, uint32_t i) {
    Block block;
    HWY_UNROLL(4)
    for (uint32_t k = 0; k < 4; ++k) block.x[k] = source.load(i + k * kLanes);
    return block;
  }

  void encode_group(size_t at, uint8_t* HWY_RESTRICT out) const {
    const Group g = group(at);
    const S next = source_.ahead(at, kAhead, count_, context_.read_next);
    for (uint32_t i = 0; i < kGroup; i += 4 * kLanes) {
      next.template prefetch<4 * kLanes>(i);
      if constexpr (is_exponent_codec<C>() && S::kPlainHalves) {
        encode_half_exponents(g, i, out);
      } else if constexpr (is_exponent_codec<C>()) {
        encode_exponents(g, i, out);
      } else {
        encode_vectors(g, i, out);
      }
    }
  }

  // Elements from i on of their group.
  CGX_HD void encode_vectors(const Group& g, uint32_t i, uint8_t* out) const {
    const auto [x] = load(g.source, i);
    U32 largest = 0u;
    for (const F32& v : x) largest = larger(largest, float_bits(v) & 0x7fffffffu);
    const bool has_specials = any_reaches(largest, C::count_from(g.coder));
    if (HWY_UNLIKELY(has_specials)) count(g.at + i);
    U32 code[4];
    if constexpr (has_plain_elements()) {
      if (HWY_LIKELY(!has_specials)) {
        HWY_UNROLL(4)
        for (uint32_t k = 0; k < 4; ++k) code[k] = C::encode_plain(x[k], g.coder);
        return finish_vectors(g, x, code, i, out);
      }
    }
    HWY_UNROLL(4)
    for (uint32_t k = 0; k < 4; ++k) code[k] = C::encode(x[k], g.coder, g.draws.at(i, k));
    finish_vectors(g, x, code, i, out);
  }

  // Where there is less to do for vectors of which count_from() has nothing to count.
  static constexpr bool has_plain_elements() {
    return requires(F32 x, Coder coder) { C::encode_plain(x, coder); };
  }

  CGX_HD static void finish_vectors(const Group& g, const F32 (&x)[4], const U32 (&code)[4], uint32_t i,
                                    uint8_t* out) {
    if constexpr (kGivesBack) {
      HWY_UNROLL(4)
      for (uint32_t k = 0; k < 4; ++k) {
        give_back<S::kFeedback, false>(x[k], C::decode(code[k], g.coder), i + k * kLanes, g.back);
      }
    }
    store_codes<C::kCodeBits>(code, i, out);
  }

  // Nearly all are plain, which shows in the exponents that come out. Signs are the elements' own, so only
  // who wants the values rounds them together with the exponents.
  CGX_HD void encode_exponents(const Group& g, uint32_t i, uint8_t* out) const {
    const ExponentRange range = C::exponents(g.coder);
    const auto [x] = load(g.source, i);
    U32 rounded[4];
    HWY_UNROLL(4)
    for (uint32_t k = 0; k < 4; ++k) {
      const Draw draw = g.draws.at(i, k);
      rounded[k] = kGivesBack ? natural_encode_plain(x[k], draw) : round_with(draw, float_bits(x[k]));
    }
    const Bytes exponents = kGivesBack ? low_bytes(rounded) : to_bytes(rounded);
    if (HWY_UNLIKELY(!bytes_within(exponents, range.first, range.last))) return encode_any(g.at, i, out);
    if constexpr (kGivesBack) {
      HWY_UNROLL(4)
      for (uint32_t k = 0; k < 4; ++k) {
        give_back<S::kFeedback, true>(x[k], natural_decode(rounded[k]), i + k * kLanes, g.back);
      }
    }
    if constexpr (C::kCodeBits == 9) {
      store_signs(sign_bytes(x), out + i / 8);
      store_bytes(exponents, out + natural_exponents(kGroup) + i);
    } else {
      store_bytes(with_signs(exponents, range.offset, sign_bytes(x)), out + i);
    }
  }

  // The same on 16 bits.
  CGX_HD void encode_half_exponents(const Group& g, uint32_t i, uint8_t* out) const {
    using Exponents = HalfExponents<S::kElement>;
    const ExponentRange range = Exponents::range(C::exponents(g.coder));
    const Exponents exponents(g.source.stored(i), g.draws, i);
    if (HWY_UNLIKELY(!exponents.within(range))) return encode_any(g.at, i, out);
    if constexpr (C::kCodeBits == 9) {
      exponents.store_signs(out + i / 8);
      exponents.store_exponents(out + natural_exponents(kGroup) + i);
    } else {
      exponents.store_signed(range.offset, out + i);
    }
  }

  // Loads again: what has its address taken would go through memory above.
  HWY_NOINLINE void encode_any(size_t at, uint32_t i, uint8_t* out) const {
    encode_vectors(group(at), i, out);
  }

  HWY_NOINLINE void count(size_t at) const {
    float x[4 * kLanes];
    load_elements(from_.from(at), 4 * kLanes, x);
    count_specials(x, 4 * kLanes, C::count_from(coder_), context_.counts);
  }

  HWY_NOINLINE void encode_staged(size_t at, uint32_t n, uint8_t* out) const {
    alignas(64) float x[kGroup];
    alignas(64) uint32_t draws[kGroup] = {};
    alignas(64) Code codes[kGroup];
    load_elements(from_.from(at), n, x);
    if constexpr (C::kRandom) random_.draws(0, n, draws);
    const Coder coder = coder_;
    for (uint32_t i = 0; i < n; ++i) codes[i] = static_cast<Code>(C::encode(x[i], coder, draws[i]));
    if constexpr (C::kCodeBits == 9) {
      pack_nine_bits(codes, n, out);
    } else {
      memcpy(out, codes, n * sizeof(Code));
    }
    count_specials(x, n, C::count_from(coder), context_.counts);
    if constexpr (kGivesBack) {
      alignas(64) float values[kGroup];
      for (uint32_t i = 0; i < n; ++i) values[i] = C::decode(uint32_t{codes[i]}, coder);
      give_back(x, values, n, back_.from(at));
    }
  }

  const Coder coder_;
  const size_t group_bytes_;
  const Elements from_;
  const S source_;
  const size_t count_;
  const BlockContext& context_;
  const GiveBack back_;
  GroupRandom random_;
};

template <typename C>
class Elementwise {
 public:
  template <typename S>
  using Encoder = ElementwiseEncoder<C, S>;

  static void encode(const ValueSpec& spec, const Elements& from, size_t count, const BlockContext& context,
                     const GiveBack& back, uint8_t* out) {
    encode_from<Encoder>(spec, from, count, context, back, out);
  }

  static void decode(const ValueSpec& spec, const uint8_t* in, size_t count, size_t begin, size_t end,
                     Into into, Target all) {
    switch (into) {
      case Into::kAssign:
        return decode_into<Into::kAssign>(spec, in, count, begin, end, all);
      case Into::kAdd:
        return decode_into<Into::kAdd>(spec, in, count, begin, end, all);
      case Into::kStream:
        return decode_into<Into::kStream>(spec, in, count, begin, end, all);
    }
  }

 private:
  using Code = typename C::Code;
  using Coder = typename C::Coder;

  template <Into kInto>
  static void decode_into(const ValueSpec& spec, const uint8_t* in, size_t count, size_t begin, size_t end,
                          const Target all) {
    const Coder coder = C::coder(spec);
    const size_t group_bytes = C::unit_bytes(spec, kGroup);
    for (size_t at = begin; at < end; at += kGroup) {
      const uint32_t n = static_cast<uint32_t>(count - at < kGroup ? count - at : kGroup);
      const uint32_t wanted = static_cast<uint32_t>(end - at < n ? end - at : n);
      const uint8_t* block = in + at / kGroup * group_bytes;
      const Target to = all.from(at - begin);
      if constexpr (has_lanes<C>()) {
        if (wanted == kGroup) {
          decode_group<kInto>(block, coder, to);
          continue;
        }
      }
      decode_staged(block, n, wanted, coder, kInto, to);
    }
  }

  template <Into kInto>
  CGX_HD static void decode_group(const uint8_t* HWY_RESTRICT in, const Coder coder, const Target to) {
    ask_ahead<kInto>(to);
    if constexpr (is_exponent_codec<C>()) {
      if (HWY_LIKELY(is_plain(in))) return decode_exponents<kInto>(in, coder, to);
    }
    HWY_UNROLL(2)
    for (uint32_t i = 0; i < kGroup; i += kLanes) {
      emit<kInto>(C::decode(load_codes<C::kCodeBits>(in, i), coder), to, i);
    }
  }

  // Whether a group's codes are signs and exponents, and nothing else.
  CGX_HD static bool is_plain(const uint8_t* in) {
    if constexpr (C::kCodeBits == 9) {
      return true;
    } else {
      return bytes_within(in, C::kPlainMask, C::kPlainFirst, C::kPlainLast);
    }
  }

  template <Into kInto>
  CGX_HD static void decode_exponents(const uint8_t* HWY_RESTRICT in, const Coder coder, const Target to) {
    for (uint32_t i = 0; i < kGroup; i += kByteLanes) {
      F32 x[4];
      if constexpr (C::kCodeBits == 9) {
        to_floats(in_blocks(load_byte_lanes(in + natural_exponents(kGroup) + i)),
                  in_blocks(load_sign_bytes(in + i / 8)), x);
      } else {
        const U8 codes = in_blocks(load_byte_lanes(in + i));
        to_floats(C::exponent(codes, coder), low_signs(codes), x);
      }
      HWY_UNROLL(4)
      for (uint32_t k = 0; k < 4; ++k) emit<kInto>(x[k], to, i + k * kLanes);
    }
  }

  HWY_NOINLINE static void decode_staged(const uint8_t* in, uint32_t n, uint32_t wanted, const Coder coder,
                                         Into into, const Target& to) {
    alignas(64) Code codes[kGroup];
    if constexpr (C::kCodeBits == 9) {
      unpack_nine_bits(in, n, codes);
    } else {
      memcpy(codes, in, n * sizeof(Code));
    }
    alignas(64) float values[kGroup];
    for (uint32_t i = 0; i < wanted; ++i) values[i] = C::decode(uint32_t{codes[i]}, coder);
    emit(values, wanted, into, to);
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace cgx
HWY_AFTER_NAMESPACE();

#endif  // per-target include guard
