// run() where ranks stand on several hosts: hierarchical gives the oracle's bits and residuals by every
// grouping, with every kind of inner codec beside every kind of the tensor's own.
#include <gtest/gtest.h>

#include "base/half.h"
#include "plan/oracle.h"

namespace cgx {
namespace {

using test::Floats;
using test::Outcome;

const Algorithm& hierarchical() { return *find_algorithm("hierarchical"); }

std::vector<Floats> gradients(int size, uint64_t count) {
  std::vector<Floats> x;
  for (int r = 0; r < size; ++r) x.push_back(test::gradient(r, count));
  return x;
}

std::string words(int size, const std::vector<int>& hosts, const std::string& inner, const Layout& layout) {
  return fmt::format("{} ranks on hosts {}, inner {}, {}", size, fmt::join(hosts, " "), inner,
                     layout.describe());
}

void expect_oracle(const Layout& layout, int size, const std::vector<int>& hosts, const std::string& inner,
                   uint64_t slice_bytes) {
  const std::string what = words(size, hosts, inner, layout);
  const PlanKey key{0, size, layout, slice_bytes, hosts, test::spec_of(inner)};
  const Outcome outcome = test::run_plans(layout, test::plans_of(hierarchical(), key), {.scale = 0.5f});
  test::expect_replicas(outcome, what);
  test::Oracle oracle(layout, gradients(size, layout.count()), 0.5f);
  oracle.stand_on(hosts, test::spec_of(inner));
  ASSERT_EQ(outcome.y[0], test::bytes_of(oracle.run("hierarchical"))) << what;
}

constexpr const char* kInner[] = {"none", "maxmin:bits=8,bucket=1024", "cast:bf16", "maxmin:bits=6,bucket=0",
                                  "topk:ratio=0.5"};

TEST(Hosts, EveryGroupingGivesTheBitsOfTheOracle) {
  for (const char* spec :
       {"none", "maxmin:bits=4,bucket=512", "natural", "topk:ratio=0.1", "maxmin:bits=3,bucket=0"}) {
    for (int size : {2, 3, 5, 8}) {
      for (const std::vector<int>& hosts : test::groupings(size)) {
        const char* inner = kInner[static_cast<size_t>(size + hosts.back()) % std::size(kInner)];
        expect_oracle(test::uniform(9001, spec), size, hosts, inner, 4096);
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST(Hosts, MixedSegmentsMeetEveryInnerCodec) {
  for (const char* inner : kInner) {
    for (uint64_t slice_bytes : {2048ul, 1ul << 20}) {
      expect_oracle(test::mixed(30011, test::kMixedSpecs), 6, {0, 0, 1, 1, 0, 2}, inner, slice_bytes);
      if (HasFatalFailure()) return;
    }
  }
}

TEST(Hosts, SixteenRanksOnFourHostsAgree) {
  std::vector<int> hosts;
  for (int r = 0; r < 16; ++r) hosts.push_back(r / 4);
  expect_oracle(test::mixed(20011, test::kMixedSpecs), 16, hosts, "none", 4096);
}

// Members keep what the inner codec loses of their elements; a leader what its host's part of another's chunk
// loses, in the residual of its own contribution; an owner what the sum loses.
TEST(Hosts, ResidualsAreThoseOfTheOracle) {
  const Layout layout = test::mixed(
      9001, {"topk:ratio=0.1+ef", "maxmin:bits=4,bucket=64+ef", "none", "maxmin:bits=2,bucket=512+ef"});
  const uint64_t count = layout.count();
  for (const char* inner : {"none", "maxmin:bits=8"}) {
    for (const std::vector<int>& hosts : test::groupings(5)) {
      constexpr int kSize = 5;
      test::Residuals before;
      for (int r = 0; r < kSize; ++r) {
        before.contribution.push_back(test::gradient(100 + r, count));
        before.sum.push_back(test::gradient(200 + r, count));
      }
      const std::vector<Floats> unset(kSize, Floats(count, -1));  // what nobody writes stays
      test::Residuals after{unset, unset}, expected{unset, unset};
      std::vector<std::vector<SegmentResidual>> residuals(kSize);
      for (size_t r = 0; r < kSize; ++r) {
        for (const Segment& s : layout.segments()) {
          residuals[r].push_back(!s.spec.error_feedback
                                     ? SegmentResidual{}
                                     : SegmentResidual{before.contribution[r].data() + s.offset,
                                                       after.contribution[r].data() + s.offset,
                                                       before.sum[r].data() + s.offset,
                                                       after.sum[r].data() + s.offset});
        }
      }
      const std::string what = words(kSize, hosts, inner, layout);
      const PlanKey key{0, kSize, layout, 4096, hosts, test::spec_of(inner)};
      const Outcome outcome = test::run_plans(layout, test::plans_of(hierarchical(), key),
                                              {.scale = 0.5f, .residuals = residuals});
      test::expect_replicas(outcome, what);
      test::Oracle oracle(layout, gradients(kSize, count), 0.5f);
      oracle.stand_on(hosts, test::spec_of(inner));
      oracle.feed_back(&before, &expected);
      ASSERT_EQ(outcome.y[0], test::bytes_of(oracle.run("hierarchical"))) << what;
      for (size_t r = 0; r < kSize; ++r) {
        ASSERT_EQ(after.contribution[r], expected.contribution[r]) << "rank " << r << ", " << what;
        ASSERT_EQ(after.sum[r], expected.sum[r]) << "rank " << r << ", " << what;
      }
    }
  }
}

// Inside a host bytes are raw, so what leaves a host is all that is compressed: 2 (h - 1) blocks of the
// tensor over all leaders, and (g - 1) of each host's ranks send raw elements up and get blocks down.
TEST(Hosts, TrafficIsOneRanksAHost) {
  const uint64_t count = 1 << 16;
  const std::vector<int> hosts = {0, 0, 0, 1, 1, 1};
  const Layout layout = test::uniform(count, "natural8");
  const Outcome outcome =
      test::run_plans(layout, test::plans_of(hierarchical(), {0, 6, layout, 16384, hosts}));
  test::expect_replicas(outcome, "natural8");
  uint64_t wire = 0;
  for (const RunStats& stats : outcome.stats) wire += stats.wire_bytes;
  EXPECT_EQ(wire, 2 * count + 4 * (4 * count) + 4 * count);
}

TEST(Hosts, HalvesAndTypesThatNoCodecTakesAreReducedToo) {
  const std::vector<int> hosts = {0, 1, 0, 1, 1};
  for (const DType dtype : {DType::kF16, DType::kBF16}) {
    const Layout layout = test::uniform(5003, "maxmin:bits=8,bucket=64", dtype);
    test::RunOptions options;
    for (int r = 0; r < 5; ++r) {
      std::vector<uint16_t> x(5003);
      const Floats wide = test::gradient(r, 5003);
      for (size_t i = 0; i < x.size(); ++i)
        x[i] = dtype == DType::kF16 ? f32_to_f16(wide[i]) : f32_to_bf16(wide[i]);
      options.x.push_back(test::bytes_of(x));
    }
    const PlanKey key{0, 5, layout, 4096, hosts, test::spec_of("maxmin:bits=8")};
    test::expect_replicas(test::run_plans(layout, test::plans_of(hierarchical(), key), options), "halves");
  }
  std::vector<std::vector<int64_t>> x(5, std::vector<int64_t>(5003));
  std::vector<int64_t> sum(5003), max(5003, INT64_MIN);
  std::mt19937_64 random(9);
  test::RunOptions options;
  for (auto& rank : x) {
    for (size_t i = 0; i < rank.size(); ++i) {
      rank[i] = static_cast<int64_t>(random() >> 8);
      sum[i] += rank[i];
      max[i] = std::max(max[i], rank[i]);
    }
    options.x.push_back(test::bytes_of(rank));
  }
  const Layout layout = test::uniform(5003, "none", DType::kI64);
  const auto plans =
      test::plans_of(hierarchical(), {0, 5, layout, 4096, hosts, test::spec_of("maxmin:bits=8")});
  EXPECT_EQ(test::run_plans(layout, plans, options).y[4], test::bytes_of(sum));
  options.op = ReduceOp::kMax;
  EXPECT_EQ(test::run_plans(layout, plans, options).y[4], test::bytes_of(max));
}

}  // namespace
}  // namespace cgx
