// Error feedback through whole collectives: committed on success, untouched by failure, carried along when
// the plan changes; and what it is for: the average over steps becomes exact.
#include <cmath>

#include "comm/world.h"

namespace cgx {
namespace {

using test::in_place;
using test::noise;
using test::run_world;
using test::whole;

constexpr const char* kBiased = "topk:ratio=0.05+ef";

class EveryAlgorithm : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Algorithms, EveryAlgorithm, testing::Values("scatter_gather", "ring", "allgather"),
                         [](const auto& entry) { return std::string(entry.param); });

double norm(const std::vector<double>& x) {
  double sum = 0;
  for (const double e : x) sum += e * e;
  return std::sqrt(sum);
}

// With residuals e at every rounding, a rounding gives C(x + e) = x + e - e'. Summed over T steps the
// residuals telescope: the sum of all outputs is the sum of all inputs minus the residuals that are left.
// So ||sum of outputs - exact|| <= sum over ranks of ||residuals||, for the contributions' and the sums'
// residuals of all ranks together (triangle inequality; fp32 arithmetic adds 1e-5 of the inputs' norm).
TEST_P(EveryAlgorithm, WhatATensorIsOwedAfterManyStepsIsTheResidualAndNoMore) {
  constexpr int kSize = 3;
  constexpr uint64_t kCount = 3000;
  constexpr uint32_t kSteps = 200;
  std::vector<double> owed(kCount, 0.0);  // exact minus got, over all steps
  std::vector<double> exact(kCount, 0.0);
  std::vector<double> residuals(kSize, 0.0);
  double first_step = 0;
  run_world({"local", kSize, GetParam()}, [&](Communicator& comm) {
    for (uint32_t step = 0; step < kSteps; ++step) {
      std::vector<float> y = noise(comm.rank(), kCount);
      const Status status = comm.allreduce(in_place(y, whole(kCount, kBiased)));
      ASSERT_TRUE(status.ok()) << status.message();
      if (comm.rank() != 0) continue;
      for (int r = 0; r < kSize; ++r) {
        const std::vector<float> x = noise(r, kCount);
        for (uint64_t i = 0; i < kCount; ++i) {
          owed[i] += static_cast<double>(x[i]);
          exact[i] += static_cast<double>(x[i]);
        }
      }
      for (uint64_t i = 0; i < kCount; ++i) owed[i] -= static_cast<double>(y[i]);
      if (step == 0) first_step = norm(owed);
    }
    auto left = comm.residual_norm(7);
    ASSERT_TRUE(left.ok());
    residuals[static_cast<size_t>(comm.rank())] = *left;
  });
  // A rank's norm holds both residuals: ||a|| + ||b|| <= sqrt(2) ||(a, b)||.
  double bound = 1e-5 * norm(exact);
  for (const double r : residuals) bound += std::sqrt(2.0) * r;
  EXPECT_LE(norm(owed), bound);
  EXPECT_GT(norm(owed), 0);
  // The input is the same in every step and top-k is deterministic, so that without feedback kSteps times
  // the first step's debt would have been left.
  EXPECT_LT(norm(owed), kSteps * first_step / 4);
}

TEST_P(EveryAlgorithm, AFailureLeavesTheResidualsOfTheLastSuccess) {
  constexpr uint64_t kCount = 4000;
  std::barrier together(2);
  run_world({"local", 2, GetParam()}, [&](Communicator& comm) {
    for (uint32_t step = 0; step < 2; ++step) {
      std::vector<float> x = noise(comm.rank(), kCount, step);
      ASSERT_TRUE(comm.allreduce(in_place(x, whole(kCount, kBiased))).ok());
    }
    const double before = *comm.residual_norm(7);
    EXPECT_GT(before, 0);
    together.arrive_and_wait();
    if (comm.rank() == 1) {
      comm.abort("in the middle");  // rank 0 has encoded and sent by then, or will
    } else {
      std::vector<float> x = noise(comm.rank(), kCount, 2);
      EXPECT_FALSE(comm.allreduce(in_place(x, whole(kCount, kBiased))).ok());
    }
    EXPECT_EQ(*comm.residual_norm(7), before);
  });
}

// The tensor moves within its bucket, so that other ranks own other elements: nothing owed may be lost.
TEST_P(EveryAlgorithm, NothingOwedIsLostWhenTheLayoutChanges) {
  constexpr int kSize = 3;
  constexpr uint64_t kCount = 2000;
  constexpr uint32_t kSteps = 12;
  std::vector<double> owed(kCount, 0.0);
  std::vector<double> exact(kCount, 0.0);
  std::vector<double> residuals(kSize, 0.0);
  run_world({"local", kSize, GetParam()}, [&](Communicator& comm) {
    for (uint32_t step = 0; step < kSteps; ++step) {
      const bool moved = step % 4 >= 2;
      const bool average = step % 3 == 2;
      const uint64_t at = moved ? 1500 : 0;
      std::vector<float> bucket(kCount + 1500, 1.0f);
      const std::vector<float> x = noise(comm.rank(), kCount, step);
      std::copy(x.begin(), x.end(), bucket.begin() + static_cast<std::ptrdiff_t>(at));
      const Segment tensor{at, kCount, test::spec_of(kBiased), 7};
      const Segment rest{moved ? 0 : kCount, 1500, CodecSpec(), 8};
      auto layout = Layout::make(DType::kF32, bucket.size(),
                                 moved ? std::vector{rest, tensor} : std::vector{tensor, rest});
      ASSERT_TRUE(layout.ok());
      const Status status = comm.allreduce(in_place(bucket, *layout, average));
      ASSERT_TRUE(status.ok()) << status.message();
      if (comm.rank() != 0) continue;
      const double scale = average ? kSize : 1;
      for (int r = 0; r < kSize; ++r) {
        const std::vector<float> one = noise(r, kCount, step);
        for (uint64_t i = 0; i < kCount; ++i) {
          owed[i] += static_cast<double>(one[i]);
          exact[i] += static_cast<double>(one[i]);
        }
      }
      for (uint64_t i = 0; i < kCount; ++i) owed[i] -= scale * static_cast<double>(bucket[at + i]);
    }
    residuals[static_cast<size_t>(comm.rank())] = *comm.residual_norm(7);
  });
  // As above; the last step averages, so that a residual of a sum counts kSize times.
  double bound = 1e-5 * norm(exact);
  for (const double r : residuals) bound += kSize * std::sqrt(2.0) * r;
  EXPECT_LE(norm(owed), bound);
}

TEST(ErrorFeedback, EqualRunsGiveEqualBits) {
  std::vector<float> results[2];
  for (std::vector<float>& result : results) {
    run_world({"local", 3}, [&](Communicator& comm) {
      std::vector<float> x;
      for (uint32_t step = 0; step < 5; ++step) {
        x = noise(comm.rank(), 5000, step);
        ASSERT_TRUE(
            comm.allreduce(in_place(x, whole(5000, "maxmin:bits=2,bucket=64,rounding=nearest+ef"))).ok());
      }
      if (comm.rank() == 2) result = x;
    });
  }
  EXPECT_EQ(results[0], results[1]);
}

TEST(ErrorFeedback, ResetForgetsAndUnknownTensorsOweNothing) {
  run_world({}, [&](Communicator& comm) {
    std::vector<float> x = noise(comm.rank(), 3000);
    ASSERT_TRUE(comm.allreduce(in_place(x, whole(3000, kBiased))).ok());
    EXPECT_GT(*comm.residual_norm(7), 0);
    EXPECT_EQ(*comm.residual_norm(8), 0);
    ASSERT_TRUE(comm.reset_residuals().ok());
    EXPECT_EQ(*comm.residual_norm(7), 0);
  });
}

TEST(ErrorFeedback, ATensorOfAnotherSizeUnderTheSameIdIsRefused) {
  run_world({}, [&](Communicator& comm) {
    std::vector<float> x = noise(comm.rank(), 3000);
    ASSERT_TRUE(comm.allreduce(in_place(x, whole(3000, kBiased))).ok());
    const Status status = comm.allreduce(in_place(x, whole(2999, kBiased)));
    EXPECT_EQ(status.code(), Code::kInvalidArgument);
    EXPECT_NE(status.message().find("tensor id 7"), std::string::npos) << status.message();
    EXPECT_NE(status.message().find("3000"), std::string::npos) << status.message();
    EXPECT_TRUE(comm.allreduce(in_place(x, whole(3000, kBiased))).ok())
        << "nothing was sent before the refusal";
  });
}

TEST(ErrorFeedback, IsRefusedWhereItIsMeaningless) {
  run_world({}, [&](Communicator& comm) {
    std::vector<float> x = noise(comm.rank(), 3000);
    int refused = 0;
    for (const char* text : {"none+ef", "randk:ratio=0.1+ef"}) {
      auto spec = parse_spec(text);
      if (!spec.ok()) {  // refused even earlier
        EXPECT_EQ(spec.status().code(), Code::kInvalidArgument);
        ++refused;
        continue;
      }
      const Status status = comm.allreduce(in_place(x, whole(3000, text)));
      EXPECT_EQ(status.code(), Code::kInvalidArgument) << text << ": " << status.message();
      ++refused;
    }
    EXPECT_EQ(refused, 2);
    EXPECT_TRUE(comm.allreduce(in_place(x, whole(3000, "none"))).ok());
  });
}

}  // namespace
}  // namespace cgx
