// Every element type with every reduction, as a user of libcgx.so meets them: exact by every algorithm, and
// what comes with a codec that cannot serve is reduced all the same, said once and counted.
#include <gtest/gtest.h>

#include <cgx/cgx.hpp>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>
#include <type_traits>

namespace {

constexpr int kSize = 3;

std::vector<std::string> algorithms() {
  std::vector<std::string> names = {"auto"};
  for (const auto& row : nlohmann::json::parse(cgx::algorithm_list())) names.push_back(row.at("name"));
  return names;
}

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    char name[] = "/tmp/cgx-ops-XXXXXX";
    path_ = ::mkdtemp(name);
  }
  ~TemporaryDirectory() { std::filesystem::remove_all(path_); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// Three ranks as threads.
template <typename Body>
void run_ranks(const std::string& algorithm, Body body) {
  const TemporaryDirectory directory;
  std::vector<std::thread> threads;
  for (int rank = 0; rank < kSize; ++rank) {
    threads.emplace_back([&, rank] {
      const cgx::Store store = cgx::Store::file(directory.path());
      cgx::Communicator::Options options;
      options.rank = rank;
      options.size = kSize;
      options.store = &store;
      options.transport = "local";
      options.algorithm = algorithm;
      options.timeout = std::chrono::seconds(60);
      cgx::Communicator comm(options);
      body(comm);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

template <typename T>
cgx::Communicator::Args in_place(std::vector<T>& x, cgx_op op, const cgx::Codec* codec = nullptr) {
  cgx::Communicator::Args args;
  args.output = x.data();
  args.count = x.size();
  args.dtype = cgx::dtype_of<T>();
  args.op = op;
  args.codec = codec;
  return args;
}

// Rank r's element i: small enough that sums and products of three are exact in every type.
template <typename T>
T element(int rank, size_t i) {
  const int value = static_cast<int>(i * 7 + static_cast<size_t>(rank) * 3) % 5 + (rank == 1 ? 1 : 0);
  return static_cast<T>(std::is_signed_v<T> && i % 2 == 1 ? -value : value);
}

template <typename T>
T reduced(cgx_op op, size_t i) {
  T all = element<T>(0, i);
  for (int r = 1; r < kSize; ++r) {
    const T next = element<T>(r, i);
    if (op == CGX_MIN) all = std::min(all, next);
    if (op == CGX_MAX) all = std::max(all, next);
    if (op == CGX_PROD) all = static_cast<T>(all * next);
    if (op == CGX_SUM) all = static_cast<T>(all + next);
  }
  return all;
}

template <typename T>
class OpsTest : public testing::Test {};
using Types = testing::Types<float, double, int8_t, uint8_t, int16_t, int32_t, int64_t>;
TYPED_TEST_SUITE(OpsTest, Types);

TYPED_TEST(OpsTest, EveryReductionIsExactByEveryAlgorithm) {
  for (const std::string& algorithm : algorithms()) {
    run_ranks(algorithm, [&](cgx::Communicator& comm) {
      for (const cgx_op op : {CGX_SUM, CGX_MIN, CGX_MAX, CGX_PROD}) {
        for (const size_t count : {size_t{1}, size_t{1003}}) {
          std::vector<TypeParam> x(count);
          for (size_t i = 0; i < count; ++i) x[i] = element<TypeParam>(comm.rank(), i);
          comm.allreduce(in_place(x, op));
          for (size_t i = 0; i < count; ++i) {
            ASSERT_EQ(x[i], reduced<TypeParam>(op, i)) << algorithm << ", op " << op << ", element " << i;
          }
        }
      }
    });
  }
}

TYPED_TEST(OpsTest, ACodecThatCannotServeIsLeftOutAndCounted) {
  constexpr size_t kCount = 1000;
  const bool is_float = std::is_same_v<TypeParam, float>;
  run_ranks("auto", [&](cgx::Communicator& comm) {
    const cgx::Codec codec("maxmin:bits=2+ef");
    for (const cgx_op op : {CGX_MAX, CGX_MIN, CGX_PROD}) {
      std::vector<TypeParam> x(kCount);
      for (size_t i = 0; i < kCount; ++i) x[i] = element<TypeParam>(comm.rank(), i);
      comm.allreduce(in_place(x, op, &codec));
      for (size_t i = 0; i < kCount; ++i) ASSERT_EQ(x[i], reduced<TypeParam>(op, i)) << i;
    }
    const cgx_stats stats = comm.stats();
    EXPECT_EQ(stats.elements, 3 * kCount);
    EXPECT_EQ(stats.elements_not_sum, is_float ? 3 * kCount : 0);
    EXPECT_EQ(stats.elements_not_float, is_float ? 0 : 3 * kCount);
    EXPECT_EQ(stats.elements_raw + stats.elements_compressed, 0u);
    EXPECT_EQ(stats.raw_bytes, stats.wire_bytes);
    EXPECT_EQ(comm.residual_norm(0), 0);
  });
}

// 1 + 2^-40 is no fp32; a third of the sum is off by less than an fp64 ulp, far less than fp32's 2^-25.
TEST(Doubles, AreSummedAndAveragedInFp64WithAndWithoutACodec) {
  run_ranks("auto", [](cgx::Communicator& comm) {
    const cgx::Codec codec("maxmin:bits=4");
    for (const cgx::Codec* asked : {static_cast<const cgx::Codec*>(nullptr), &codec}) {
      std::vector<double> x(1000, 1 + std::ldexp(1.0, -40));
      comm.allreduce(in_place(x, CGX_SUM, asked));
      EXPECT_EQ(x[999], 3 + 3 * std::ldexp(1.0, -40));
      std::vector<double> average(1000, comm.rank() == 0 ? 1.0 : 0.0);
      comm.allreduce(in_place(average, CGX_AVG, asked));
      EXPECT_NEAR(average[0], 1.0 / 3, std::ldexp(1.0, -53));
    }
  });
}

TEST(Averages, ScaleByTheFloatNearestToOneOverTheSize) {
  for (int size = 1; size <= 16; ++size) {
    EXPECT_EQ(static_cast<float>(1.0 / size), 1.0f / static_cast<float>(size)) << size;
  }
}

TEST(NotANumber, OnAnyRankMakesMinAndMaxNotANumberOnAll) {
  for (const std::string& algorithm : algorithms()) {
    run_ranks(algorithm, [](cgx::Communicator& comm) {
      for (const cgx_op op : {CGX_MIN, CGX_MAX}) {
        std::vector<float> x(1000, static_cast<float>(comm.rank()));
        const size_t mine = static_cast<size_t>(comm.rank()) * 300;
        x[mine] = std::numeric_limits<float>::quiet_NaN();
        x[mine + 1] = std::numeric_limits<float>::infinity();
        comm.allreduce(in_place(x, op));
        for (const size_t i : {0, 300, 600}) EXPECT_TRUE(std::isnan(x[i])) << i;
        for (const size_t i : {1, 301, 601}) EXPECT_EQ(std::isinf(x[i]), op == CGX_MAX) << i;
        EXPECT_EQ(x[999], op == CGX_MAX ? kSize - 1 : 0);
      }
    });
  }
}

struct Told {
  std::mutex mutex;
  std::vector<std::string> lines;
};

TEST(Log, SaysOnceWhyACodecWasLeftOut) {
  Told told;
  cgx_set_log(
      [](void* user, cgx_log_level, const char* message) {
        Told& to = *static_cast<Told*>(user);
        const std::lock_guard<std::mutex> lock(to.mutex);
        to.lines.emplace_back(message);
      },
      &told, CGX_LOG_WARN);
  run_ranks("auto", [](cgx::Communicator& comm) {
    const cgx::Codec codec("natural");
    for (int step = 0; step < 3; ++step) {
      std::vector<float> x(100, 1.0f);
      comm.allreduce(in_place(x, CGX_MAX, &codec));
      std::vector<int32_t> n(100, 1);
      comm.allreduce(in_place(n, CGX_SUM, &codec));
    }
  });
  cgx_set_log(nullptr, nullptr, CGX_LOG_WARN);
  size_t max = 0, integers = 0;
  for (const std::string& line : told.lines) {
    max += line.find("a max, but only sums") != std::string::npos;
    integers += line.find("int32 elements") != std::string::npos;
  }
  EXPECT_EQ(max, static_cast<size_t>(kSize)) << "each rank says it once";
  EXPECT_EQ(integers, static_cast<size_t>(kSize));
}

TEST(Mismatch, OfReductionsNamesBothSides) {
  run_ranks("auto", [](cgx::Communicator& comm) {
    std::vector<float> x(100, 1.0f);
    try {
      comm.allreduce(in_place(x, comm.rank() == 1 ? CGX_MIN : CGX_PROD));
      ADD_FAILURE() << "ranks disagreed and nobody noticed";
    } catch (const cgx::Error& e) {
      EXPECT_EQ(e.status(), CGX_MISMATCH) << e.what();
      EXPECT_NE(std::string(e.what()).find("(min, count=100"), std::string::npos) << e.what();
      EXPECT_NE(std::string(e.what()).find("(prod, count=100"), std::string::npos) << e.what();
    }
  });
}

}  // namespace
