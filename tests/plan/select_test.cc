// The cost model and the choices that follow from it: monotone where it must be, and turning where the
// formulas say.
#include "plan/select.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "codec/candidates.h"
#include "plan/algorithm_list.h"
#include "plan/layouts.h"

namespace cgx {
namespace {

using test::spec_of;
using test::uniform;

// A machine whose codecs all cost the same; links by their nanoseconds a byte.
Profile machine(int size, double byte_ns, double encode_ns = 0.1, double decode_ns = 0.05) {
  Profile p;
  p.size = size;
  p.latency = 20000;
  p.message = 1000;
  p.pair_byte = p.all_byte = byte_ns;
  for (const Candidate& c : candidates()) {
    const bool raw = c.spec.kind == CodecKind::kNone;
    const double scale = raw ? 0.5 : 1;
    CodecCost cost = {c.spec};
    cost.at.fill({encode_ns * scale, decode_ns * scale});
    p.codecs.push_back(cost);
  }
  return p;
}

std::string codec_of(const Selection& s) { return to_string(s.layout.segments()[0].spec); }

TEST(Candidates, ErrorsAreThoseOfNormallyDistributedElements) {
  constexpr uint64_t kCount = 1 << 18;
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  std::vector<float> x(kCount);
  for (float& e : x) e = normal(random);
  double energy = 0;
  for (const float e : x) energy += static_cast<double>(e) * e;
  for (const Candidate& c : candidates()) {
    std::vector<uint8_t> block(encoded_bytes(c.spec, DType::kF32, kCount));
    std::vector<float> y(kCount);
    ASSERT_TRUE(encode(c.spec, DType::kF32, x.data(), kCount, {}, {}, block.data()).ok());
    ASSERT_TRUE(decode(c.spec, DType::kF32, block.data(), kCount, Into::kAssign, y.data()).ok());
    double lost = 0;
    for (uint64_t i = 0; i < kCount; ++i) lost += std::pow(static_cast<double>(x[i]) - y[i], 2);
    // 512 buckets: their mean squared range varies by 2 * sqrt(var R^2) / sqrt(512) < 4 % (R^2 of a bucket is
    // 37.4 +- 6.5); bf16's figure is a bound.
    EXPECT_LE(lost / energy, 1.04 * c.error) << to_string(c.spec);
    if (c.spec.kind == CodecKind::kCast) continue;
    EXPECT_GE(lost / energy, 0.96 * c.error) << to_string(c.spec);
  }
}

TEST(Candidates, AreThoseWithinTheError) {
  EXPECT_EQ(candidates_within(0).size(), 1u);
  EXPECT_EQ(candidates_within(0)[0].spec.kind, CodecKind::kNone);
  for (const Candidate& c : candidates_within(0.03)) EXPECT_LE(c.error, 0.03);
  EXPECT_EQ(candidates_within(0.03).back().spec, spec_of("maxmin:bits=4"));
  EXPECT_EQ(candidates_within(1).size(), candidates().size());
}

TEST(Cost, GrowsWithBytesAndWithSlowerLinks) {
  for (const Algorithm& row : algorithms()) {
    for (int size = 2; size <= 8; ++size) {
      double before = 0;
      for (uint64_t count = 256; count <= uint64_t{1} << 26; count *= 2) {
        const Profile p = machine(size, 1);
        const double cost = row.cost_ns(load_of(uniform(count, "none"), p, 1 << 18), p);
        EXPECT_GE(cost, before) << row.name << ", " << size << " ranks, " << count;
        before = cost;
      }
      before = 0;
      for (double byte_ns = 0.01; byte_ns < 100; byte_ns *= 2) {
        const Profile p = machine(size, byte_ns);
        const double cost = row.cost_ns(load_of(uniform(1 << 22, "maxmin:bits=4"), p, 1 << 18), p);
        EXPECT_GE(cost, before) << row.name << ", " << size << " ranks, " << byte_ns;
        before = cost;
      }
    }
  }
}

// On a link so slow that nothing else counts, scatter_gather takes 2 (n - 1) / n W bytes' time.
TEST(Cost, OnASlowLinkIsTheLinksTime) {
  for (int size : {2, 4, 8}) {
    const Profile p = machine(size, 1000);
    const Load load = load_of(uniform(1 << 24, "none"), p, 1 << 18);
    const double n = size;
    const double link = 2 * (n - 1) / n * static_cast<double>(load.wire_bytes) * 1000;
    EXPECT_NEAR(scatter_gather_ns(load, p) / link, 1, 0.01);
  }
}

// Half a MiB and its result stay in a core's cache and are what links were probed with; what is larger comes
// from memory, where the same bytes take as much longer as an uncompressed trial took.
TEST(Cost, ColdLinksCountWhereTensorsDoNotStayInTheCache) {
  constexpr uint64_t kCached = (512 << 10) / sizeof(float);
  for (const Algorithm& row : algorithms()) {
    if (row.cost_ns == nullptr) continue;
    const auto cost = [&](uint64_t count, double byte_ns, double cold_links) {
      Profile p = machine(4, byte_ns);
      p.cold_links = cold_links;
      return row.cost_ns(load_of(uniform(count, "none"), p, 1 << 18), p);
    };
    EXPECT_EQ(cost(kCached, 1, 3), cost(kCached, 1, 1)) << row.name;
    EXPECT_DOUBLE_EQ(cost(2 * kCached, 1, 3), cost(2 * kCached, 3, 1)) << row.name;
  }
}

// Compressing 4-bit max-min at n = 2 saves (1 - 1/r) of 4 S bytes' time of the link and costs no more than
// its encoding and 3/2 decodings when nothing overlaps, so it must be chosen on links slower than that; and
// raw where even full overlap cannot pay: the codec alone takes longer than raw altogether.
TEST(Select, CompressesWhereTheLinkIsSlowerThanTheCodec) {
  const Layout layout = uniform(1 << 24, "auto");
  EXPECT_EQ(codec_of(select({}, layout, machine(2, 8))), to_string(spec_of("maxmin:bits=4")));
  EXPECT_EQ(codec_of(select({}, layout, machine(4, 8))), to_string(spec_of("maxmin:bits=4")));
  EXPECT_EQ(codec_of(select({}, layout, machine(2, 0.001, 10, 10))), "none");
  bool compressed = false;
  for (double byte_ns = 0.001; byte_ns < 100; byte_ns *= 1.5) {
    const bool now = codec_of(select({}, layout, machine(2, byte_ns, 1, 0.5))) != "none";
    EXPECT_TRUE(now || !compressed) << "once it pays it pays on every slower link: " << byte_ns;
    compressed = now;
  }
  EXPECT_TRUE(compressed);
}

// From a link on which none is best to one where codecs are: a loss is never taken for less than a
// twentieth.
TEST(Select, GivesPrecisionAwayForATwentiethOfTheTimeAtLeast) {
  const Layout open = uniform(1 << 22, "auto"), raw = uniform(1 << 22, "none");
  int kept = 0, lost = 0;
  for (double byte_ns = 0.01; byte_ns < 1; byte_ns *= 1.02) {
    const Profile p = machine(2, byte_ns);
    const Selection chosen = select({}, open, p);
    const double gain = chosen.seconds / select({}, raw, p).seconds;
    if (codec_of(chosen) == "none") {
      ++kept;
      EXPECT_EQ(gain, 1);
      for (const Candidate& c : candidates_within(0.03)) {
        const double tried = select({}, uniform(1 << 22, to_string(c.spec)), p).seconds;
        EXPECT_GE(tried, 0.95 * chosen.seconds) << to_string(c.spec);
      }
    } else {
      ++lost;
      EXPECT_LE(gain, 0.95) << codec_of(chosen);
    }
  }
  EXPECT_GT(kept, 0);
  EXPECT_GT(lost, 0);
}

// Nothing is sent: every choice takes as long, so the exact one is made.
TEST(Select, OneRankByItselfCompressesNothing) {
  Profile p;
  p.size = 1;
  for (const Candidate& c : candidates()) p.codecs.push_back({c.spec});
  EXPECT_EQ(codec_of(select({}, uniform(1 << 20, "auto"), p)), "none");
}

// Eight that send to all at once overflow a queue, unless what they send is short.
TEST(Select, ShortMessagesMayPassWhereLongOnesSwampAQueue) {
  Profile p = machine(8, 12);
  p.all_byte = 120;
  const Layout open = uniform(1 << 20, "auto");
  EXPECT_EQ(codec_of(select({}, open, p)), "none");
  p.short_byte = 10;
  const Selection short_ones = select({}, open, p);
  EXPECT_EQ(codec_of(short_ones), to_string(spec_of("maxmin:bits=4")));
  EXPECT_STREQ(short_ones.algorithm->name, "scatter_gather");
  EXPECT_STREQ(select({}, uniform(1 << 20, "none"), p).algorithm->name, "ring");
}

TEST(Select, NeverGoesBeyondTheErrorThatIsAllowed) {
  for (const char* open :
       {"auto:error=0", "auto:error=0.00001", "auto:error=0.001", "auto", "auto:error=1"}) {
    const double allowed = spec_of(open).error;
    for (double byte_ns : {0.01, 1.0, 100.0}) {
      const Selection s = select({}, uniform(1 << 20, open), machine(4, byte_ns));
      const auto list = candidates_within(allowed);
      EXPECT_TRUE(std::any_of(list.begin(), list.end(),
                              [&](const Candidate& c) { return c.spec == s.layout.segments()[0].spec; }))
          << open << " became " << codec_of(s);
      EXPECT_LE(s.algorithm->roundings(4, 1), codec_of(s) == "none" ? 4 : 2);
    }
  }
}

// Two latencies against one, and 2 (n - 1) / n W against (n - 1) W bytes: with free codecs allgather takes
// less than 0.92 of scatter_gather's time below W* = (2 0.92 - 1) latency / ((n - 1)(1 - 2 0.92 / n) byte).
TEST(Select, TakesOneShotBelowTheSizeWhereASecondLatencyIsCheaperThanBytes) {
  for (int size : {3, 4, 8}) {
    const double n = size;
    Profile p = machine(size, 1, 0, 0);
    p.message = 0;
    const double turning = 0.84 * p.latency / ((n - 1) * (1 - 1.84 / n));  // bytes
    const auto algorithm = [&](double bytes) {
      return std::string(select({}, uniform(static_cast<uint64_t>(bytes / 4), "none"), p).algorithm->name);
    };
    EXPECT_EQ(algorithm(0.9 * turning), "allgather") << size;
    EXPECT_NE(algorithm(1.1 * turning), "allgather") << size;
  }
}

TEST(Select, NoMessageIsLongerThanADefaultSliceOfRawElements) {
  for (const char* spec : {"none", "cast:bf16", "maxmin:bits=4", "auto"}) {
    for (const double byte_ns : {0.001, 1.0}) {
      const Layout layout = uniform(1 << 24, spec);
      const Selection s = select({}, layout, machine(4, byte_ns));
      const double ratio = static_cast<double>(s.layout.wire_bytes(0, layout.count())) / (4.0 * (1 << 24));
      EXPECT_LE(static_cast<double>(s.slice_bytes) * ratio, kDefaultSliceBytes) << spec;
    }
  }
}

TEST(Select, LongSlicesAreTheLongestThatTransportsHaveMemoryFor) {
  const auto longest = [](const char* spec, uint64_t most) {
    return long_slice_bytes(uniform(1 << 24, spec), most);
  };
  EXPECT_EQ(longest("none", UINT64_MAX), kDefaultSliceBytes);
  EXPECT_EQ(longest("cast:bf16", UINT64_MAX), 2 * kDefaultSliceBytes);
  EXPECT_EQ(longest("natural", UINT64_MAX), 2 * kDefaultSliceBytes);
  EXPECT_EQ(longest("natural8", UINT64_MAX), 4 * kDefaultSliceBytes);
  EXPECT_EQ(longest("maxmin:bits=4", UINT64_MAX), 4 * kDefaultSliceBytes);
  EXPECT_EQ(longest("maxmin:bits=4", 4 * kDefaultSliceBytes - 1), 2 * kDefaultSliceBytes);
  EXPECT_EQ(longest("maxmin:bits=4", 1), kDefaultSliceBytes);
}

// 64 MiB of 4 bits among two: the link, which decides, overlaps with all but a slice, whatever the slices. So
// the usual ones stay, as no others are 5 % faster; where a message costs a millisecond, the longest are.
TEST(Select, UsualSlicesStayWhereOthersAreHardlyFaster) {
  const Layout layout = uniform(1 << 24, "maxmin:bits=4");
  const auto slice = [&](uint64_t longest_usual, double message_ns) {
    Wish wish;
    wish.longest_usual = longest_usual;
    Profile p = machine(2, 1);
    p.message = message_ns;
    return select(wish, layout, p).slice_bytes;
  };
  EXPECT_EQ(slice(kDefaultSliceBytes, 0), kDefaultSliceBytes);
  EXPECT_EQ(slice(4 * kDefaultSliceBytes, 0), 4 * kDefaultSliceBytes);
  EXPECT_EQ(slice(kDefaultSliceBytes, 1e6), 4 * kDefaultSliceBytes);
}

TEST(Select, KeepsWhatTheCallerNamed) {
  const Algorithm* ring = find_algorithm("ring");
  const Selection s = select({ring, 12345}, uniform(1 << 20, "auto"), machine(4, 8));
  EXPECT_EQ(s.algorithm, ring);
  EXPECT_EQ(s.slice_bytes, 12345u);
}

TEST(Select, KeepsErrorFeedbackAndOtherSegments) {
  const Layout layout = test::mixed(100000, {"auto+ef", "none", "maxmin:bits=8", "topk:ratio=0.1"});
  const Selection s = select({}, layout, machine(2, 100));
  ASSERT_EQ(s.layout.segments().size(), layout.segments().size());
  EXPECT_FALSE(s.layout.any_auto());
  for (size_t i = 0; i < layout.segments().size(); ++i) {
    const Segment& now = s.layout.segments()[i];
    const Segment& asked = layout.segments()[i];
    EXPECT_EQ(now.offset, asked.offset);
    EXPECT_EQ(now.tensor_id, asked.tensor_id);
    if (is_auto(asked.spec)) {
      EXPECT_EQ(to_string(now.spec), to_string(spec_of("maxmin:bits=4+ef")));
    } else {
      EXPECT_EQ(now.spec, asked.spec);
    }
  }
}

TEST(Select, WithoutMeasurementsSmallTensorsGoInOneShot) {
  const auto algorithm = [](uint64_t count, int size, bool same_host) {
    return std::string(
        select({nullptr, kDefaultSliceBytes}, uniform(count, "none"), default_profile(size, same_host))
            .algorithm->name);
  };
  EXPECT_EQ(algorithm(1024, 2, true), "allgather");
  EXPECT_EQ(algorithm(1024, 4, false), "allgather");
  EXPECT_EQ(algorithm(1 << 24, 2, false), "scatter_gather");
  EXPECT_EQ(algorithm(1 << 24, 8, true), "scatter_gather");
}

TEST(Select, UncompressedBetweenManyHostsGoesRoundTheRingWhichSwampsNobody) {
  const auto algorithm = [](const char* codec, int size, bool same_host) {
    return std::string(select({}, uniform(1 << 22, codec), default_profile(size, same_host)).algorithm->name);
  };
  EXPECT_EQ(algorithm("none", 8, false), "ring");
  EXPECT_EQ(algorithm("none", 4, false), "scatter_gather");
  EXPECT_EQ(algorithm("none", 8, true), "scatter_gather");
  // A ring would round eight times.
  EXPECT_EQ(algorithm("maxmin:bits=4", 8, false), "scatter_gather");
}

std::string algorithm_on(const std::vector<int>& hosts, uint64_t count, const char* codec,
                         bool same_host = false) {
  const int size = static_cast<int>(hosts.size());
  return select({}, uniform(count, codec), default_profile(size, same_host, hosts)).algorithm->name;
}

// With 2 ranks on each of 2 hosts a flat exchange sends 2 (n - 1) / n S by each rank, 2/3 of it to the other
// host through a link that two share; the leaders send 2 (h - 1) / h S through a link of their own: half as
// much.
TEST(Select, SeveralRanksOnEachOfSeveralHostsLetOneOfThemOnTheNetwork) {
  EXPECT_EQ(algorithm_on({0, 0, 1, 1}, 1 << 22, "none"), "hierarchical");
  EXPECT_EQ(algorithm_on({0, 0, 0, 0, 1, 1, 1, 1}, 1 << 22, "maxmin:bits=8"), "hierarchical");
  EXPECT_EQ(algorithm_on({0, 0, 1, 1}, 256, "none"), "allgather") << "two latencies more than it has to gain";
  EXPECT_EQ(algorithm_on({0, 1, 2}, 1 << 22, "none"), "scatter_gather") << "nobody to share a host with";
  EXPECT_EQ(algorithm_on({0, 0, 0, 0}, 1 << 22, "none", true), "scatter_gather") << "no network";
}

// Where many ranks share few cores, messages are what costs: a tree has 2 (n - 1) of them, allgather n (n -
// 1).
TEST(Select, ManyRanksOnFewCoresTakeATreeForSmallTensors) {
  Profile p = machine(16, 0.05);
  p.latency = 3000;
  p.message = 2000;
  p.crowding = 8;
  EXPECT_STREQ(select({}, uniform(256, "none"), p).algorithm->name, "tree");
  EXPECT_STRNE(select({}, uniform(1 << 24, "none"), p).algorithm->name, "tree");
  // It would round a lossy tensor five times.
  EXPECT_STRNE(select({}, uniform(256, "maxmin:bits=4"), p).algorithm->name, "tree");
  p.crowding = 1;
  EXPECT_STRNE(select({}, uniform(256, "none"), p).algorithm->name, "tree");
}

TEST(Select, SaysWhy) {
  const Profile p = default_profile(4, false, {0, 0, 1, 1});
  const Selection s = select({}, uniform(1 << 22, "none"), p);
  const std::string words = explain(s, {}, p);
  EXPECT_EQ(words.find("hierarchical: 4 ranks on 2 hosts, predicted "), 0u) << words;
  for (const char* other : {"scatter_gather ", "ring ", "allgather ", "tree "}) {
    EXPECT_NE(words.find(other), std::string::npos) << words;
  }
  const Wish wish{find_algorithm("ring"), 0};
  EXPECT_EQ(explain(select(wish, uniform(1 << 22, "none"), p), wish, p).find("ring, as asked: "), 0u);
}

uint32_t depth(Profile p, const Layout& layout, uint64_t slice_bytes = 256 << 10,
               const char* algorithm = "scatter_gather") {
  const Turn turn = find_algorithm(algorithm)->turn(p.size, p.hosts);
  return depth_of(turn, load_of(layout, p, slice_bytes), p);
}

// 10 Gb/s carry 1.25 MB in a millisecond. A pair has up to 4 MiB under way, contributions and sums; a rank 16
// MiB.
TEST(Cost, APipelineIsAsDeepAsTheRoundTripAsks) {
  const Layout raw = uniform(1 << 24, "none");
  Profile p = machine(2, 1);
  EXPECT_EQ(depth(p, raw, 65536), 1u) << "not known";
  p.links.round_trip_us = 60;
  EXPECT_EQ(depth(p, raw, 65536), 1u) << "a machine room";
  p.links.round_trip_us = 2000;
  EXPECT_EQ(depth(p, raw, 65536), 9u) << "1.25 MB of 64 KiB, twice";
  p.links.round_trip_us = UINT32_MAX;
  EXPECT_EQ(depth(p, raw, 65536), 32u) << "4 MiB of 64 KiB, twice";
  EXPECT_EQ(depth(p, raw, 262144), 8u);
  EXPECT_EQ(depth(p, uniform(1 << 24, "maxmin:bits=4"), 262144), 32u);
  EXPECT_EQ(depth(p, uniform(1000, "none"), 262144), 1u) << "there are no more slices";
  EXPECT_EQ(depth(p, uniform(1 << 24, "topk:ratio=0.1"), 262144, "allgather"), 1u)
      << "blocks are cut nowhere";
  p.size = 16;
  EXPECT_EQ(depth(p, raw, 262144), 8u) << "16 MiB of 15 times 64 KiB, twice";
  EXPECT_EQ(depth(p, raw, 262144, "allgather"), 2u) << "its slices do not shrink";
  EXPECT_EQ(depth(p, raw, 262144, "ring"), 8u);
  p.hosts = 2;
  EXPECT_EQ(depth(p, raw, 262144, "hierarchical"), 32u);
}

TEST(Cost, APipelineHasAMessageForEveryConnectionWithinItsMemory) {
  Profile p = machine(2, 1);
  p.links.streams = 4;
  EXPECT_EQ(depth(p, uniform(1 << 24, "none")), 4u);
  p.links.streams = 64;
  EXPECT_EQ(depth(p, uniform(1 << 24, "none")), 8u);
  EXPECT_EQ(depth(p, uniform(1 << 24, "none"), 1 << 30), 1u) << "slices that the caller named";
}

TEST(Cost, MessagesInsideHostsKeepToTheMemoryThatIsShared) {
  Profile p = machine(4, 1);
  p.hosts = 2;
  p.links = {.round_trip_us = 40000, .streams = 1, .shared_inside = true};
  const Layout raw = uniform(1 << 24, "none");
  EXPECT_EQ(depth(p, raw), 1u);
  EXPECT_EQ(depth(p, raw, 256 << 10, "hierarchical"), 4u);
}

TEST(Cost, WhereMessagesTakeLongTheyDecideAndNotTheirBytes) {
  const Layout layout = uniform(1 << 20, "none");
  const auto ns = [&](double latency_ns, double byte_ns) {
    Profile p = machine(2, byte_ns);
    p.latency = latency_ns;
    p.links.round_trip_us = static_cast<int64_t>(2 * latency_ns / 1000);
    return scatter_gather_ns(load_of(layout, p, 256 << 10), p);
  };
  EXPECT_GT(ns(100e6, 0.001), 2 * 100e6 + 6 * 100e6 / 8) << "eight turns, eight slices under way";
  EXPECT_NEAR(ns(100e6, 0.001) / ns(100e6, 0.01), 1, 0.01);
  EXPECT_NEAR(ns(1e3, 1) / ns(2e3, 1), 1, 0.01);
}

TEST(Cost, OfHierarchicalIsThatOfScatterGatherWhereHostsHoldOneRank) {
  for (const char* codec : {"none", "maxmin:bits=4"}) {
    const Profile p = default_profile(4, false, {0, 1, 2, 3});
    const Load load = load_of(uniform(1 << 20, codec), p, 1 << 18);
    EXPECT_EQ(hierarchical_ns(load, p), scatter_gather_ns(load, p));
  }
}

}  // namespace
}  // namespace cgx
