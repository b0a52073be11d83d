// The communicator's parts by themselves: the cache of plans, accounting, cards and residuals' memory.
#include "comm/accounting.h"
#include "comm/agreement.h"
#include "comm/world.h"

namespace cgx {
namespace {

using test::whole;

TEST(PlanCache, KeepsABoundedNumberOfPlansAndForgetsTheOneUsedLongestAgo) {
  PlanCache cache({nullptr, 4096, 0, 2, true});
  const Layout first = whole(1, "none");
  const CachedPlan* kept = cache.find(first);
  for (uint64_t count = 2; count <= 2 * PlanCache::kCapacity; ++count) {
    ASSERT_NE(cache.find(whole(count, "none")), nullptr);
    EXPECT_EQ(cache.find(first), kept) << "used all the time, so never forgotten";
  }
  EXPECT_EQ(cache.size(), PlanCache::kCapacity);
}

TEST(PlanCache, RanksThatShareCoresSendFewerAndLongerMessagesUnlessSlicesAreNamed) {
  const Layout layout = whole(1 << 22, "maxmin:bits=4");
  const auto messages = [&](uint64_t slice_bytes, bool crowded, bool same_host = true) {
    PlanCache::Config config;
    config.size = 4;
    config.same_host = same_host;
    config.slice_bytes = slice_bytes;
    config.crowded = crowded;
    return PlanCache(config).find(layout)->plan.messages.size();
  };
  EXPECT_EQ(messages(0, false), 4 * messages(0, true));
  EXPECT_EQ(messages(4096, false), messages(4096, true));
}

TEST(PlanCache, OverLinksSlicesGrowWithWhatThereIsToOverlap) {
  const auto slices = [](uint64_t mebibytes) {
    PlanCache::Config config;
    config.size = 4;
    return PlanCache(config).find(whole(mebibytes << 18, "maxmin:bits=4"))->plan.messages.size();
  };
  EXPECT_EQ(slices(16), 2 * slices(8)) << "256 KiB both";
  EXPECT_EQ(slices(32), slices(16)) << "512 KiB";
  EXPECT_EQ(slices(64), slices(16)) << "1 MiB";
  EXPECT_EQ(slices(128), 2 * slices(64)) << "and no longer ones";
}

// Messages that rank 0 sends before it waits for one, in the plan that a communicator would run.
size_t sent_at_first(const PlanCache::Config& config, const char* codec = "maxmin:bits=4") {
  PlanCache cache(config);
  size_t sent = 0;
  for (const Step& step : cache.find(whole(1 << 24, codec))->plan.steps) {
    if (step.op == Step::Op::kReceive) break;
    sent += step.op == Step::Op::kSend;
  }
  return sent;
}

TEST(PlanCache, WhereMessagesTakeLongMoreAreUnderWay) {
  PlanCache::Config config;
  config.size = 2;
  EXPECT_EQ(sent_at_first(config), 2u);
  config.links.round_trip_us = 40000;
  EXPECT_EQ(sent_at_first(config), 16u) << "4 MiB of 135168 bytes and as much of sums, and one";
  config.links = {};
  config.links.streams = 4;
  EXPECT_EQ(sent_at_first(config), 5u) << "one a connection, and one";
}

TEST(PlanCache, RanksThatDisagreeAboutDepthNotice) {
  const auto fingerprint = [](int64_t round_trip_us) {
    PlanCache::Config config;
    config.size = 2;
    config.links.round_trip_us = round_trip_us;
    return PlanCache(config).find(whole(1 << 24, "none"))->fingerprint;
  };
  EXPECT_NE(fingerprint(0), fingerprint(40000));
}

TEST(Processors, ThoseOfAHostShareItsCores) {
  const auto crowding = [](std::vector<Processors> ranks) { return crowding_of(ranks); };
  EXPECT_EQ(crowding({{1, 4}}), 1);
  EXPECT_EQ(crowding({{1, 2}, {1, 2}}), 1);
  EXPECT_EQ(crowding({{1, 2}, {1, 2}, {1, 2}}), 1.5);
  EXPECT_EQ(crowding({{1, 1}, {2, 1}, {3, 8}, {3, 8}}), 1);
  EXPECT_EQ(crowding({{1, 8}, {2, 1}, {2, 1}}), 2) << "the fullest";
  EXPECT_EQ(crowding({{1, 0}}), 1) << "a peer's word";
  EXPECT_GE(own_processors().cores, 1u);
}

TEST(PlanCache, TellsLayoutsApartThatDifferInOneField) {
  PlanCache cache({nullptr, 4096, 0, 2, true});
  const CachedPlan* a = cache.find(whole(100, "natural", DType::kF32, 1));
  const CachedPlan* b = cache.find(whole(100, "natural", DType::kF32, 2));
  const CachedPlan* c = cache.find(whole(100, "natural", DType::kF16, 1));
  EXPECT_NE(a, b);
  EXPECT_NE(a, c);
  EXPECT_EQ(a, cache.find(whole(100, "natural", DType::kF32, 1)));
}

TEST(Agreement, ACardSurvivesItsText) {
  const Card card{5,       100,       "shm",     "ring",          UINT64_MAX, 4096, true, UINT64_MAX - 1,
                  "0,2,3", "[::1]:1", "natural", {UINT64_MAX, 12}};
  auto read = parse_card(to_text(card), 3);
  ASSERT_TRUE(read.ok()) << read.status().message();
  EXPECT_EQ(read->size, 5);
  EXPECT_EQ(read->seed, UINT64_MAX);
  EXPECT_EQ(read->algorithm, "ring");
  EXPECT_TRUE(read->tune);
  EXPECT_EQ(read->policy, UINT64_MAX - 1);
  EXPECT_EQ(read->members, "0,2,3");
  EXPECT_EQ(read->heir, "[::1]:1");
  EXPECT_EQ(read->inner_codec, "natural");
  EXPECT_EQ(read->processors.host, UINT64_MAX);
  EXPECT_EQ(read->processors.cores, 12u);
}

TEST(Agreement, AnyOtherTextIsAMismatchThatNamesTheRank) {
  for (const char* text : {"", "hello", "[]", "{}", "{\"cgx\":\"one\"}", "\xff\xfe", "{\"cgx\":100"}) {
    auto read = parse_card(text, 3);
    ASSERT_FALSE(read.ok()) << text;
    EXPECT_EQ(read.status().code(), Code::kMismatch);
    EXPECT_NE(read.status().message().find("rank 3"), std::string::npos);
  }
}

TEST(ErrorFeedback, RollsBackToTheCommittedResiduals) {
  ErrorFeedback feedback;
  const Layout layout = whole(4, "topk:ratio=0.5+ef");
  const auto step = [&](uint64_t plan, float contribution, float sum, bool success) {
    auto residuals = feedback.begin(layout, {plan, 0.5f});
    ASSERT_TRUE(residuals.ok());
    const SegmentResidual& r = (*residuals)[0];
    r.contribution_after[0] = contribution;
    r.sum_after[1] = sum;
    success ? feedback.commit() : feedback.rollback();
  };
  step(1, 3, 4, true);
  EXPECT_EQ(feedback.norm(7), 5);
  step(1, 30, 40, false);
  EXPECT_EQ(feedback.norm(7), 5);
  auto again = feedback.begin(layout, {1, 0.5f});
  ASSERT_TRUE(again.ok());
  EXPECT_EQ((*again)[0].contribution_before[0], 3);
  EXPECT_EQ((*again)[0].contribution_after[0], 3) << "what the plan does not write must equal the committed";
  EXPECT_EQ((*again)[0].sum_after[1], 4);
  feedback.rollback();
  // Another plan has other owners: what is owed for a sum goes with the contribution, unscaled.
  auto moved = feedback.begin(layout, {2, 0.5f});
  ASSERT_TRUE(moved.ok());
  EXPECT_EQ((*moved)[0].contribution_before[1], 8);
  EXPECT_EQ((*moved)[0].sum_before[1], 0);
  feedback.commit();
}

}  // namespace
}  // namespace cgx
