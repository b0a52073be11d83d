// Communicators whose ranks stand on several hosts: here one machine that plays them, by host names of their
// own.
#include "comm/policy_text.h"
#include "comm/world.h"
#include "plan/oracle.h"

namespace cgx {
namespace {

using test::in_place;
using test::noise;
using test::run_world;
using test::World;

// Ranks over tcp on the hosts named.
World on_hosts(const std::vector<int>& hosts, const std::string& algorithm, const std::string& inner = "") {
  World world{"tcp", static_cast<int>(hosts.size()), algorithm};
  world.adjust = [hosts, inner](CommunicatorConfig& config) {
    config.host_id = fmt::format("host-{}", hosts[static_cast<size_t>(config.rank)]);
    config.inner_codec = inner;
  };
  return world;
}

// The oracle's key is that of operation 3.
TEST(Hosts, HierarchicalGivesTheOraclesBits) {
  constexpr uint64_t kCount = 5000;
  for (const std::vector<int>& hosts : std::vector<std::vector<int>>{{0, 0, 1, 1}, {0, 1, 0, 2}, {3, 3, 3}}) {
    for (const char* inner : {"", "maxmin:bits=8"}) {
      const Layout layout = test::mixed(kCount, test::kMixedSpecs);
      std::vector<std::vector<float>> x;
      for (size_t r = 0; r < hosts.size(); ++r) x.push_back(noise(static_cast<int>(r), kCount));
      test::Oracle oracle(layout, x, 1.0f / static_cast<float>(hosts.size()));
      const std::string codec = inner;
      oracle.stand_on(hosts, test::spec_of(codec.empty() ? "none" : codec));
      const std::vector<float> expected = oracle.run("hierarchical");
      run_world(on_hosts(hosts, "hierarchical", inner), [&](Communicator& comm) {
        std::vector<float> y;
        for (int operation = 0; operation <= 3; ++operation) {
          y = x[static_cast<size_t>(comm.rank())];
          const Status status = comm.allreduce(in_place(y, layout, true));
          ASSERT_TRUE(status.ok()) << status.message();
        }
        EXPECT_EQ(0, std::memcmp(y.data(), expected.data(), kCount * sizeof(float)));
      });
    }
  }
}

TEST(Hosts, AutoTakesHierarchicalForLongTensorsOnSeveralHosts) {
  constexpr uint64_t kCount = 1 << 20;
  run_world(on_hosts({0, 0, 1, 1}, "auto"), [&](Communicator& comm) {
    std::vector<float> x = noise(comm.rank(), kCount);
    ASSERT_TRUE(comm.allreduce(in_place(x, test::whole(kCount, "none"))).ok());
    // A leader sends its part of the other's chunk, its own chunk to the other leader and to its member, and
    // forwards the rest to that; a member sends its elements. scatter_gather's ranks would all send 6 / 4.
    const double sent = static_cast<double>(comm.stats().run.raw_bytes) / (4.0 * kCount);
    EXPECT_NEAR(sent, comm.rank() % 2 == 0 ? 2.0 : 1.0, 0.01) << "rank " << comm.rank();
  });
}

// The measured policy knows the links of both levels, and the same on all ranks.
TEST(Hosts, PoliciesAreMeasuredAndPinned) {
  std::string text;
  run_world(on_hosts({0, 0, 1, 1}, "auto"), [&](Communicator& comm) {
    ASSERT_TRUE(comm.tune().ok());
    const auto policy = comm.policy();
    ASSERT_TRUE(policy.ok());
    const auto read = parse_policy(*policy, "measured");
    ASSERT_TRUE(read.ok()) << read.status().message();
    EXPECT_EQ(read->profile.hosts, 2);
    EXPECT_EQ(read->profile.largest_host, 2);
    EXPECT_GT(read->profile.inside_byte, 0);
    EXPECT_GT(read->profile.leader_byte, 0);
    EXPECT_GT(read->profile.inside_latency, 0);
    if (comm.rank() == 0) text = *policy;
  });
  const auto with_policy = [&text](World world) {
    world.adjust = [text, adjust = world.adjust](CommunicatorConfig& config) {
      adjust(config);
      config.policy = text;
    };
    return world;
  };
  run_world(with_policy(on_hosts({0, 0, 1, 1}, "auto")), [&](Communicator& comm) {
    EXPECT_EQ(*comm.policy(), text);
    std::vector<float> x = noise(comm.rank(), 5000);
    EXPECT_TRUE(comm.allreduce(in_place(x, test::whole(5000, "auto"))).ok());
  });
  test::create_world(with_policy(on_hosts({0, 1, 2, 2}, "auto")), [](int, auto& made) {
    ASSERT_FALSE(made.ok());
    EXPECT_NE(made.status().message().find("on 2 hosts"), std::string::npos) << made.status().message();
    EXPECT_NE(made.status().message().find("on 3 hosts"), std::string::npos) << made.status().message();
  });
}

TEST(Mismatch, OfTheInnerCodecNamesBothSides) {
  World world{"local", 3};
  world.adjust = [](CommunicatorConfig& config) {
    config.inner_codec = config.rank == 1 ? "natural" : "cast:bf16";
  };
  test::create_world(world, [](int rank, auto& made) {
    ASSERT_FALSE(made.ok()) << rank;
    EXPECT_EQ(made.status().code(), Code::kMismatch);
    for (const char* word : {"inner_codec=natural", "inner_codec=cast:bf16", "rank 1"}) {
      EXPECT_NE(made.status().message().find(word), std::string::npos) << made.status().message();
    }
  });
}

// Error feedback through both levels: what is lost is made up for, so the mean over steps nears the true
// average much closer than a single step comes to it.
TEST(Hosts, ErrorFeedbackMakesUpForBothLevels) {
  constexpr uint64_t kCount = 4096;
  constexpr int kSteps = 32;
  run_world(on_hosts({0, 0, 1, 1}, "hierarchical", "maxmin:bits=4"), [&](Communicator& comm) {
    const Layout layout = test::whole(kCount, "maxmin:bits=2,bucket=64,rounding=nearest+ef");
    std::vector<double> exact(kCount), mean(kCount);
    for (int r = 0; r < 4; ++r) {
      const std::vector<float> x = noise(r, kCount);
      for (uint64_t i = 0; i < kCount; ++i) exact[i] += x[i] / 4.0;
    }
    double first = 0;
    for (int step = 0; step < kSteps; ++step) {
      std::vector<float> x = noise(comm.rank(), kCount);
      ASSERT_TRUE(comm.allreduce(in_place(x, layout, true)).ok());
      for (uint64_t i = 0; i < kCount; ++i) {
        mean[i] += x[i] / static_cast<double>(kSteps);
        if (step == 0) first += (x[i] - exact[i]) * (x[i] - exact[i]);
      }
    }
    double last = 0;
    for (uint64_t i = 0; i < kCount; ++i) last += (mean[i] - exact[i]) * (mean[i] - exact[i]);
    // The error of the mean is (residuals at the end - at the start) / steps: residuals stay bounded by about
    // a rounding's error, so it falls like 1 / steps, its square like 1 / steps^2; without feedback, with
    // rounding to nearest, not at all.
    EXPECT_LT(last, first * 16 / (kSteps * kSteps));
  });
}

}  // namespace
}  // namespace cgx
