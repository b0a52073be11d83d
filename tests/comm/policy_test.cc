// "auto": measured, agreed on, chosen alike on every rank, pinned, and refused where it means nothing.
#include <algorithm>
#include <mutex>
#include <string_view>

#include <nlohmann/json.hpp>

#include "base/log.h"
#include "codec/candidates.h"
#include "comm/measure.h"
#include "comm/policy_text.h"
#include "comm/world.h"
#include "transport/ranks.h"

namespace cgx {
namespace {

using test::in_place;
using test::noise;
using test::Replicas;
using test::run_world;
using test::whole;
using test::World;

// A slow link that favours max-min, so that the choice is known.
Policy slow_link(int size) {
  Policy policy;
  policy.transport = "local";
  policy.profile = default_profile(size, false);
  policy.profile.largest_host = policy.profile.size;
  policy.profile.all_byte = policy.profile.pair_byte = 8;
  for (const Candidate& c : candidates())
    policy.profile.codecs.push_back({c.spec, {{{0.12, 0.11}, {0.1, 0.09}, {0.2, 0.19}}}});
  return policy;
}

TEST(Policy, AutoGivesTheSameBitsOnEveryRank) {
  for (const int size : {1, 2, 3, 4}) {
    Replicas replicas(size);
    run_world({.size = size}, [&](Communicator& comm) {
      for (const uint64_t count : {1u, 1000u, 100000u, 1000003u}) {
        std::vector<float> x = noise(comm.rank(), count);
        const Status status = comm.allreduce(
            in_place(x, whole(count, "auto:error=0.1+ef", DType::kF32, static_cast<uint32_t>(count))));
        ASSERT_TRUE(status.ok()) << status.message();
        replicas.expect_equal(comm.rank(), x, fmt::format("{} elements", count));
      }
      const auto text = comm.policy();
      ASSERT_TRUE(text.ok());
      replicas.expect_equal(comm.rank(), std::vector<char>(text->begin(), text->end()), "the policy");
    });
  }
}

TEST(Policy, NothingIsMeasuredUnlessAsked) {
  run_world({}, [](Communicator& comm) {
    std::vector<float> x = noise(comm.rank(), 1000);
    ASSERT_TRUE(comm.allreduce(in_place(x, whole(1000, "maxmin:bits=4"))).ok());
    EXPECT_EQ(*comm.policy(), "");
    ASSERT_TRUE(comm.tune().ok());
    EXPECT_NE(*comm.policy(), "");
    ASSERT_TRUE(comm.allreduce(in_place(x, whole(1000, "maxmin:bits=4"))).ok());
  });
}

TEST(Policy, MayBeMeasuredAtCreation) {
  World world;
  world.adjust = [](CommunicatorConfig& config) { config.tune = true; };
  run_world(world, [](Communicator& comm) { EXPECT_NE(*comm.policy(), ""); });
}

// One rank's figures are far off: all take the slowest of each, and so the same profile.
TEST(Policy, RanksAgreeWhateverEachOfThemMeasured) {
  constexpr int kSize = 3;
  std::vector<Profile> profiles(kSize);
  test::run_ranks("local", kSize, [&](Transport& transport) {
    const MeasureArgs args{&transport, test::kPatienceMs};
    Result<Measurement> own = measure(args);
    ASSERT_TRUE(own.ok()) << own.status().message();
    if (transport.rank() == 1) {
      own->latency *= 1000;
      own->codecs[3][1].encode = 123456789;
    }
    const auto all = exchange(args, *own);
    ASSERT_TRUE(all.ok()) << all.status().message();
    profiles[static_cast<size_t>(transport.rank())] = agree_on(*all);
  });
  EXPECT_EQ(profiles[0], profiles[1]);
  EXPECT_EQ(profiles[0], profiles[2]);
  EXPECT_EQ(profiles[0].codecs[3].at[1].encode, 123000);  // three digits of 123456.789 ns
}

TEST(Policy, OneRankThatDoesNotLeaveTheChoiceIsAMismatch) {
  run_world({}, [](Communicator& comm) {
    std::vector<float> x = noise(comm.rank(), 1000);
    const Status status = comm.allreduce(in_place(x, whole(1000, comm.rank() == 0 ? "auto" : "none")));
    EXPECT_EQ(status.code(), Code::kMismatch) << status.message();
    EXPECT_NE(status.message().find("auto"), std::string::npos) << status.message();
  });
}

TEST(Policy, SurvivesItsText) {
  Policy policy = slow_link(4);
  policy.profile.cold_links = 2.5;
  policy.profile.one_shot = 1.5;
  const auto read = parse_policy(to_json(policy), "test");
  ASSERT_TRUE(read.ok()) << read.status().message();
  EXPECT_EQ(read->profile, policy.profile);
  EXPECT_EQ(read->transport, "local");
}

TEST(Policy, PinnedBeforeColdLinksAndSmallTensorsWereMeasuredStillDecides) {
  Policy policy = slow_link(4);
  nlohmann::json old = nlohmann::json::parse(to_json(policy));
  old.erase("cold_links");
  old.erase("one_shot");
  old.erase("short_ns_per_byte");
  for (auto& codec : old["codecs"]) {
    codec.erase("encode_small_ns");
    codec.erase("decode_small_ns");
  }
  const auto read = parse_policy(old.dump(), "test");
  ASSERT_TRUE(read.ok()) << read.status().message();
  for (CodecCost& codec : policy.profile.codecs) codec.at[0] = codec.at[1];
  EXPECT_EQ(read->profile, policy.profile);
}

TEST(Policy, APinnedOneDecidesWithoutMeasuring) {
  const std::string text = to_json(slow_link(2));
  World world;
  world.adjust = [&](CommunicatorConfig& config) { config.policy = text; };
  run_world(world, [&](Communicator& comm) {
    std::vector<float> x = noise(comm.rank(), 1 << 20);
    ASSERT_TRUE(comm.allreduce(in_place(x, whole(x.size(), "auto"))).ok());
    EXPECT_EQ(*comm.policy(), text);
    EXPECT_EQ(comm.stats().accounting.compressed, x.size());
    EXPECT_NEAR(
        static_cast<double>(comm.stats().run.raw_bytes) / static_cast<double>(comm.stats().run.wire_bytes),
        7.76, 0.01);
  });
}

TEST(Policy, TheLogSaysOnceForEachLayoutWhatWasChosenAndWhatElseThereWas) {
  std::mutex mutex;
  std::string lines;
  set_log(
      [&](LogLevel, const char* line) {
        const std::lock_guard lock(mutex);
        if (std::string_view(line).find("policy: ") != std::string_view::npos)
          lines += std::string(line) + "\n";
      },
      LogLevel::kInfo);
  const std::string text = to_json(slow_link(2));
  World world;
  world.adjust = [&](CommunicatorConfig& config) { config.policy = text; };
  run_world(world, [&](Communicator& comm) {
    std::vector<float> x = noise(comm.rank(), 1 << 20);
    for (int k = 0; k < 2; ++k) ASSERT_TRUE(comm.allreduce(in_place(x, whole(x.size(), "auto"))).ok());
  });
  set_log({}, LogLevel::kWarn);
  EXPECT_EQ(std::count(lines.begin(), lines.end(), '\n'), 2) << lines;  // a rank each
  for (const char* words :
       {"auto", " -> ", "maxmin:bits=4", "in slices of", "2 ranks on 1 host", "predicted", "ring"}) {
    EXPECT_NE(lines.find(words), std::string::npos) << words << " is not in: " << lines;
  }
}

TEST(Policy, BadTextsAreRefusedWithWhatIsWrongInThem) {
  const nlohmann::json good = nlohmann::json::parse(to_json(slow_link(2)));
  const auto refused = [](const std::string& text, const std::string& words) {
    const auto read = parse_policy(text, "file.json");
    ASSERT_FALSE(read.ok()) << text;
    EXPECT_EQ(read.status().code(), Code::kInvalidArgument);
    EXPECT_NE(read.status().message().find(words), std::string::npos) << read.status().message();
    EXPECT_NE(read.status().message().find("file.json"), std::string::npos);
  };
  refused("", "no JSON object");
  refused("[1]", "no JSON object");
  refused("{}", "cgx_policy");
  for (const char* key : {"ranks", "hosts", "transport", "latency_ns", "all_ns_per_byte", "codecs"}) {
    nlohmann::json bad = good;
    bad.erase(key);
    refused(bad.dump(), key);
  }
  nlohmann::json bad = good;
  bad["cgx_policy"] = 1;
  refused(bad.dump(), "format is 1");
  bad = good;
  bad["latency_ns"] = -1;
  refused(bad.dump(), "-1");
  bad = good;
  bad["cold_links"] = "2";
  refused(bad.dump(), "cold_links");
  bad = good;
  bad["codecs"][1]["codec"] = "maxmin:bits=17";
  refused(bad.dump(), "17");
  bad = good;
  bad["codecs"][2].erase("encode_small_ns");
  refused(bad.dump(), "encode_small_ns");
  bad = good;
  bad["codecs"].erase(2);
  refused(bad.dump(), "lacks maxmin");
}

TEST(Policy, OneOfAnotherMachineDoesNotFit) {
  EXPECT_FALSE(read_policy(to_json(slow_link(2)), {3, {0, 0, 0}, "local"}).ok());
  EXPECT_FALSE(read_policy(to_json(slow_link(2)), {2, {0, 1}, "local"}).ok());
  EXPECT_FALSE(read_policy(to_json(slow_link(2)), {2, {0, 0}, "shm"}).ok());
  EXPECT_TRUE(read_policy(to_json(slow_link(2)), {2, {0, 0}, "local"}).ok());
  const auto missing = load_policy("/nonexistent/policy.json");
  ASSERT_FALSE(missing.ok());
  EXPECT_NE(missing.status().message().find("/nonexistent/policy.json"), std::string::npos);
}

TEST(Policy, RanksWithDifferentOnesAreAMismatch) {
  World world;
  world.adjust = [](CommunicatorConfig& config) {
    if (config.rank == 1) config.policy = to_json(slow_link(2));
  };
  test::create_world(world, [](int, Result<std::unique_ptr<Communicator>>& made) {
    ASSERT_FALSE(made.ok());
    EXPECT_EQ(made.status().code(), Code::kMismatch) << made.status().message();
  });
}

TEST(Policy, ThreadsChangeNoBit) {
  std::vector<std::vector<float>> results;
  for (const uint32_t threads : {1u, 3u}) {
    World world;
    world.adjust = [&](CommunicatorConfig& config) { config.threads = threads; };
    std::vector<float> kept;
    run_world(world, [&](Communicator& comm) {
      std::vector<float> x = noise(comm.rank(), 300001);
      for (int step = 0; step < 3; ++step) {
        ASSERT_TRUE(comm.allreduce(in_place(x, whole(x.size(), "maxmin:bits=4+ef"), true)).ok());
      }
      if (comm.rank() == 0) kept = x;
    });
    results.push_back(kept);
  }
  EXPECT_EQ(results[0], results[1]);
}

}  // namespace
}  // namespace cgx
