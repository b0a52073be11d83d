// Runs the plans of all ranks over the local transport, on gradient-like elements that differ by rank.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "plan/layouts.h"
#include "plan/parallel.h"
#include "plan/run.h"
#include "transport/ranks.h"

namespace cgx::test {

// Sums of a few such numbers are not exact: the order shows in the last bits.
inline std::vector<float> gradient(int rank, uint64_t count) {
  std::mt19937 random(static_cast<uint32_t>(1000 + rank));
  std::normal_distribution<float> normal(0, 0.01f);
  std::vector<float> x(count);
  for (float& e : x) e = normal(random);
  return x;
}

struct Outcome {
  std::vector<std::vector<uint8_t>> y;  // by rank, bytes
  std::vector<std::string> errors;      // by rank, "" where it went well
  std::vector<RunStats> stats;
};

struct RunOptions {
  ReduceOp op = ReduceOp::kSum;
  float scale = 1;
  bool in_place = false;
  size_t threads = 1;
  const char* transport = "local";
  bool ordinary_writes = false;                              // into shared memory; else past the caches
  std::vector<std::vector<uint8_t>> x = {};                  // by rank; empty: gradients
  std::vector<std::vector<SegmentResidual>> residuals = {};  // by rank; may be empty
  std::function<std::unique_ptr<Transport>(Transport&)> wrap = {};  // a transport before the real one
};

constexpr uint64_t kSeed = 42;
inline RandomKey key_of(int rank) { return {kSeed, 3, 0, static_cast<uint16_t>(rank), 0}; }

template <typename T>
std::vector<uint8_t> bytes_of(const std::vector<T>& elements) {
  std::vector<uint8_t> bytes(elements.size() * sizeof(T));
  if (!bytes.empty()) std::memcpy(bytes.data(), elements.data(), bytes.size());
  return bytes;
}
template <typename T>
std::vector<T> elements_of(const std::vector<uint8_t>& bytes) {
  std::vector<T> elements(bytes.size() / sizeof(T));
  if (!bytes.empty()) std::memcpy(elements.data(), bytes.data(), bytes.size());
  return elements;
}

inline Outcome run_plans(const Layout& layout, const std::vector<Plan>& plans,
                         const RunOptions& options = {}) {
  const int size = static_cast<int>(plans.size());
  Outcome out;
  out.y.resize(plans.size());
  out.errors.resize(plans.size());
  out.stats.resize(plans.size());
  run_ranks(options.transport, size, [&](Transport& local) {
    const size_t r = static_cast<size_t>(local.rank());
    const std::unique_ptr<Transport> wrapped = options.wrap ? options.wrap(local) : nullptr;
    std::vector<uint8_t> x =
        options.x.empty() ? bytes_of(gradient(local.rank(), layout.count())) : options.x[r];
    std::vector<uint8_t> y(x.size(), 0xa5);
    Workspace workspace;
    Parallel parallel(options.threads);
    RunArgs args;
    args.plan = &plans[r];
    args.layout = &layout;
    args.transport = wrapped ? wrapped.get() : &local;
    args.x = x.data();
    args.y = options.in_place ? x.data() : y.data();
    args.op = options.op;
    args.scale = options.scale;
    args.key = key_of(local.rank());
    if (!options.residuals.empty()) args.residuals = options.residuals[r];
    args.timeout_ms = 30000;
    args.workspace = &workspace;
    args.parallel = &parallel;
    args.stats = &out.stats[r];
    TwoWays writes(options.ordinary_writes ? 1e9 : 1e-9);
    for (int i = 0; i < 2; ++i) writes.learn(std::chrono::nanoseconds(1), 1);  // a use by each way
    EXPECT_EQ(writes.way(), options.ordinary_writes ? 1U : 0U);
    args.shared_writes = &writes;
    const Status status = run(args);
    if (!status.ok())
      out.errors[r] = fmt::format("{}: {}", static_cast<int>(status.code()), status.message());
    out.y[r] = options.in_place ? x : y;
  });
  return out;
}

// No rank failed, and all hold the same bits.
inline void expect_replicas(const Outcome& outcome, const std::string& what) {
  for (size_t r = 0; r < outcome.y.size(); ++r) {
    ASSERT_EQ(outcome.errors[r], "") << what << ", rank " << r;
    ASSERT_EQ(outcome.y[r], outcome.y[0]) << what << ", rank " << r << " differs from rank 0";
  }
}

}  // namespace cgx::test
