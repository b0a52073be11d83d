// Layouts: what is refused and in which words, where tensors may be cut, and that pieces tile a message.
#include "codec/layout.h"

#include <gtest/gtest.h>

#include <functional>
#include <set>
#include <string>

namespace cgx {
namespace {

CodecSpec spec(const char* text) {
  auto parsed = parse_spec(text);
  EXPECT_TRUE(parsed.ok()) << parsed.status().message();
  return parsed.ok() ? *parsed : CodecSpec{};
}

std::string refusal(DType dtype, uint64_t count, std::vector<Segment> segments) {
  auto made = Layout::make(dtype, count, std::move(segments));
  EXPECT_FALSE(made.ok());
  EXPECT_EQ(made.status().code(), Code::kInvalidArgument);
  return made.status().message();
}

void expect_names(const std::string& message, std::initializer_list<const char*> words) {
  for (const char* word : words)
    EXPECT_NE(message.find(word), std::string::npos) << message << "\nlacks " << word;
}

// A bucketed, a sparse, a raw and a byte-per-element segment of odd sizes.
Layout mixed() {
  return *Layout::make(DType::kF32, 5000 + 3000 + 17 + 2001,
                       {{0, 5000, spec("maxmin:bits=4,bucket=1024"), 7},
                        {5000, 3000, spec("topk:ratio=0.01"), 8},
                        {8000, 17, spec("none"), 9},
                        {8017, 2001, spec("natural8"), 3}});
}

TEST(Layout, AnEmptyTensorHasNoSegments) {
  auto layout = Layout::uniform(DType::kF32, 0, spec("natural"), 1);
  ASSERT_TRUE(layout.ok());
  EXPECT_TRUE(layout->segments().empty());
  EXPECT_TRUE(layout->pieces(0, 0).empty());
  EXPECT_EQ(layout->wire_bytes(0, 0), 0u);
  EXPECT_EQ(layout->chunk_cut(0), 0u);
  EXPECT_EQ(layout->slice_cut(0, 0, 0), 0u);
}

TEST(Layout, RefusesWhatIsNotATilingAndNamesThePlace) {
  const CodecSpec none = spec("none");
  expect_names(refusal(DType::kF32, 10, {{0, 4, none, 1}, {5, 5, none, 2}}), {"4 to 4", "no segment"});
  expect_names(refusal(DType::kF32, 10, {{1, 9, none, 1}}), {"0 to 0"});
  expect_names(refusal(DType::kF32, 10, {{0, 6, none, 1}, {5, 5, none, 2}}), {"starts at 5", "end at 6"});
  expect_names(refusal(DType::kF32, 10, {{5, 5, none, 1}, {0, 5, none, 2}}), {"0 to 4"});
  expect_names(refusal(DType::kF32, 10, {{0, 0, none, 1}, {0, 10, none, 2}}),
               {"segment 0", "tensor 1", "empty"});
  expect_names(refusal(DType::kF32, 10, {{0, 9, none, 1}}), {"end at element 9", "has 10"});
  expect_names(refusal(DType::kF32, 10, {{0, 11, none, 1}}), {"11 elements", "only 10"});
  expect_names(refusal(DType::kF32, 10, {}), {"0 segments", "has 10"});
  expect_names(refusal(DType::kF32, 0, {{0, 1, none, 1}}), {"only 0"});
  // The sum of offset and count would wrap around.
  expect_names(refusal(DType::kF32, 10, {{0, 5, none, 1}, {5, UINT64_MAX, none, 2}}), {"only 10"});
}

TEST(Layout, RefusesATensorIdUsedTwice) {
  expect_names(refusal(DType::kF32, 10, {{0, 4, spec("none"), 6}, {4, 6, spec("none"), 6}}), {"tensor id 6"});
}

TEST(Layout, TypesThatCodecsDoNotTakeAreSentRawOrRefused) {
  for (DType t : {DType::kF64, DType::kI8, DType::kU8, DType::kI16, DType::kI32, DType::kI64}) {
    EXPECT_TRUE(Layout::uniform(t, 100, spec("none"), 1).ok());
    expect_names(refusal(t, 100, {{0, 100, spec("natural"), 1}}), {"natural", dtype_name(t), "none"});
  }
  for (DType t : {DType::kF32, DType::kF16, DType::kBF16}) {
    EXPECT_TRUE(Layout::uniform(t, 100, spec("natural"), 1).ok());
  }
}

TEST(Layout, RefusesSegmentsBeyondIndicesAndCounters) {
  const uint64_t sparse = uint64_t{1} << 32, dense = uint64_t{1} << 36;
  EXPECT_TRUE(Layout::uniform(DType::kF32, sparse, spec("topk:ratio=0.01"), 1).ok());
  expect_names(refusal(DType::kF32, sparse + 1, {{0, sparse + 1, spec("topk:ratio=0.01"), 1}}),
               {"4294967296"});
  EXPECT_TRUE(Layout::uniform(DType::kF32, dense, spec("natural"), 1).ok());
  expect_names(refusal(DType::kF32, dense + 1, {{0, dense + 1, spec("natural"), 1}}), {"68719476736"});
  EXPECT_TRUE(Layout::uniform(DType::kF32, dense + 1, spec("none"), 1).ok());
}

TEST(Layout, PiecesTileTheRangeAndTheMessage) {
  const Layout layout = mixed();
  for (uint64_t begin : {0, 1024, 4096, 5000, 5256, 8000, 8017, 8273}) {
    for (uint64_t end : {1024, 2048, 5000, 5512, 8000, 8017, 8273, 10018}) {
      if (begin > end) continue;
      const auto pieces = layout.pieces(begin, end);
      uint64_t at = begin, wire = 0;
      for (const Piece& p : pieces) {
        const Segment& s = layout.segments()[p.segment];
        EXPECT_EQ(p.begin, at);
        EXPECT_LT(p.begin, p.end);
        EXPECT_EQ(p.in_segment, p.begin - s.offset);
        EXPECT_LE(p.end, s.offset + s.count);
        EXPECT_EQ(p.wire_offset % kBlockAlign, 0u);
        EXPECT_GE(p.wire_offset, wire);
        EXPECT_LT(p.wire_offset, wire + kBlockAlign);
        EXPECT_EQ(p.wire_bytes, encoded_bytes(s.spec, DType::kF32, p.end - p.begin));
        at = p.end;
        wire = p.wire_offset + p.wire_bytes;
      }
      EXPECT_EQ(at, end);
      EXPECT_EQ(layout.wire_bytes(begin, end), wire);
    }
  }
}

TEST(Layout, ChunkCutIsTheSmallestLegalPlace) {
  const Layout layout = mixed();
  std::set<uint64_t> legal = {layout.count()};
  for (const Segment& s : layout.segments()) {
    const uint64_t g = granule(s.spec) == 0 ? kGroup : granule(s.spec);
    for (uint64_t at = 0; at < s.count; at += g) legal.insert(s.offset + at);
  }
  for (uint64_t at = 0; at <= layout.count() + 3; ++at) {
    const auto place = legal.lower_bound(at);
    EXPECT_EQ(layout.chunk_cut(at), place == legal.end() ? layout.count() : *place) << at;
  }
}

TEST(Layout, SlicesNeverCutABlockOfASparseCodec) {
  const Layout layout = mixed();
  const uint64_t chunk_begin = 5256,
                 chunk_end = 8273;  // both are cuts: inside the sparse and the last segment
  for (uint64_t at = chunk_begin; at <= chunk_end + 2; ++at) {
    const uint64_t cut = layout.slice_cut(at, chunk_begin, chunk_end);
    uint64_t expected = layout.chunk_cut(std::min(at, chunk_end));
    if (at == chunk_begin) expected = chunk_begin;
    if (at > chunk_begin && at < 8000) expected = 8000;
    EXPECT_EQ(cut, std::min(expected, chunk_end)) << at;
  }
  // A chunk that ends within the sparse segment: its one block ends there too.
  EXPECT_EQ(layout.slice_cut(5257, 5256, 5512), 5512u);
}

TEST(Layout, ABucketOverTheWholeTensorIsOneBlockASlice) {
  auto layout = Layout::uniform(DType::kF32, 4096, spec("maxmin:bits=4,bucket=0"), 1);
  ASSERT_TRUE(layout.ok());
  EXPECT_EQ(layout->chunk_cut(1), uint64_t{kGroup});
  EXPECT_EQ(layout->slice_cut(1, 0, 4096), 4096u);
  EXPECT_EQ(layout->slice_cut(0, 0, 4096), 0u);
}

TEST(Layout, FingerprintsDifferWhereverRanksCouldDisagree) {
  using Change = std::function<void(DType&, std::vector<Segment>&)>;
  auto with = [](const Change& change) {
    DType dtype = DType::kF32;
    std::vector<Segment> segments = {{0, 1000, spec("maxmin:bits=4,bucket=512"), 1},
                                     {1000, 1000, spec("topk:ratio=0.01|natdither:bits=4,norm=inf"), 2}};
    change(dtype, segments);
    uint64_t count = 0;
    for (const Segment& s : segments) count += s.count;
    auto layout = Layout::make(dtype, count, segments);
    EXPECT_TRUE(layout.ok()) << layout.status().message();
    return layout->fingerprint();
  };
  const uint64_t base = with([](DType&, auto&) {});
  EXPECT_EQ(base, with([](DType&, auto&) {}));
  const std::vector<Change> changes = {
      [](DType& t, auto&) { t = DType::kF16; },
      [](DType& t, auto&) { t = DType::kBF16; },
      [](DType&, auto& s) { s[1].count += 1; },
      [](DType&, auto& s) { s[0].count -= 1, s[1].offset -= 1; },
      [](DType&, auto& s) { s[0].count -= 1, s[1].offset -= 1, s[1].count += 1; },
      [](DType&, auto& s) { s[0].tensor_id = 3; },
      [](DType&, auto& s) { std::swap(s[0].tensor_id, s[1].tensor_id); },
      [](DType&, auto& s) { std::swap(s[0].spec, s[1].spec); },
      [](DType&, auto& s) { s.pop_back(); },
      [](DType&, auto& s) { s[0].spec = spec("none"); },
      [](DType&, auto& s) { s[0].spec = spec("maxmin:bits=5,bucket=512"); },
      [](DType&, auto& s) { s[0].spec = spec("maxmin:bits=4,bucket=1024"); },
      [](DType&, auto& s) { s[0].spec = spec("maxmin:bits=4,bucket=512,rounding=nearest"); },
      [](DType&, auto& s) { s[0].spec = spec("dither:bits=4,bucket=512"); },
      [](DType&, auto& s) { s[0].spec = spec("dither:bits=4,bucket=512,norm=2"); },
      [](DType&, auto& s) { s[0].spec = spec("dither:bits=4,bucket=512,levels=3"); },
      [](DType&, auto& s) { s[0].spec = spec("cast:fp16"); },
      [](DType&, auto& s) { s[0].spec = spec("cast:bf16"); },
      [](DType&, auto& s) { s[0].spec = spec("natural8"); },
      [](DType&, auto& s) { s[0].spec = spec("natural8:bias=100"); },
      [](DType&, auto& s) { s[1].spec.error_feedback = true; },
      [](DType&, auto& s) { s[1].spec.ratio = 0.011; },
      [](DType&, auto& s) { s[1].spec = spec("topk:ratio=0.01"); },
      [](DType&, auto& s) { s[1].spec = spec("topk:ratio=0.01,indices=packed"); },
      [](DType&, auto& s) { s[1].spec = spec("randk:ratio=0.01"); },
  };
  std::set<uint64_t> seen = {base};
  for (size_t i = 0; i < changes.size(); ++i)
    EXPECT_TRUE(seen.insert(with(changes[i])).second) << "change " << i;
}

TEST(Layout, DescribesItselfInALine) {
  auto layout = Layout::uniform(DType::kBF16, 1000, spec("natural"), 1);
  ASSERT_TRUE(layout.ok());
  EXPECT_EQ(layout->describe(), "count=1000 bf16, 1 segment: " + to_string(spec("natural")));
  EXPECT_EQ(Layout::uniform(DType::kI32, 0, {}, 1)->describe(), "count=0 int32, 0 segments");

  std::vector<Segment> segments;
  const char* specs[] = {"none", "natural"};
  for (uint32_t i = 0; i < 64; ++i) segments.push_back({i * 10, 10, spec(specs[i % 2]), i});
  expect_names(Layout::make(DType::kF32, 640, segments)->describe(), {"64 segments: none, natural"});

  for (uint32_t i = 0; i < 64; ++i) segments[i].spec = spec(fmt::format("topk:ratio=0.{}", i + 10).c_str());
  const std::string text = Layout::make(DType::kF32, 640, segments)->describe();
  EXPECT_LE(text.size(), 160u);
  EXPECT_EQ(text.substr(text.size() - 3), "...");
}

TEST(Layout, KnowsWhetherAnySegmentWantsErrorFeedback) {
  EXPECT_FALSE(mixed().any_error_feedback());
  auto layout =
      Layout::make(DType::kF32, 20, {{0, 10, spec("none"), 1}, {10, 10, spec("topk:ratio=0.1+ef"), 2}});
  ASSERT_TRUE(layout.ok());
  EXPECT_TRUE(layout->any_error_feedback());
}

}  // namespace
}  // namespace cgx
