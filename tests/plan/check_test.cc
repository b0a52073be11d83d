// The symbolic checker over every algorithm of the list: sizes, odd counts, layouts, slices.
#include "plan/check.h"

#include <gtest/gtest.h>

#include <map>
#include <set>

#include "plan/builder.h"
#include "plan/layouts.h"
#include "plan/select.h"
#include "plan/text.h"

namespace cgx {
namespace {

using test::mixed;
using test::uniform;

constexpr uint64_t kCounts[] = {0, 1, 2, 7, 8, 9, 255, 256, 257, 1000, 4097, 100003};

class AlgorithmTest : public testing::TestWithParam<const Algorithm*> {};

INSTANTIATE_TEST_SUITE_P(List, AlgorithmTest, testing::ValuesIn([] {
                           std::vector<const Algorithm*> all;
                           for (const Algorithm& a : algorithms()) all.push_back(&a);
                           return all;
                         }()),
                         [](const auto& test) { return std::string(test.param->name); });

std::vector<Layout> layouts_of(uint64_t count) {
  return {uniform(count, "none"), uniform(count, "maxmin:bits=4,bucket=512"),
          uniform(count, "topk:ratio=0.01"), mixed(count, test::kMixedSpecs)};
}

TEST_P(AlgorithmTest, PlansOfAllSizesAndOddCountsAreRight) {
  for (int size = 1; size <= 16; ++size) {
    for (uint64_t count : kCounts) {
      for (const Layout& layout : layouts_of(count)) {
        // Ten slices a chunk or so, and one.
        for (uint64_t slice_bytes :
             {std::max<uint64_t>(64, count * 4 / (10 * static_cast<uint64_t>(size))), 1ul << 30}) {
          const PlanKey key{0, size, layout, slice_bytes};
          const Status status = check_algorithm(*GetParam(), key);
          ASSERT_TRUE(status.ok()) << "size " << size << ", slice of " << slice_bytes << " bytes, "
                                   << layout.describe() << ": " << status.message();
        }
      }
    }
  }
}

TEST_P(AlgorithmTest, PlansOfAnyDepthAreRight) {
  for (int size : {2, 3, 5, 8, 16}) {
    for (const std::vector<int>& hosts : test::groupings(size)) {
      for (uint32_t depth : {2u, 4u, 7u, 32u}) {
        for (const Layout& layout : layouts_of(4097)) {
          const PlanKey key{0, size, layout, 512, hosts, {}, depth};
          const Status status = check_algorithm(*GetParam(), key, {.window = 4 * depth});
          ASSERT_TRUE(status.ok()) << size << " ranks on hosts " << testing::PrintToString(hosts)
                                   << ", depth " << depth << ", " << layout.describe() << ": "
                                   << status.message();
        }
      }
    }
  }
}

// A host's shared memory has for each rank 32 raw slices of the usual 256 KiB, less the more ranks there are
// just as slices are; or 8 of 1 MiB, which are that long where the tensor's codec makes a quarter of them,
// while messages inside hosts may be raw. (Its pool has one less; what finds no room goes through lanes.)
TEST_P(AlgorithmTest, NoRankWaitsForMemoryInsideHostsForEver) {
  constexpr uint64_t kSlice = 16384;
  const struct {
    const char* spec;
    uint64_t slices;
  } kCases[] = {{"none", 32}, {"maxmin:bits=4,bucket=64", 8}};
  for (int size = 3; size <= 16; ++size) {
    const uint64_t fewer = std::max<uint64_t>(4, static_cast<uint64_t>(size));
    for (const std::vector<int>& hosts : test::groupings(size)) {
      for (const auto& [spec, slices] : kCases) {
        const PlanKey key{
            0, size, uniform(200000, spec), kSlice, hosts, {}, GetParam()->turn(size, 1).deepest_inside};
        const CheckOptions options{.hosts = hosts, .inside_bytes = slices * kSlice * 4 / fewer};
        const Status status = check_algorithm(*GetParam(), key, options);
        ASSERT_TRUE(status.ok()) << size << " ranks on hosts " << testing::PrintToString(hosts) << ", "
                                 << spec << ": " << status.message();
      }
    }
  }
}

// Most algorithms do not look at hosts; those that do must be right wherever ranks stand.
TEST_P(AlgorithmTest, PlansOfAllHostsAndInnerCodecsAreRight) {
  for (int size = 1; size <= 16; ++size) {
    for (const std::vector<int>& hosts : test::groupings(size)) {
      for (const char* inner :
           {"none", "maxmin:bits=8,bucket=1024", "maxmin:bits=4,bucket=0", "topk:ratio=0.1"}) {
        for (uint64_t count : {257ul, 4097ul}) {
          for (const Layout& layout : layouts_of(count)) {
            const PlanKey key{0, size, layout, 1024, hosts, test::spec_of(inner)};
            const Status status = check_algorithm(*GetParam(), key);
            ASSERT_TRUE(status.ok()) << size << " ranks on hosts " << testing::PrintToString(hosts)
                                     << ", inner " << inner << ", " << layout.describe() << ": "
                                     << status.message();
          }
        }
      }
    }
  }
}

TEST_P(AlgorithmTest, EqualKeysGiveEqualPlans) {
  const PlanKey key{1, 3, mixed(10007, test::kMixedSpecs), 4096};
  EXPECT_EQ(to_text(GetParam()->plan(key)), to_text(GetParam()->plan(key)));
}

TEST_P(AlgorithmTest, NothingIsSentOfNothing) {
  for (int size : {1, 2, 16})
    EXPECT_TRUE(GetParam()->plan({0, size, uniform(0, "none"), 4096}).steps.empty());
}

TEST_P(AlgorithmTest, OneRankRoundsNothing) {
  const Plan plan = GetParam()->plan({0, 1, uniform(1000, "maxmin:bits=2"), 1024});
  EXPECT_TRUE(plan.messages.empty());
  for (const Step& step : plan.steps) EXPECT_EQ(step.op, Step::Op::kReduce);
  EXPECT_EQ(GetParam()->roundings(1, 1), 0);
}

// `roundings` is what documentation says of an algorithm; the plan is what it does. Without inner messages a
// stage is a rounding by the tensor's codec; an inner rounding comes before those.
TEST_P(AlgorithmTest, RoundsAsOftenAsItSays) {
  for (int size : {2, 3, 8}) {
    for (const std::vector<int>& hosts : test::groupings(size)) {
      int stages = 0;
      bool inner = false;
      const PlanKey key{0, size, uniform(50000, "natural"), 1024, hosts};
      for (const Plan& plan : test::plans_of(*GetParam(), key)) {
        for (const Step& step : plan.steps) {
          const bool rounds = step.op == Step::Op::kEncode || step.op == Step::Op::kReduceEncode;
          if (rounds) stages = std::max(stages, step.stage + 1);
          inner = inner || (rounds && plan.messages[step.message].level == Level::kInner);
        }
      }
      const int several = static_cast<int>(std::set<int>(hosts.begin(), hosts.end()).size());
      EXPECT_EQ(stages - (inner ? 1 : 0), GetParam()->roundings(size, several))
          << size << " ranks on hosts " << testing::PrintToString(hosts);
    }
  }
}

// What hierarchical is for: only one rank of each host has messages for another host.
TEST(Hierarchical, OneRankAHostIsOnTheNetwork) {
  for (int size = 1; size <= 16; ++size) {
    for (const std::vector<int>& hosts : test::groupings(size)) {
      const PlanKey key{0, size, uniform(20000, "maxmin:bits=4"), 1024, hosts};
      const std::vector<Plan> plans = test::plans_of(*find_algorithm("hierarchical"), key);
      std::map<int, std::set<int>> on_network;  // by host
      for (int rank = 0; rank < size; ++rank) {
        const Plan& plan = plans[static_cast<size_t>(rank)];
        const int host = hosts[static_cast<size_t>(rank)];
        for (const Step& step : plan.steps) {
          if (step.op != Step::Op::kSend) continue;
          for (int peer : step.peers) {
            if (hosts[static_cast<size_t>(peer)] == host) continue;
            on_network[host].insert(rank);
            EXPECT_EQ(plan.messages[step.message].level, Level::kMain);
          }
        }
      }
      for (const auto& [host, ranks] : on_network) EXPECT_EQ(ranks.size(), 1u) << "host " << host;
    }
  }
}

TEST(Check, ResidualsAndLevelsThatDoNotFitAreSeen) {
  const Layout layout = uniform(4096, "maxmin:bits=4");
  const PlanKey key{0, 4, layout, 1 << 20, {0, 0, 1, 1}, test::spec_of("maxmin:bits=8")};
  std::vector<Plan> plans = test::plans_of(*find_algorithm("hierarchical"), key);
  EXPECT_TRUE(check_plans(layout, plans).ok());
  std::vector<Plan> other = plans;
  other[1].inner = uniform(4096, "maxmin:bits=6");
  EXPECT_NE(check_plans(layout, other).message().find("not that of rank 0"), std::string::npos);
  other = plans;
  for (Plan& plan : other) plan.inner = uniform(4095, "maxmin:bits=8");
  EXPECT_NE(check_plans(layout, other).message().find("of another tensor"), std::string::npos);
  other = plans;
  for (Message& message : other[1].messages) message.level = Level::kMain;
  EXPECT_FALSE(check_plans(layout, other).ok());
}

TEST_P(AlgorithmTest, WorksWithoutHosts) {
  const PlanKey key{0, 5, uniform(4097, "natural"), 1024};
  EXPECT_TRUE(check_algorithm(*GetParam(), key).ok());
}

TEST(Chunks, CoverTheTensorInOrderAndAreBalanced) {
  for (uint64_t count : kCounts) {
    for (int size : {1, 2, 3, 7, 16}) {
      for (const Layout& layout : layouts_of(count)) {
        uint64_t end = 0;
        for (const Range& chunk : cut_chunks(layout, size)) {
          EXPECT_EQ(chunk.begin, end);
          EXPECT_LE(chunk.begin, chunk.end);
          // A cut is at most one granule (512 here, or a segment's end) beyond the equal share.
          if (layout.segments().size() == 1) {
            EXPECT_LE(chunk.end - chunk.begin, count / static_cast<uint64_t>(size) + 513);
          }
          end = chunk.end;
        }
        EXPECT_EQ(end, count);
      }
    }
  }
}

TEST(Slices, CoverAChunkAndAreNeverEmpty) {
  for (uint64_t slice_bytes : {1ul, 100ul, 4096ul, 1ul << 40}) {
    for (const Layout& layout : layouts_of(10007)) {
      for (const Range& chunk : cut_chunks(layout, 3)) {
        uint64_t end = chunk.begin;
        for (const Range& slice : cut_slices(layout, chunk, slice_bytes)) {
          EXPECT_EQ(slice.begin, end);
          EXPECT_LT(slice.begin, slice.end);
          end = slice.end;
        }
        EXPECT_EQ(end, chunk.end);
      }
    }
  }
}

TEST(Slices, NeverCutABlockThatMustStayWhole) {
  const Layout layout = uniform(100000, "topk:ratio=0.01");
  EXPECT_EQ(cut_slices(layout, {0, 100000}, 4096).size(), 1u);
}

TEST(Select, TakesAllgatherForSparseBlocksAndScatterGatherOtherwise) {
  const auto chosen = [](const Layout& layout, int size) {
    return std::string(select({}, layout, default_profile(size, true)).algorithm->name);
  };
  EXPECT_EQ(chosen(uniform(100000, "topk:ratio=0.01"), 8), "allgather");
  EXPECT_EQ(chosen(uniform(100000, "maxmin:bits=4"), 8), "scatter_gather");
  EXPECT_EQ(chosen(uniform(1000000, "none"), 2), "scatter_gather");
  // Half of the elements and their indices from each of eight ranks: more than eight raw tensors' worth.
  EXPECT_EQ(chosen(uniform(100000, "topk:ratio=0.5"), 8), "scatter_gather");
}

TEST(Select, AnUnknownNameListsTheNamesThereAre) {
  const auto result = named_algorithm("bush");
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(
      result.status().message(),
      "there is no algorithm \"bush\"; there are auto, scatter_gather, ring, allgather, tree, hierarchical");
}

TEST(Text, AStepReadsAsASentence) {
  const Plan plan =
      find_algorithm("scatter_gather")->plan({0, 2, uniform(1024, "maxmin:bits=4,bucket=512"), 1 << 20});
  EXPECT_EQ(to_text(plan),
            "0 post m0 [0, 512) from 1\n"
            "1 encode m1 [512, 1024) stage 0\n"
            "2 send m1 [512, 1024) to 1\n"
            "3 release m1 [512, 1024)\n"
            "4 post m2 [512, 1024) from 1\n"
            "5 receive m0 [0, 512) from 1\n"
            "6 reduce_encode m3 [0, 512) of own m0 stage 1 last\n"
            "7 send m3 [0, 512) to 1\n"
            "8 release m3 [0, 512)\n"
            "9 release m0 [0, 512)\n"
            "10 receive m2 [512, 1024) from 1\n"
            "11 decode m2 [512, 1024)\n"
            "12 release m2 [512, 1024)\n");
}

}  // namespace
}  // namespace cgx
