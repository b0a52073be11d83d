// Where everything lies in encoded bytes: the only file that computes an offset into them. All
// integers are little-endian. docs/WIRE.md says the same in words.
//
// Codes of b bits are cut into planes of 4, 2 or 1 bits (8 for b = 8), the low bits in the widest
// plane. In a plane of width w, a group of m <= 256 codes takes s = ceil(m w / 8) bytes, and byte j holds
// the fields of codes j, j + s, j + 2s, ... from its low bits up: shifts and ors of contiguous
// vectors pack it at any SIMD width.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/hd.h"
#include "base/random.h"

namespace cgx {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
              "the wire is little-endian; big-endian hosts need swaps");

// Widths of the planes of b-bit codes are 8, 4, 2, 1 where that bit of b is set, in this order.
CGX_HD constexpr size_t plane_bytes(uint32_t m, uint32_t width) { return (m * width + 7) / 8; }

// A packed group of m <= 256 codes.
CGX_HD constexpr size_t packed_bytes(uint32_t m, uint32_t bits) {
  size_t bytes = 0;
  for (uint32_t width = 8; width != 0; width /= 2) bytes += (bits & width) != 0 ? plane_bytes(m, width) : 0;
  return bytes;
}

// Elements of the smallest bucket that can be asked for. One for the whole block may have less.
inline constexpr uint32_t kLeastBucket = 32;

// A unit of a bucketed codec: the metadata of its buckets, then the packed codes, a group at a time.
// `bucket` is never 0 here: one bucket for the whole block is a bucket of the block's count.
struct UnitLayout {
  uint64_t bucket;      // elements
  uint32_t bits;        // of a code
  uint32_t meta_bytes;  // of a bucket

  // Buckets smaller than a group share a unit of one group.
  CGX_HD constexpr uint64_t elements() const { return bucket < kGroup ? kGroup : bucket; }
  CGX_HD constexpr uint64_t buckets(uint64_t m) const { return (m + bucket - 1) / bucket; }
  CGX_HD constexpr size_t meta(uint64_t j) const { return j * meta_bytes; }
  // Group g of a unit of m elements.
  CGX_HD constexpr size_t group(uint64_t m, uint64_t g) const {
    return buckets(m) * meta_bytes + g * packed_bytes(kGroup, bits);
  }
  // A whole unit of m elements, m <= elements().
  CGX_HD constexpr size_t bytes(uint64_t m) const {
    return m == 0 ? 0 : group(m, m / kGroup) + packed_bytes(static_cast<uint32_t>(m % kGroup), bits);
  }
};

// Natural compression in 9 bits: a group of m elements is its signs (element i in bit i % 8 of byte
// i / 8), then an exponent byte each.
CGX_HD constexpr size_t natural_exponents(uint32_t m) { return (m + 7) / 8; }
CGX_HD constexpr size_t natural_group_bytes(uint32_t m) { return natural_exponents(m) + m; }

// A top-k block: its indices, then the block of the k values. Plain indices are 4 bytes each.
CGX_HD constexpr size_t plain_index(uint64_t j) { return 4 * j; }

// Packed indices (Elias-Fano) of k elements among `count`: each is cut into its low bits, written one after
// the other, and the rest, its cell: of cell c's elements, numbered j, each sets bit c + j of the high bits,
// so that a zero there ends a cell. A span is 256 cells; how many elements lie before span s > 0 comes first,
// so that spans can be read alone. All three parts are little-endian words of 4 bytes.
// REQUIRES: 0 < k <= count; count <= 2^32 where there are bytes, 2^48 where only their number is asked for.
struct PackedIndexLayout {
  uint64_t count;
  uint64_t k;
  uint32_t low_width;  // the largest with 2^low_width <= count / k

  static constexpr uint32_t kCellsLog = 8;  // of a span

  CGX_HD constexpr PackedIndexLayout(uint64_t of, uint64_t kept) : count(of), k(kept), low_width(0) {
    for (uint64_t rest = of / kept; rest > 1; rest /= 2) ++low_width;
  }
  CGX_HD constexpr uint32_t span_width() const { return low_width + kCellsLog; }
  CGX_HD constexpr uint64_t last_span() const { return (count - 1) >> span_width(); }
  CGX_HD constexpr uint64_t high_bits() const { return k + ((count - 1) >> low_width); }
  CGX_HD static constexpr size_t word_bytes(uint64_t bits) { return (bits + 31) / 32 * 4; }

  CGX_HD static constexpr size_t before_at(uint64_t span) { return 4 * (span - 1); }  // REQUIRES: span > 0
  CGX_HD constexpr size_t low_at() const { return 4 * last_span(); }
  CGX_HD constexpr size_t high_at() const { return low_at() + word_bytes(k * low_width); }
  CGX_HD constexpr size_t bytes() const { return high_at() + word_bytes(high_bits()); }
};

// A rand-k block: the random key that the indices follow from, then the block of the k values.
inline constexpr size_t kRandKHeaderBytes = 24;

// Little-endian loads and stores at any alignment.
template <typename T>
CGX_HD T wire_load(const uint8_t* at) {
  T value;
  memcpy(&value, at, sizeof(T));
  return value;
}
template <typename T>
CGX_HD void wire_store(uint8_t* at, T value) {
  memcpy(at, &value, sizeof(T));
}

}  // namespace cgx
