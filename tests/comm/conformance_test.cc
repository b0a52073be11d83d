// Every transport with every algorithm and codec of the lists: all ranks end with the same bits, on
// counts around every boundary, and the fourth collective with exactly those that the oracle computes
// without plans, slices or messages.
#include <cmath>

#include "comm/world.h"
#include "plan/oracle.h"

namespace cgx {
namespace {

using test::in_place;
using test::noise;
using test::Replicas;
using test::run_world;
using test::World;

struct Case {
  const char* transport;
  const char* algorithm;
};

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (const TransportEntry& transport : transports()) {
    for (const Algorithm& algorithm : algorithms()) cases.push_back({transport.name, algorithm.name});
  }
  return cases;
}

std::string case_name(const testing::TestParamInfo<Case>& info) {
  return fmt::format("{}_{}", info.param.transport, info.param.algorithm);
}

class Conformance : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (std::string(GetParam().transport) != "gloo") return;
    std::string missing;
    test::create_world(world(1), [&](int, auto& made) {
      if (!made.ok()) missing = made.status().message();
    });
    if (!missing.empty() && missing.find("libcgx_gloo") != std::string::npos) GTEST_SKIP() << missing;
  }
  // Of mixed, two ranks a host.
  World world(int size) const {
    const auto adjust = [](CommunicatorConfig& config) {
      if (config.transport == "mixed") config.host_id = std::to_string(config.rank / 2);
    };
    return {GetParam().transport, size, GetParam().algorithm, adjust};
  }
};
INSTANTIATE_TEST_SUITE_P(AllTransportsAndAlgorithms, Conformance, testing::ValuesIn(all_cases()), case_name);

std::vector<std::string> specs() {
  std::vector<std::string> specs = test::specs_of_registry();
  for (const char* more :
       {"maxmin:bits=1,bucket=64", "maxmin:bits=8,bucket=0", "maxmin:bits=3,rounding=nearest",
        "topk:ratio=0.01|natural", "topk:ratio=0.05+ef", "natdither:bits=4,norm=inf,bucket=0"}) {
    specs.push_back(more);
  }
  return specs;
}

void allreduce_all(const World& world, const std::vector<uint64_t>& counts) {
  Replicas replicas(world.size);
  const std::vector<std::string> all = specs();
  run_world(world, [&](Communicator& comm) {
    uint32_t tensor = 0;
    for (const std::string& spec : all) {
      for (const uint64_t count : counts) {
        const std::vector<float> x = noise(comm.rank(), count);
        std::vector<float> y(count, std::nanf(""));
        AllreduceCall call;
        call.input = x.data();
        call.output = y.data();
        call.layout = test::whole(count, spec, DType::kF32, tensor++);
        const Status status = comm.allreduce(std::move(call));
        ASSERT_TRUE(status.ok()) << status.message();
        replicas.expect_equal(comm.rank(), y, fmt::format("{} of {} elements", spec, count));
        EXPECT_EQ(x, noise(comm.rank(), count)) << "the input was written to";
        for (uint64_t i = 0; i < count; ++i) ASSERT_TRUE(std::isfinite(y[i])) << spec << " element " << i;
      }
    }
  });
}

TEST_P(Conformance, AllRanksEndWithTheSameBits) {
  const std::vector<uint64_t> counts = {0, 1, 2, 3, 7, 8, 13, 17, 255, 257, 1000, 4099};
  for (const int size : {2, 3, 5}) allreduce_all(world(size), counts);
}

TEST_P(Conformance, EveryCountFromNothingToSeventeenWorks) {
  std::vector<uint64_t> counts(18);
  for (uint64_t i = 0; i < counts.size(); ++i) counts[i] = i;
  allreduce_all(world(4), counts);
}

TEST_P(Conformance, OneRankGetsItsOwnElementsBack) {
  run_world(world(1), [&](Communicator& comm) {
    for (const std::string& spec : specs()) {
      std::vector<float> x = noise(0, 1000);
      ASSERT_TRUE(comm.allreduce(in_place(x, test::whole(1000, spec), true)).ok());
      EXPECT_EQ(x, noise(0, 1000)) << spec;
    }
  });
}

TEST_P(Conformance, LongTensorsInManySlices) {
  constexpr uint64_t kCount = 100003;
  Replicas replicas(3);
  World three = world(3);
  three.adjust = [](CommunicatorConfig& config) { config.slice_bytes = 16384; };
  run_world(three, [&](Communicator& comm) {
    for (const char* spec : {"none", "maxmin:bits=4,bucket=512", "natural", "topk:ratio=0.01"}) {
      std::vector<float> x = noise(comm.rank(), kCount);
      const Status status = comm.allreduce(in_place(x, test::whole(kCount, spec), true));
      ASSERT_TRUE(status.ok()) << status.message();
      replicas.expect_equal(comm.rank(), x, spec);
    }
  });
}

// The oracle's key is that of operation 3.
TEST_P(Conformance, TheFourthCollectiveGivesTheOraclesBits) {
  constexpr int kSize = 3;
  constexpr uint64_t kCount = 5000;
  for (const bool average : {false, true}) {
    for (const std::string& spec :
         {std::string("mixed"), std::string("dither:bits=4"), std::string("natural8")}) {
      const Layout layout =
          spec == "mixed" ? test::mixed(kCount, test::kMixedSpecs) : test::whole(kCount, spec);
      std::vector<std::vector<float>> x;
      for (int r = 0; r < kSize; ++r) x.push_back(noise(r, kCount));
      test::Oracle oracle(layout, x, average ? 1.0f / kSize : 1.0f);
      if (std::string(GetParam().transport) == "mixed") oracle.stand_on({0, 0, 1}, test::spec_of("none"));
      const std::vector<float> expected = oracle.run(GetParam().algorithm);
      run_world(world(kSize), [&](Communicator& comm) {
        std::vector<float> y;
        for (int operation = 0; operation <= 3; ++operation) {
          y = x[static_cast<size_t>(comm.rank())];
          ASSERT_TRUE(comm.allreduce(in_place(y, layout, average)).ok());
        }
        EXPECT_EQ(0, std::memcmp(y.data(), expected.data(), kCount * sizeof(float))) << spec;
      });
    }
  }
}

TEST(Communicator, EightAndSixteenRanksAgree) {
  for (const int size : {8, 16}) {
    for (const Algorithm& algorithm : algorithms()) {
      Replicas replicas(size);
      run_world({"local", size, algorithm.name}, [&](Communicator& comm) {
        for (const uint64_t count : {uint64_t{5}, uint64_t{1000}, uint64_t{8209}}) {
          std::vector<float> x = noise(comm.rank(), count);
          const Status status =
              comm.allreduce(in_place(x, test::whole(count, "maxmin:bits=4,bucket=64"), true));
          ASSERT_TRUE(status.ok()) << status.message();
          replicas.expect_equal(comm.rank(), x, algorithm.name);
        }
      });
    }
  }
}

}  // namespace
}  // namespace cgx
