// Validation and arithmetic of layouts. Everything here is a binary search for the first segment of
// interest followed by a walk; nothing is precomputed, so that a Layout stays a plain value.
#include "codec/layout.h"

#include <algorithm>
#include <bit>

namespace cgx {
namespace {

// Philox counters hold 2^28 groups: beyond that a segment's random bits would repeat. Sparse codecs
// write 32-bit indices.
constexpr uint64_t kMaxSegment = uint64_t{1} << 36;
constexpr uint64_t kMaxSparseSegment = uint64_t{1} << 32;

constexpr size_t kDescribeChars = 160;

uint64_t round_up(uint64_t x, uint64_t multiple) { return (x + multiple - 1) / multiple * multiple; }

// Index of the segment that holds element `at`. REQUIRES: at < count of the layout.
size_t segment_at(const std::vector<Segment>& segments, uint64_t at) {
  auto after = std::upper_bound(segments.begin(), segments.end(), at,
                                [](uint64_t value, const Segment& s) { return value < s.offset; });
  return static_cast<size_t>(after - segments.begin()) - 1;
}

// Where ranks may cut a segment; see chunk_cut() in the header.
uint64_t cut_multiple(const CodecSpec& spec) {
  const uint64_t g = granule(spec);
  return g == 0 ? kGroup : g;
}

Status check_place(const Segment& s, size_t i, uint64_t expected, uint64_t count) {
  if (s.count == 0) {
    return error(Code::kInvalidArgument, "layout: segment {} (tensor {}, offset {}) is empty; leave it out",
                 i, s.tensor_id, s.offset);
  }
  if (s.offset > expected) {
    return error(Code::kInvalidArgument,
                 "layout: elements {} to {} before segment {} belong to no segment; segments must cover the "
                 "tensor without gaps",
                 expected, s.offset - 1, i);
  }
  if (s.offset < expected) {
    return error(Code::kInvalidArgument,
                 "layout: segment {} starts at {}, but the segments before it end at {}; segments must be "
                 "sorted by offset and must not overlap",
                 i, s.offset, expected);
  }
  if (s.count > count - expected) {
    return error(Code::kInvalidArgument,
                 "layout: segment {} starts at {} and has {} elements, but the tensor has only {}", i,
                 s.offset, s.count, count);
  }
  return {};
}

Status check_codec(const Segment& s, size_t i, DType dtype) {
  const bool raw = s.spec.kind == CodecKind::kNone;
  if (!raw && !is_encodable(dtype)) {
    return error(Code::kInvalidArgument,
                 "layout: segment {}: codec \"{}\" cannot encode {} elements; fp32, fp16 and bf16 can be "
                 "compressed, other types take \"none\"",
                 i, to_string(s.spec), dtype_name(dtype));
  }
  const uint64_t limit = is_sparse(s.spec) ? kMaxSparseSegment : kMaxSegment;
  if (!raw && s.count > limit) {
    return error(Code::kInvalidArgument,
                 "layout: segment {} has {} elements, codec \"{}\" takes at most {}; split the segment", i,
                 s.count, to_string(s.spec), limit);
  }
  return {};
}

Status check_ids(const std::vector<Segment>& segments) {
  std::vector<uint32_t> ids;
  ids.reserve(segments.size());
  for (const Segment& s : segments) ids.push_back(s.tensor_id);
  std::sort(ids.begin(), ids.end());
  auto twice = std::adjacent_find(ids.begin(), ids.end());
  if (twice == ids.end()) return {};
  return error(Code::kInvalidArgument,
               "layout: tensor id {} is used by more than one segment; ids key random numbers and residuals "
               "and must differ",
               *twice);
}

// Order-sensitive: two fields exchanged give another hash. A multiplication and a fold for each field, as a
// layout of many segments is hashed at every call; the finalizer is SplitMix64's.
class Hash {
 public:
  void add(uint64_t field) {
    state_ = (state_ ^ field) * 0x9e3779b97f4a7c15u;
    state_ ^= state_ >> 32;
  }
  uint64_t value() const {
    uint64_t x = (state_ ^ (state_ >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
  }

 private:
  uint64_t state_ = 0x6a09e667f3bcc909u;
};

void add_spec(const CodecSpec& spec, Hash& hash) {
  const ValueSpec& v = spec.values;
  hash.add(static_cast<uint64_t>(spec.kind) | static_cast<uint64_t>(v.kind) << 8 |
           static_cast<uint64_t>(v.half) << 16 | static_cast<uint64_t>(v.rounding) << 24 |
           static_cast<uint64_t>(v.norm) << 32 | static_cast<uint64_t>(v.bits) << 40 |
           static_cast<uint64_t>(spec.error_feedback) << 48 | static_cast<uint64_t>(spec.indices) << 56);
  hash.add(static_cast<uint64_t>(v.levels) | static_cast<uint64_t>(static_cast<uint16_t>(v.bias)) << 16 |
           static_cast<uint64_t>(v.bucket) << 32);
  hash.add(std::bit_cast<uint64_t>(spec.ratio));
  hash.add(std::bit_cast<uint64_t>(spec.error));
}

}  // namespace

Result<Layout> Layout::make(DType dtype, uint64_t count, std::vector<Segment> segments) {
  uint64_t expected = 0;
  for (size_t i = 0; i < segments.size(); ++i) {
    CGX_RETURN_IF_ERROR(check_place(segments[i], i, expected, count));
    CGX_RETURN_IF_ERROR(check_codec(segments[i], i, dtype));
    expected += segments[i].count;
  }
  if (expected != count) {
    return error(Code::kInvalidArgument, "layout: {} segments end at element {}, but the tensor has {}",
                 segments.size(), expected, count);
  }
  CGX_RETURN_IF_ERROR(check_ids(segments));
  Layout layout;
  layout.dtype_ = dtype;
  layout.count_ = count;
  layout.segments_ = std::move(segments);
  return layout;
}

Result<Layout> Layout::uniform(DType dtype, uint64_t count, const CodecSpec& spec, uint32_t tensor_id) {
  std::vector<Segment> segments;
  if (count > 0) segments.push_back({0, count, spec, tensor_id});
  return make(dtype, count, std::move(segments));
}

std::vector<Piece> Layout::pieces(uint64_t begin, uint64_t end) const {
  std::vector<Piece> out;
  pieces(begin, end, &out);
  return out;
}

void Layout::pieces(uint64_t begin, uint64_t end, std::vector<Piece>* out) const {
  CGX_CHECK(begin <= end && end <= count_);
  out->clear();
  if (begin == end) return;
  uint64_t wire = 0;
  for (size_t i = segment_at(segments_, begin); i < segments_.size() && segments_[i].offset < end; ++i) {
    const Segment& s = segments_[i];
    Piece p;
    p.segment = static_cast<uint32_t>(i);
    p.begin = std::max(begin, s.offset);
    p.end = std::min(end, s.offset + s.count);
    p.in_segment = p.begin - s.offset;
    CGX_CHECK(p.in_segment % cut_multiple(s.spec) == 0);
    wire = round_up(wire, kBlockAlign);
    p.wire_offset = wire;
    p.wire_bytes = encoded_bytes(s.spec, dtype_, p.end - p.begin);
    wire += p.wire_bytes;
    out->push_back(p);
  }
}

uint64_t Layout::wire_bytes(uint64_t begin, uint64_t end) const {
  CGX_CHECK(begin <= end && end <= count_);
  if (begin == end) return 0;
  uint64_t wire = 0;
  for (size_t i = segment_at(segments_, begin); i < segments_.size() && segments_[i].offset < end; ++i) {
    const Segment& s = segments_[i];
    const uint64_t from = std::max(begin, s.offset);
    const uint64_t to = std::min(end, s.offset + s.count);
    wire = round_up(wire, kBlockAlign) + encoded_bytes(s.spec, dtype_, to - from);
  }
  return wire;
}

uint64_t Layout::chunk_cut(uint64_t at) const {
  if (at >= count_) return count_;
  const Segment& s = segments_[segment_at(segments_, at)];
  const uint64_t cut = round_up(at - s.offset, cut_multiple(s.spec));
  return s.offset + std::min(cut, s.count);
}

uint64_t Layout::slice_cut(uint64_t at, uint64_t chunk_begin, uint64_t chunk_end) const {
  CGX_CHECK(chunk_begin <= at && chunk_end <= count_);
  if (at >= chunk_end) return chunk_end;
  const Segment& s = segments_[segment_at(segments_, at)];
  if (granule(s.spec) != 0) return std::min(chunk_cut(at), chunk_end);
  const uint64_t block_begin = std::max(s.offset, chunk_begin);
  return at == block_begin ? at : std::min(s.offset + s.count, chunk_end);
}

bool Layout::any_auto() const {
  return std::any_of(segments_.begin(), segments_.end(), [](const Segment& s) { return is_auto(s.spec); });
}

bool Layout::any_error_feedback() const {
  return std::any_of(segments_.begin(), segments_.end(),
                     [](const Segment& s) { return s.spec.error_feedback; });
}

uint64_t Layout::fingerprint() const {
  Hash hash;
  hash.add(static_cast<uint64_t>(dtype_));
  hash.add(count_);
  hash.add(segments_.size());
  const CodecSpec* before = nullptr;
  for (const Segment& s : segments_) {
    hash.add(s.count);  // offsets follow, as there are no gaps
    const bool same = before != nullptr && *before == s.spec;
    hash.add(uint64_t{s.tensor_id} << 1 | (same ? 1 : 0));
    if (!same) add_spec(s.spec, hash);
    before = &s.spec;
  }
  return hash.value();
}

// Names distinct specs in order of appearance while they fit.
std::string Layout::describe() const {
  std::string text = fmt::format("count={} {}, {} segment{}", count_, dtype_name(dtype_), segments_.size(),
                                 segments_.size() == 1 ? "" : "s");
  std::vector<const CodecSpec*> named;
  for (const Segment& s : segments_) {
    if (std::any_of(named.begin(), named.end(), [&](const CodecSpec* n) { return *n == s.spec; })) continue;
    const std::string next = (named.empty() ? ": " : ", ") + to_string(s.spec);
    if (text.size() + next.size() + 5 > kDescribeChars) return text + (named.empty() ? ": ..." : ", ...");
    text += next;
    named.push_back(&s.spec);
  }
  return text;
}

}  // namespace cgx
