// Threads change when something is computed, never what.
#include "plan/parallel.h"

#include <gtest/gtest.h>

#include <atomic>

#include "plan/algorithm_list.h"
#include "plan/layouts.h"
#include "plan/ranks_run.h"

namespace cgx {
namespace {

TEST(Parallel, EveryPartIsCalledOnce) {
  for (const bool spin : {false, true}) {
    Parallel pool(3, spin);
    for (size_t parts : {0u, 1u, 2u, 3u, 7u, 100u}) {
      std::vector<std::atomic<int>> calls(parts);
      pool.run(parts, [&](size_t i) { ++calls[i]; });
      for (const auto& count : calls) EXPECT_EQ(count, 1) << parts << " parts";
    }
  }
}

TEST(Parallel, JobsThatFollowEachOtherDoNotMix) {
  Parallel pool(4);
  for (size_t job = 0; job < 500; ++job) {
    std::atomic<size_t> sum = 0;
    const size_t parts = 2 + job % 5;
    pool.run(parts, [&](size_t i) { sum += job + i; });
    ASSERT_EQ(sum, parts * job + parts * (parts - 1) / 2);
  }
}

TEST(Parallel, APoolThatNeverRanEnds) { const Parallel pool(8); }

// Odd counts, a short last unit, a bucket longer than a thread's share, codecs that cannot be cut.
TEST(Parallel, ResultsAndCountsAreTheSameWithAnyNumberOfThreads) {
  const std::vector<std::string> specs = {"none",      "maxmin:bits=4",  "maxmin:bits=3,bucket=65536",
                                          "natural",   "dither:bits=5",  "maxmin:bits=2,bucket=0",
                                          "cast:bf16", "topk:ratio=0.01"};
  for (const Algorithm& algorithm : algorithms()) {
    for (const std::string& spec : specs) {
      const Layout layout = test::uniform(200003, spec);
      const auto plans = test::plans_of(algorithm, {0, 2, layout, uint64_t{1} << 20});
      const test::Outcome one = test::run_plans(layout, plans);
      test::expect_replicas(one, spec);
      for (size_t threads : {2u, 5u}) {
        const test::Outcome many = test::run_plans(layout, plans, {.threads = threads});
        test::expect_replicas(many, spec);
        EXPECT_EQ(many.y[0], one.y[0]) << algorithm.name << ", " << spec << ", " << threads << " threads";
        EXPECT_EQ(many.stats[0].counts.elements, one.stats[0].counts.elements) << spec;
      }
    }
  }
}

TEST(Parallel, ResidualsAreTheSameWithAnyNumberOfThreads) {
  constexpr uint64_t kCount = 100001;
  const Layout layout = test::uniform(kCount, "maxmin:bits=4+ef");
  const auto plans = test::plans_of(*find_algorithm("scatter_gather"), {0, 2, layout, uint64_t{1} << 20});
  std::vector<std::vector<float>> kept;
  std::vector<uint8_t> result;
  for (size_t threads : {1u, 3u}) {
    std::vector<std::vector<float>> after(4, std::vector<float>(kCount));
    std::vector<float> before(kCount, 0.001f);
    test::RunOptions options;
    options.threads = threads;
    for (size_t r = 0; r < 2; ++r) {
      options.residuals.push_back(
          {{before.data(), after[2 * r].data(), before.data(), after[2 * r + 1].data()}});
    }
    const test::Outcome outcome = test::run_plans(layout, plans, options);
    test::expect_replicas(outcome, "error feedback");
    if (threads == 1) {
      kept = after;
      result = outcome.y[0];
    } else {
      EXPECT_EQ(after, kept);
      EXPECT_EQ(outcome.y[0], result);
    }
  }
}

}  // namespace
}  // namespace cgx
