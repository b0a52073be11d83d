// Reads and writes both codings of indices; where their bytes lie is in wire.h.
#include "codec/index_block.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <new>
#include <span>

#include "codec/wire.h"

namespace cgx {
namespace {

// Index of the first j in [from, k) whose index is not below `at`, for sorted indices; any j for others. It
// is looked for near `guess`: a search from the middle of a large block meets lines that are in no cache.
size_t first_kept(const uint8_t* block, size_t from, size_t k, size_t guess, uint64_t at) {
  const auto is_below = [&](size_t j) { return wire_load<uint32_t>(block + plain_index(j)) < at; };
  size_t low = from, high = k;
  int64_t probe = static_cast<int64_t>(guess);
  for (int64_t step = 64; probe >= static_cast<int64_t>(low) && probe < static_cast<int64_t>(high);
       step *= 2) {
    if (is_below(static_cast<size_t>(probe))) {
      low = static_cast<size_t>(probe) + 1;
      probe += step;
    } else {
      high = static_cast<size_t>(probe);
      probe -= step;
    }
  }
  while (low < high) {
    const size_t middle = low + (high - low) / 2;
    if (is_below(middle)) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

void encode_packed(const uint32_t* indices, uint64_t count, uint64_t k, uint8_t* block) {
  const PackedIndexLayout layout(count, k);
  const uint32_t width = layout.low_width;
  const uint64_t mask = (uint64_t{1} << width) - 1;
  uint8_t* low = block + layout.low_at();
  uint8_t* const high = block + layout.high_at();
  memset(high, 0, layout.bytes() - layout.high_at());
  uint64_t span = 1;
  uint64_t pending = 0;  // low bits that fill no word yet
  uint32_t filled = 0;
  for (uint64_t j = 0; j < k; ++j) {
    const uint64_t cell = uint64_t{indices[j]} >> width;
    for (; span <= cell >> layout.kCellsLog; ++span) {
      wire_store(block + layout.before_at(span), static_cast<uint32_t>(j));
    }
    const uint64_t bit = cell + j;
    uint8_t* const word = high + bit / 32 * 4;
    wire_store(word, wire_load<uint32_t>(word) | uint32_t{1} << bit % 32);
    pending |= (indices[j] & mask) << filled;
    filled += width;
    if (filled < 32) continue;
    wire_store(low, static_cast<uint32_t>(pending));
    low += sizeof(uint32_t);
    pending >>= 32;
    filled -= 32;
  }
  if (filled != 0) wire_store(low, static_cast<uint32_t>(pending));
  for (; span <= layout.last_span(); ++span) {
    wire_store(block + layout.before_at(span), static_cast<uint32_t>(k));
  }
}

// `all`, which are the entries from `first` on, must rise strictly within [begin, end).
Status check_order(std::span<const uint32_t> all, uint64_t first, uint64_t begin, uint64_t end) {
  if (all.empty()) return {};
  bool rises = all.front() >= begin && all.back() < end;
  for (size_t i = 1; i < all.size(); ++i) rises &= all[i - 1] < all[i];
  if (rises) return {};
  uint64_t least = begin;
  size_t i = 0;
  for (; all[i] >= least && all[i] < end; ++i) least = uint64_t{all[i]} + 1;
  return error(Code::kCorrupt,
               "top-k block: index {} of entry {} is not in [{}, {}): indices must rise strictly and lie "
               "within the tensor",
               all[i], first + i, least, end);
}

Status miscounted(uint64_t span, uint64_t from, uint64_t to) {
  return error(Code::kCorrupt, "top-k block: span {} of its packed indices does not hold entries {} to {}",
               span, from, to);
}

// A block of packed indices, of any bytes.
struct Packed {
  PackedIndexLayout layout;
  const uint8_t* block;
  const uint8_t* low_bits = block + layout.low_at();
  const uint8_t* high_bits = block + layout.high_at();
  uint64_t low_mask = (uint64_t{1} << layout.low_width) - 1;

  // How many entries lie before a span, as the block says; one beyond the last may be asked for.
  uint64_t count_before(uint64_t span) const {
    if (span == 0) return 0;
    return span > layout.last_span() ? layout.k : wire_load<uint32_t>(block + layout.before_at(span));
  }
  // The low bits of entry j < k. Two words are read: the high bits, of one word at least, begin where the low
  // ones end. Without low ones there may be no second word.
  uint64_t low_of(uint64_t j) const {
    if (low_mask == 0) return 0;
    const uint64_t bit = j * layout.low_width;
    return wire_load<uint64_t>(low_bits + bit / 32 * 4) >> bit % 32 & low_mask;
  }
  // Writes the entries [from, to) of a span to out; corrupt where the span has not as many, or the last is
  // not in it.
  Status read_span(uint64_t span, uint64_t from, uint64_t to, uint32_t* out) const {
    const uint64_t cells = span << layout.kCellsLog;
    const uint64_t begin = cells + from;
    const uint64_t end = std::min(cells + (uint64_t{1} << layout.kCellsLog) + to, layout.high_bits());
    uint64_t j = from;
    for (uint64_t word = begin / 32 * 32; word < end; word += 32) {
      uint32_t bits = wire_load<uint32_t>(high_bits + word / 8);
      if (word < begin) bits &= ~uint32_t{0} << (begin - word);
      if (end - word < 32) bits &= (uint32_t{1} << (end - word)) - 1;
      for (; bits != 0; bits &= bits - 1, ++j) {
        if (j == to) return miscounted(span, from, to);
        const uint64_t bit = word + static_cast<uint64_t>(std::countr_zero(bits));
        *out++ = static_cast<uint32_t>((bit - j) << layout.low_width | low_of(j));
      }
    }
    const bool is_counted = j == to && (to == from || uint64_t{out[-1]} >> layout.span_width() == span);
    return is_counted ? Status() : miscounted(span, from, to);
  }
};

}  // namespace

size_t index_block_bytes(IndexCoding coding, uint64_t count, uint64_t k) {
  return coding == IndexCoding::kPlain ? plain_index(k) : PackedIndexLayout(count, k).bytes();
}

void encode_indices(IndexCoding coding, const uint32_t* indices, uint64_t count, uint64_t k, uint8_t* block) {
  if (coding == IndexCoding::kPacked) return encode_packed(indices, count, k, block);
  memcpy(block, indices, plain_index(k));
}

Status IndexPart::read(IndexCoding coding, const uint8_t* block, uint64_t count, uint64_t k, uint64_t begin,
                       uint64_t end) {
  size_ = 0;
  if (begin == end) return {};
  return coding == IndexCoding::kPlain ? read_plain(block, count, k, begin, end)
                                       : read_packed(block, count, k, begin, end);
}

Result<uint32_t*> IndexPart::reserve(size_t entries) {
  if (entries <= kFew) return few_;
  many_.reset(new (std::nothrow) uint32_t[entries]);
  if (!many_) return error(Code::kResource, "top-k block: no memory to read {} indices", entries);
  return many_.get();
}

Status IndexPart::read_plain(const uint8_t* block, uint64_t count, uint64_t k, uint64_t begin, uint64_t end) {
  const double density = static_cast<double>(k) / static_cast<double>(count);
  const auto expected = [&](uint64_t elements) {
    return static_cast<size_t>(density * static_cast<double>(elements));
  };
  const bool whole = begin == 0 && end == count;
  first_ = whole ? 0 : first_kept(block, 0, k, expected(begin), begin);
  const size_t last = whole ? k : first_kept(block, first_, k, first_ + expected(end - begin), end);
  // One more than the part can hold does not rise.
  const size_t size = std::min<uint64_t>(last - first_, end - begin + 1);
  CGX_ASSIGN_OR_RETURN(uint32_t* const all, reserve(size));
  memcpy(all, block + plain_index(first_), plain_index(size));
  at_ = all;
  size_ = size;
  return check_order({all, size}, first_, begin, end);
}

Status IndexPart::read_packed(const uint8_t* block, uint64_t count, uint64_t k, uint64_t begin,
                              uint64_t end) {
  const Packed packed = {{count, k}, block};
  const uint32_t width = packed.layout.span_width();
  const uint64_t first_span = begin >> width, last_span = (end - 1) >> width;
  const uint64_t first = packed.count_before(first_span), last = packed.count_before(last_span + 1);
  const uint64_t room = (last_span + 1 - first_span) << width;
  if (first > last || last > k || last - first > room) return miscounted(first_span, first, last);
  CGX_ASSIGN_OR_RETURN(uint32_t* const all, reserve(last - first));
  for (uint64_t span = first_span, from = first, to = 0; span <= last_span; ++span, from = to) {
    to = span == last_span ? last : packed.count_before(span + 1);
    if (from > to || to > last) return miscounted(span, from, to);
    CGX_RETURN_IF_ERROR(packed.read_span(span, from, to, all + (from - first)));
  }
  const uint32_t* const all_end = all + (last - first);
  CGX_RETURN_IF_ERROR(check_order({all, all_end}, first, first_span << width, count));
  // Of the first and the last span only what lies in the part.
  at_ = std::lower_bound<const uint32_t*>(all, all_end, begin);
  first_ = first + static_cast<size_t>(at_ - all);
  size_ = static_cast<size_t>(std::lower_bound(at_, all_end, end) - at_);
  return {};
}

}  // namespace cgx
