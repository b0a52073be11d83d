// Element types and sizes: halves, integers and doubles, long tensors, and real models' layouts with
// every parameter accounted for.
#include <cmath>
#include <numeric>

#include "comm/world.h"

namespace cgx {
namespace {

using test::in_place;
using test::Replicas;
using test::run_world;
using test::World;

template <typename T>
void expect_exact_sum(DType dtype) {
  constexpr int kSize = 3;
  constexpr uint64_t kCount = 1001;
  for (const Algorithm& algorithm : algorithms()) {
    run_world({"local", kSize, algorithm.name}, [&](Communicator& comm) {
      std::vector<T> x(kCount);
      for (uint64_t i = 0; i < kCount; ++i)
        x[i] = static_cast<T>(i % 30 + static_cast<uint64_t>(comm.rank()));
      ASSERT_TRUE(comm.allreduce(in_place(x, test::whole(kCount, "none", dtype))).ok());
      for (uint64_t i = 0; i < kCount; ++i)
        ASSERT_EQ(x[i], static_cast<T>(3 * (i % 30) + 3)) << dtype_name(dtype);
      EXPECT_EQ(comm.stats().accounting.not_float, kCount);
    });
  }
}

TEST(Types, IntegersAndDoublesAreSummedInTheirOwnType) {
  expect_exact_sum<int8_t>(DType::kI8);
  expect_exact_sum<uint8_t>(DType::kU8);
  expect_exact_sum<int16_t>(DType::kI16);
  expect_exact_sum<int32_t>(DType::kI32);
  expect_exact_sum<int64_t>(DType::kI64);
  expect_exact_sum<double>(DType::kF64);
}

TEST(Types, AveragesOfIntegersAreRefused) {
  run_world({}, [](Communicator& comm) {
    std::vector<int32_t> x(10);
    const Status status = comm.allreduce(in_place(x, test::whole(10, "none", DType::kI32), true));
    EXPECT_EQ(status.code(), Code::kUnsupported);
    EXPECT_NE(status.message().find("int32"), std::string::npos) << status.message();
    // Refused before anything was sent: the communicator still works.
    EXPECT_TRUE(comm.allreduce(in_place(x, test::whole(10, "none", DType::kI32))).ok());
  });
}

// 1, 2 and 3 in fp16 and bf16: exact in every codec of the registry only where nothing rounds, so this
// asks for equal bits on all ranks, and for exact sums of `none`.
TEST(Types, HalvesAreSummedInFp32) {
  constexpr uint64_t kCount = 1003;
  const std::vector<std::string> specs = test::specs_of_registry();
  for (const DType dtype : {DType::kF16, DType::kBF16}) {
    const uint16_t one = dtype == DType::kF16 ? 0x3c00 : 0x3f80;
    const uint16_t three = dtype == DType::kF16 ? 0x4200 : 0x4040;
    for (const Algorithm& algorithm : algorithms()) {
      Replicas replicas(3);
      run_world({"local", 3, algorithm.name}, [&](Communicator& comm) {
        for (const std::string& spec : specs) {
          std::vector<uint16_t> x(kCount, one);
          const Status status = comm.allreduce(in_place(x, test::whole(kCount, spec, dtype)));
          ASSERT_TRUE(status.ok()) << status.message();
          replicas.expect_equal(comm.rank(), x, spec);
          if (spec == "none") {
            EXPECT_EQ(x, std::vector<uint16_t>(kCount, three));
          }
        }
      });
    }
  }
}

// A layer list and what the statistics say of it: every element is accounted for.
struct Model {
  const char* name;
  std::vector<uint64_t> layers;
};

void expect_all_reduced(const Model& model, bool average) {
  constexpr uint64_t kSmall = 1024;  // biases and norms stay raw, as a training script would have it
  const uint64_t count = std::accumulate(model.layers.begin(), model.layers.end(), uint64_t{0});
  uint64_t large = 0;
  std::vector<Segment> segments;
  uint64_t offset = 0;
  for (size_t i = 0; i < model.layers.size(); ++i) {
    const bool compressed = model.layers[i] > kSmall;
    if (compressed) large += model.layers[i];
    segments.push_back({offset, model.layers[i],
                        test::spec_of(compressed ? "maxmin:bits=4,bucket=512" : "none"),
                        static_cast<uint32_t>(i)});
    offset += model.layers[i];
  }
  auto layout = Layout::make(DType::kF32, count, segments);
  ASSERT_TRUE(layout.ok()) << layout.status().message();
  constexpr int kSize = 2;
  Replicas replicas(kSize);
  run_world({"shm", kSize, "auto"}, [&](Communicator& comm) {
    // 1 on every rank is exact in every bucket (a constant bucket has no rounding), so an element that was
    // left out shows.
    std::vector<float> x(count, 1.0f);
    const Status status = comm.allreduce(in_place(x, *layout, average));
    ASSERT_TRUE(status.ok()) << status.message();
    const float expected = average ? 1.0f : static_cast<float>(kSize);
    const uint64_t unreduced = count - static_cast<uint64_t>(std::count(x.begin(), x.end(), expected));
    EXPECT_EQ(unreduced, 0u);
    const Accounting a = comm.stats().accounting;
    EXPECT_EQ(a.elements, count);
    EXPECT_EQ(a.compressed, large);
    EXPECT_EQ(a.raw, count - large);
    if (comm.rank() == 0) {
      std::printf("%s: %.0f %% of parameters left unreduced, %.2f %% compressed\n", model.name,
                  100.0 * static_cast<double>(unreduced) / static_cast<double>(count),
                  100.0 * static_cast<double>(a.compressed) / static_cast<double>(count));
    }
    replicas.expect_equal(comm.rank(), x, model.name);
  });
}

TEST(Models, NoParameterOfAVggLikeNetIsLeftUnreduced) {
  Model vgg{"VGG-like", {}};
  uint64_t in = 3;
  for (const uint64_t out : {64, 64, 128, 128, 256, 256, 256}) {
    vgg.layers.insert(vgg.layers.end(), {9 * in * out, out, out, out});  // convolution, bias, norm
    in = out;
  }
  vgg.layers.insert(vgg.layers.end(), {256 * 512, 512, 512 * 10, 10});
  expect_all_reduced(vgg, true);
}

TEST(Models, NoParameterOfATransformerIsLeftUnreduced) {
  Model transformer{"transformer-like", {1000 * 96}};
  for (int block = 0; block < 4; ++block) {
    transformer.layers.insert(transformer.layers.end(),
                              {96, 96, 96 * 288, 288, 96 * 96, 96, 96, 96, 96 * 384, 384, 384 * 96, 96});
  }
  transformer.layers.insert(transformer.layers.end(), {96, 96, 1, 3, 7});
  expect_all_reduced(transformer, false);
}

// Above 64 MiB and above 2^24 elements, where a float can no longer count.
TEST(Models, NoElementOfALongTensorIsLeftUnreduced) {
  expect_all_reduced({"2^24 + 4099 elements", {(uint64_t{1} << 24) + 4099}}, false);
}

TEST(Statistics, SayWhatBecameOfEachElement) {
  auto layout = Layout::make(DType::kF32, 1110,
                             {{0, 1000, test::spec_of("maxmin:bits=4,bucket=64"), 0},
                              {1000, 100, test::spec_of("none"), 1},
                              {1100, 1, test::spec_of("maxmin:bits=4,bucket=64"), 2},
                              {1101, 9, test::spec_of("none"), 3}});
  ASSERT_TRUE(layout.ok()) << layout.status().message();
  run_world({}, [&](Communicator& comm) {
    std::vector<float> x = test::noise(comm.rank(), 1110);
    ASSERT_TRUE(comm.allreduce(in_place(x, *layout)).ok());
    const CommunicatorStats stats = comm.stats();
    EXPECT_EQ(stats.collectives, 1u);
    EXPECT_EQ(stats.accounting.elements, 1110u);
    EXPECT_EQ(stats.accounting.compressed, 1000u);
    EXPECT_EQ(stats.accounting.raw, 109u);
    EXPECT_EQ(stats.accounting.too_small, 1u);
    EXPECT_EQ(stats.accounting.not_float, 0u);
    EXPECT_LT(stats.run.wire_bytes, stats.run.raw_bytes);
  });
}

TEST(Statistics, CountNonFiniteElementsWhichStayNonFinite) {
  run_world({}, [&](Communicator& comm) {
    std::vector<float> x(1024, 1.0f);
    if (comm.rank() == 0) x[700] = std::nanf("");
    ASSERT_TRUE(comm.allreduce(in_place(x, test::whole(1024, "maxmin:bits=4,bucket=64"))).ok());
    EXPECT_TRUE(std::isnan(x[700]));
    EXPECT_EQ(x[0], 2.0f);
    // Rank 0 contributes to the second half, which rank 1 owns.
    if (comm.rank() == 0) {
      EXPECT_EQ(comm.stats().run.counts.non_finite, 1u);
    }
  });
}

}  // namespace
}  // namespace cgx
