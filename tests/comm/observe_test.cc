// What is seen from outside: the table of tensors agrees with an encoding done by hand, byte for byte, and
// with the totals; nothing is measured unless asked.
#include <nlohmann/json.hpp>

#include "codec/codec.h"
#include "comm/plan_cache.h"
#include "comm/reports.h"
#include "comm/world.h"
#include "plan/builder.h"

namespace cgx::test {
namespace {

using Json = nlohmann::json;

Json table_of(Communicator& comm) {
  const Result<std::string> text = comm.table();
  EXPECT_TRUE(text.ok()) << text.status().message();
  return Json::parse(*text);
}

std::vector<float> noise(uint64_t count, uint32_t seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(count);
  for (float& one : x) one = normal(generator);
  return x;
}

void reduce(Communicator& comm, const Layout& layout, std::vector<float>* x) {
  AllreduceCall call;
  call.input = call.output = x->data();
  call.layout = layout;
  const Status status = comm.allreduce(call);
  ASSERT_TRUE(status.ok()) << status.message();
}

Layout two_tensors() {
  // An odd count: between the blocks there is padding.
  auto layout = Layout::make(DType::kF32, 30000,
                             {{0, 19999, spec_of("maxmin:bits=3"), 5}, {19999, 10001, spec_of("none"), 6}});
  EXPECT_TRUE(layout.ok());
  return *layout;
}

TEST(Table, BytesOfAllTensorsAddUpToTheTotals) {
  run_world({}, [](Communicator& comm) {
    for (int step = 0; step < 3; ++step) {
      std::vector<float> x = noise(30000, 1);
      reduce(comm, two_tensors(), &x);
    }
    const Json table = table_of(comm);
    ASSERT_EQ(table.size(), 2u);
    const CommunicatorStats stats = comm.stats();
    EXPECT_EQ(table[0]["wire_bytes"].get<uint64_t>() + table[1]["wire_bytes"].get<uint64_t>(),
              stats.run.wire_bytes);
    EXPECT_EQ(table[0]["raw_bytes"].get<uint64_t>() + table[1]["raw_bytes"].get<uint64_t>(),
              stats.run.raw_bytes);
    EXPECT_EQ(table[0]["calls"], 3);
    EXPECT_EQ(table[0]["elements"], 19999);
    EXPECT_GT(table[0]["ratio"].get<double>(), 7);
    EXPECT_EQ(table[1]["ratio"], 1.0);
  });
}

TEST(Table, NothingIsMeasuredUnlessAsked) {
  run_world({}, [](Communicator& comm) {
    std::vector<float> x = noise(30000, 1);
    reduce(comm, two_tensors(), &x);
    const Json table = table_of(comm);
    EXPECT_EQ(table[0]["observed"], 0);
    EXPECT_TRUE(table[0]["nmse"].is_null());
    EXPECT_TRUE(table[0]["cosine"].is_null());
    EXPECT_EQ(table[1]["nmse"], 0.0);  // raw: known without measuring
    EXPECT_EQ(table[1]["cosine"], 1.0);
  });
}

// Blocks concatenate, so what this rank sends of the other's chunk is a part of the tensor's whole encoding.
TEST(Table, ErrorsAreThoseOfTheEncodingThatWasSent) {
  World world;
  world.algorithm = "scatter_gather";
  run_world(world, [](Communicator& comm) {
    const Layout layout = whole(100000, "maxmin:bits=3");
    const CodecSpec& spec = layout.segments()[0].spec;
    std::vector<float> x = noise(100000, 7 + static_cast<uint32_t>(comm.rank()));
    std::vector<uint8_t> block(encoded_bytes(spec, DType::kF32, x.size()));
    BlockContext context;
    context.key = {42, 0, 7, static_cast<uint16_t>(comm.rank()), 0};
    ASSERT_TRUE(encode(spec, DType::kF32, x.data(), x.size(), context, {}, block.data()).ok());
    std::vector<float> sent(x.size());
    ASSERT_TRUE(
        decode_part(spec, DType::kF32, block.data(), x.size(), 0, x.size(), Into::kAssign, sent.data()).ok());
    const Range others = cut_chunks(layout, 2)[static_cast<size_t>(1 - comm.rank())];
    double error = 0, squares = 0, sent_squares = 0, product = 0;
    for (uint64_t i = others.begin; i < others.end; ++i) {
      const double a = static_cast<double>(x[i]), b = static_cast<double>(sent[i]);
      error += (b - a) * (b - a);
      squares += a * a;
      sent_squares += b * b;
      product += a * b;
    }
    comm.observe(1);
    reduce(comm, layout, &x);
    const Json row = table_of(comm)[0];
    EXPECT_EQ(row["compared"], others.end - others.begin);
    // Sums of 5e4 doubles in another order: each addition errs by 2^-53.
    EXPECT_NEAR(row["nmse"].get<double>(), error / squares, 1e-10);
    EXPECT_NEAR(row["cosine"].get<double>(), product / std::sqrt(squares * sent_squares), 1e-10);
    EXPECT_GT(row["encode_seconds"].get<double>(), 0);
  });
}

TEST(Table, EveryCodecIsMeasuredWithoutChangingAByte) {
  for (const char* spec : {"maxmin:bits=4", "dither:bits=4", "natural", "cast:bf16",
                           "topk:ratio=0.01|natural", "randk:ratio=0.1", "maxmin:bits=4+ef"}) {
    for (const DType dtype : {DType::kF32, DType::kF16}) {
      std::vector<std::vector<uint8_t>> results[2];
      for (const bool observed : {false, true}) {
        results[observed].resize(2);
        run_world({}, [&](Communicator& comm) {
          if (observed) comm.observe(1);
          std::vector<uint8_t>& bytes = results[observed][static_cast<size_t>(comm.rank())];
          bytes.resize(9000 * dtype_bytes(dtype));
          for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>((i * 7 + i / 3) & 0x3b);
          AllreduceCall call;
          call.input = call.output = bytes.data();
          call.layout = whole(9000, spec, dtype);
          ASSERT_TRUE(comm.allreduce(call).ok());
          if (observed) {
            EXPECT_FALSE(table_of(comm)[0]["nmse"].is_null()) << spec;
          }
        });
      }
      EXPECT_EQ(results[0], results[1]) << spec;
    }
  }
}

TEST(Table, WhatIsOddIsCountedWhereItIs) {
  run_world({}, [](Communicator& comm) {
    comm.observe(1000);
    std::vector<float> x = noise(30000, 1);
    x[3] = x[19999] = std::numeric_limits<float>::infinity();
    auto layout = Layout::make(DType::kF32, 30000,
                               {{0, 15000, spec_of("natural"), 1}, {15000, 15000, spec_of("cast:fp16"), 2}});
    ASSERT_TRUE(layout.ok());
    x[20001] = 1e6f;  // above fp16's range
    reduce(comm, *layout, &x);
    const Json table = table_of(comm);
    const CommunicatorStats stats = comm.stats();
    EXPECT_EQ(table[0]["non_finite"].get<uint64_t>() + table[1]["non_finite"].get<uint64_t>(),
              stats.run.counts.non_finite);
    EXPECT_EQ(table[0]["saturated"], 0);
    EXPECT_EQ(table[1]["saturated"], stats.run.counts.saturated);
    EXPECT_GE(stats.run.counts.saturated, 1u);
  });
}

TEST(Table, EveryNthCollectiveOfALayoutIsMeasured) {
  run_world({}, [](Communicator& comm) {
    comm.observe(3);
    const Layout a = whole(9000, "maxmin:bits=4", DType::kF32, 1), b = whole(7000, "natural", DType::kF32, 2);
    for (int step = 0; step < 7; ++step) {  // the first, fourth and seventh of each
      std::vector<float> x = noise(9000, 1), y = noise(7000, 2);
      reduce(comm, a, &x);
      reduce(comm, b, &y);
    }
    const Json table = table_of(comm);
    EXPECT_EQ(table[0]["observed"], 7);
    const uint64_t once = table[0]["compared"].get<uint64_t>() / 3;
    EXPECT_EQ(table[0]["compared"], 3 * once);
    EXPECT_GT(once, 0u);
    EXPECT_GT(table[1]["compared"].get<uint64_t>(), 0u);
    comm.observe(0);
    std::vector<float> x = noise(9000, 1);
    reduce(comm, a, &x);
    EXPECT_EQ(table_of(comm)[0]["observed"], 7);
    EXPECT_EQ(table_of(comm)[0]["calls"], 8);
  });
}

TEST(Table, ResidualsAndPlansThatWereDroppedAreInIt) {
  run_world({}, [](Communicator& comm) {
    constexpr uint32_t kLayouts = 4 * PlanCache::kCapacity;  // more than the ledger keeps open, too
    std::vector<float> first = noise(5000, 1);
    reduce(comm, whole(5000, "maxmin:bits=2+ef", DType::kF32, 1), &first);
    for (uint32_t i = 0; i < kLayouts; ++i) {
      std::vector<float> x(100 + i, 1.0f);
      reduce(comm, whole(100 + i, "none", DType::kF32, 2), &x);
    }
    const Json table = table_of(comm);
    EXPECT_EQ(table[0]["calls"], 1);
    EXPECT_EQ(table[0]["residual_norm"], *comm.residual_norm(1));
    EXPECT_GT(table[0]["residual_norm"].get<double>(), 0);
    EXPECT_EQ(table[1]["calls"], kLayouts);
    uint64_t bytes = 0;
    for (const Json& row : table) bytes += row["wire_bytes"].get<uint64_t>();
    EXPECT_EQ(bytes, comm.stats().run.wire_bytes);
  });
}

TEST(Reports, SummaryAndMetricsSayTheSameAsTheTotals) {
  Snapshot s;
  s.rank = 1;
  s.size = 2;
  s.job = "a \"job\"\\";
  s.transport = "shm";
  s.stats.collectives = 3;
  s.stats.run.raw_bytes = 8000000;
  s.stats.run.wire_bytes = 1000000;
  s.codecs["maxmin"] = {8000000, 1000000};
  s.times.count(2e-5);
  s.times.count(1e-5);
  s.times.count(100);
  s.last_failure = "rank 0 died";
  std::string summary;
  for (const std::string& line : summary_lines(s)) summary += line + "\n";
  EXPECT_NE(summary.find("3 collectives"), std::string::npos) << summary;
  EXPECT_NE(summary.find("1.0 MB instead of 8.0 MB, 8.0 times smaller"), std::string::npos) << summary;
  EXPECT_NE(summary.find("rank 0 died"), std::string::npos) << summary;
  const std::string text = prometheus_text({s});
  for (const char* line : {"cgx_collectives_total{job=\"a \\\"job\\\"\\\\\",rank=\"1\"} 3\n",
                           "rank=\"1\",kind=\"wire\",codec=\"maxmin\"} 1000000\n", "le=\"1e-05\"} 1\n",
                           "le=\"3e-05\"} 2\n", "le=\"10\"} 2\n", "le=\"+Inf\"} 3\n"}) {
    EXPECT_NE(text.find(line), std::string::npos) << line << text;
  }
}

}  // namespace
}  // namespace cgx::test
