// run() on fp32: every algorithm with every codec gives the oracle's bits on every rank.
#include "plan/run.h"

#include <gtest/gtest.h>

#include <limits>

#include "codec/codec_row.h"
#include "plan/oracle.h"

namespace cgx {
namespace {

using test::Floats;
using test::mixed;
using test::Outcome;
using test::uniform;

std::vector<Floats> gradients(int size, uint64_t count) {
  std::vector<Floats> x;
  for (int r = 0; r < size; ++r) x.push_back(test::gradient(r, count));
  return x;
}

// Every codec of the list at its defaults, and some that are special: one block that cannot be cut, a
// composition, buckets smaller than a group, a bucket longer than a tile.
std::vector<std::string> specs() {
  std::vector<std::string> all = {"maxmin:bits=3,bucket=0", "topk:ratio=0.05|natural",
                                  "maxmin:bits=4,bucket=32", "maxmin:bits=8,bucket=16384,rounding=nearest"};
  for (const CodecRow& row : codec_rows()) {
    const std::string name = row.name;
    all.push_back(name == "topk" || name == "randk" ? name + ":ratio=0.1"
                  : name == "cast"                  ? "cast:bf16"
                                                    : name);
  }
  return all;
}

class RunTest : public testing::TestWithParam<const Algorithm*> {
 protected:
  static std::string name() { return GetParam()->name; }

  static void expect_oracle(const Layout& layout, int size, float scale, bool in_place, uint64_t slice_bytes,
                            uint32_t depth = 1) {
    const std::string what = fmt::format("{} ranks, slice {}, depth {}, in place {}, scale {}, {}", size,
                                         slice_bytes, depth, in_place, scale, layout.describe());
    const PlanKey key{0, size, layout, slice_bytes, {}, {}, depth};
    const Outcome outcome =
        test::run_plans(layout, test::plans_of(*GetParam(), key), {.scale = scale, .in_place = in_place});
    test::expect_replicas(outcome, what);
    test::Oracle oracle(layout, gradients(size, layout.count()), scale);
    ASSERT_EQ(outcome.y[0], test::bytes_of(oracle.run(name()))) << what;
  }
};

INSTANTIATE_TEST_SUITE_P(List, RunTest, testing::ValuesIn([] {
                           std::vector<const Algorithm*> all;
                           for (const Algorithm& a : algorithms()) all.push_back(&a);
                           return all;
                         }()),
                         [](const auto& test) { return std::string(test.param->name); });

TEST_P(RunTest, DepthChangesNoBits) {
  for (uint32_t depth : {2u, 5u}) {  // as deep as threads have memory for
    for (int size : {2, 3, 5}) {
      expect_oracle(test::mixed(30011, test::kMixedSpecs), size, 0.5f, depth == 5, 2048, depth);
      if (HasFatalFailure()) return;
    }
  }
}

TEST_P(RunTest, EveryCodecGivesTheBitsOfTheOracle) {
  for (const std::string& spec : specs()) {
    for (int size : {1, 2, 3, 5}) {
      for (uint64_t count : {1ul, 17ul, 257ul, 5000ul}) {
        const bool odd = (count + static_cast<uint64_t>(size)) % 2 == 1;
        expect_oracle(uniform(count, spec), size, 1.0f / static_cast<float>(size), odd, 4096);
      }
    }
    expect_oracle(uniform(70001, spec), 2, 1, true, 32768);
    if (HasFatalFailure()) return;
  }
}

// From 1 MiB on, in place from 16 MiB on, results are written past the caches, or not: whichever is faster.
TEST_P(RunTest, LargeTensorsGiveTheBitsOfTheOracle) {
  for (const std::string spec : {"maxmin:bits=4", "natural", "none", "topk:ratio=0.01"}) {
    for (const int size : {2, 3}) {
      expect_oracle(uniform((1 << 18) + 77, spec), size, 0.5f, false, 64 << 10);
      if (HasFatalFailure()) return;
    }
  }
  expect_oracle(mixed((1 << 18) + 4011, specs()), 2, 1, false, 64 << 10);
  expect_oracle(uniform((4 << 20) + 257, "maxmin:bits=4"), 2, 1, true, 256 << 10);
}

TEST_P(RunTest, MixedSegmentsTravelTogether) {
  for (int size : {2, 4, 7}) {
    expect_oracle(mixed(30011, specs()), size, 0.5f, false, 8192);
    expect_oracle(mixed(30011, specs()), size, 0.5f, true, 1 << 20);
    if (HasFatalFailure()) return;
  }
}

TEST_P(RunTest, TensorsOfNoAndOfAFewElementsAreReduced) {
  for (uint64_t count = 0; count <= 17; ++count) {
    for (const char* spec : {"none", "maxmin:bits=4"}) expect_oracle(uniform(count, spec), 3, 1, false, 4096);
  }
}

TEST_P(RunTest, SixteenRanksAgree) { expect_oracle(mixed(20011, test::kMixedSpecs), 16, 1, true, 4096); }

TEST_P(RunTest, NoBitDependsOnHowMessagesAreWrittenIntoSharedMemory) {
  constexpr int kSize = 3;
  for (const char* spec : {"none", "maxmin:bits=4", "topk:ratio=0.1"}) {
    const Layout layout = uniform(100'003, spec);
    const std::vector<Plan> plans = test::plans_of(*GetParam(), {0, kSize, layout, 64 << 10});
    const Outcome local = test::run_plans(layout, plans);
    for (const bool ordinary : {false, true}) {
      const Outcome shared =
          test::run_plans(layout, plans, {.transport = "shm", .ordinary_writes = ordinary});
      test::expect_replicas(shared, spec);
      EXPECT_EQ(shared.y[0], local.y[0]) << spec << ", ordinary stores " << ordinary;
    }
  }
}

TEST(RunLarge, MoreThanTwoToTheTwentyFourElements) {
  const uint64_t count = (1u << 24) + 77;
  const Layout layout = uniform(count, "maxmin:bits=4,bucket=512");
  const Outcome outcome =
      test::run_plans(layout, test::plans_of(*find_algorithm("scatter_gather"), {0, 2, layout}));
  test::expect_replicas(outcome, "2^24 + 77");
  test::Oracle oracle(layout, gradients(2, count), 1);
  EXPECT_TRUE(outcome.y[0] == test::bytes_of(oracle.run("scatter_gather")));
}

TEST_P(RunTest, ResidualsAreThoseOfTheOracle) {
  const Layout layout =
      mixed(9001, {"topk:ratio=0.1+ef", "maxmin:bits=4,bucket=64+ef", "none", "maxmin:bits=2,bucket=512+ef"});
  for (int size : {1, 2, 3, 5}) {
    const uint64_t count = layout.count();
    const size_t ranks = static_cast<size_t>(size);
    test::Residuals before;
    for (int r = 0; r < size; ++r) {
      before.contribution.push_back(test::gradient(100 + r, count));
      before.sum.push_back(test::gradient(200 + r, count));
    }
    // What nobody writes stays: -1.
    const std::vector<Floats> unset(ranks, Floats(count, -1));
    test::Residuals after{unset, unset};
    test::Residuals expected{unset, unset};
    std::vector<std::vector<SegmentResidual>> residuals(ranks);
    for (size_t r = 0; r < ranks; ++r) {
      for (const Segment& s : layout.segments()) {
        residuals[r].push_back(!s.spec.error_feedback
                                   ? SegmentResidual{}
                                   : SegmentResidual{before.contribution[r].data() + s.offset,
                                                     after.contribution[r].data() + s.offset,
                                                     before.sum[r].data() + s.offset,
                                                     after.sum[r].data() + s.offset});
      }
    }
    const Outcome outcome = test::run_plans(layout, test::plans_of(*GetParam(), {0, size, layout, 4096}),
                                            {.scale = 0.5f, .residuals = residuals});
    test::expect_replicas(outcome, fmt::format("{} ranks", size));
    if (size == 1) continue;
    test::Oracle oracle(layout, gradients(size, count), 0.5f);
    oracle.feed_back(&before, &expected);
    ASSERT_EQ(outcome.y[0], test::bytes_of(oracle.run(name()))) << size << " ranks";
    for (size_t r = 0; r < ranks; ++r) {
      ASSERT_EQ(after.contribution[r], expected.contribution[r]) << "rank " << r << " of " << size;
      ASSERT_EQ(after.sum[r], expected.sum[r]) << "rank " << r << " of " << size;
    }
  }
}

// Direct exchanges send each element 2 (n - 1) times over all ranks; allgather n (n - 1) times.
TEST_P(RunTest, CountsWhatItSends) {
  const uint64_t count = 1 << 16;
  for (int size : {2, 4}) {
    const Layout layout = uniform(count, "natural8");
    const Outcome outcome = test::run_plans(layout, test::plans_of(*GetParam(), {0, size, layout, 16384}));
    uint64_t raw = 0, wire = 0;
    for (const RunStats& stats : outcome.stats) {
      raw += stats.raw_bytes;
      wire += stats.wire_bytes;
      EXPECT_GT(stats.encode_seconds, 0);
      EXPECT_GT(stats.decode_seconds, 0);
    }
    const uint64_t n = static_cast<uint64_t>(size);
    const uint64_t sent = name() == "allgather" ? n * (n - 1) * count : 2 * (n - 1) * count;
    EXPECT_EQ(raw, sent * 4);
    // Half of hierarchical's messages on one host are the contributions, uncompressed.
    EXPECT_EQ(wire, name() == "hierarchical" ? sent / 2 * 5 : sent);
  }
}

TEST_P(RunTest, NonFiniteElementsStayNonFiniteOnAllRanks) {
  const uint64_t count = 5000;
  for (const char* spec : {"none", "maxmin:bits=4,bucket=64", "natural"}) {
    std::vector<Floats> x = gradients(3, count);
    x[1][4097] = std::numeric_limits<float>::quiet_NaN();
    x[2][99] = std::numeric_limits<float>::infinity();
    test::RunOptions options;
    for (const Floats& e : x) options.x.push_back(test::bytes_of(e));
    const Layout layout = uniform(count, spec);
    const Outcome outcome =
        test::run_plans(layout, test::plans_of(*GetParam(), {0, 3, layout, 4096}), options);
    test::expect_replicas(outcome, spec);
    const Floats y = test::elements_of<float>(outcome.y[0]);
    EXPECT_FALSE(std::isfinite(y[4097])) << spec;
    EXPECT_FALSE(std::isfinite(y[99])) << spec;
    EXPECT_TRUE(std::isfinite(y[1500])) << spec;
  }
}

}  // namespace
}  // namespace cgx
