// Runs ranks as threads, each with a communicator of its own, and compares what they end with.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <barrier>
#include <cstring>
#include <functional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "codec/codec_row.h"
#include "comm/communicator.h"
#include "plan/algorithm_list.h"
#include "plan/layouts.h"
#include "transport/store.h"
#include "transport/transport_list.h"

namespace cgx::test {

// Long enough for a busy machine; tests of timeouts set their own.
constexpr int64_t kPatienceMs = 60000;

struct World {
  std::string transport = "local";
  int size = 2;
  std::string algorithm = "auto";
  std::function<void(CommunicatorConfig&)> adjust = {};
};

inline CommunicatorConfig config_of(const World& world, Store* store, const std::string& job, int rank) {
  CommunicatorConfig config;
  config.rank = rank;
  config.size = world.size;
  config.store = store;
  config.job = job;
  config.transport = world.transport;
  config.algorithm = world.algorithm;
  config.interface_name = "lo";
  config.timeout_ms = kPatienceMs;
  config.seed = 42;
  if (world.adjust) world.adjust(config);
  return config;
}

inline std::string new_job() {
  static std::atomic<int> count = 0;
  return fmt::format("test-{}-{}", ::getpid(), count++);
}

// What creating gave, on each rank.
using CreateBody = std::function<void(int rank, Result<std::unique_ptr<Communicator>>&)>;
inline void create_world(const World& world, const CreateBody& body) {
  const std::unique_ptr<Store> store = make_memory_store();
  const std::string job = new_job();
  std::vector<std::thread> threads;
  for (int rank = 0; rank < world.size; ++rank) {
    threads.emplace_back([&, rank] {
      auto made = Communicator::create(config_of(world, store.get(), job, rank));
      body(rank, made);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

inline void run_world(const World& world, const std::function<void(Communicator&)>& body) {
  create_world(world, [&](int rank, Result<std::unique_ptr<Communicator>>& made) {
    ASSERT_TRUE(made.ok()) << "rank " << rank << ": " << made.status().message();
    body(**made);
  });
}

// A layout of one segment.
inline Layout whole(uint64_t count, const std::string& spec, DType dtype = DType::kF32, uint32_t tensor = 7) {
  auto layout = Layout::uniform(dtype, count, spec_of(spec), tensor);
  EXPECT_TRUE(layout.ok()) << layout.status().message();
  return *layout;
}

// Elements like a gradient's; their sums are not exact, so that an order of summing shows.
inline std::vector<float> noise(int rank, uint64_t count, uint32_t step = 0) {
  std::mt19937 random(1000 * (step + 1) + static_cast<uint32_t>(rank));
  std::normal_distribution<float> normal(0, 0.01f);
  std::vector<float> x(count);
  for (float& e : x) e = normal(random);
  return x;
}

template <typename T>
AllreduceCall in_place(std::vector<T>& x, Layout layout, bool average = false) {
  AllreduceCall call;
  call.input = x.data();
  call.output = x.data();
  call.layout = std::move(layout);
  call.average = average;
  return call;
}

// A spec of each codec in the registry at its defaults, so that a new row is tested the moment it is listed.
// Parameters without a default take the values below; a codec that needs another one says so by failing.
inline std::vector<std::string> specs_of_registry() {
  std::vector<std::string> specs;
  for (const CodecRow& row : codec_rows()) {
    std::string spec = row.name;
    for (const ParamRow& param : row.params) {
      if (*param.info.initial != '\0') continue;
      const bool is_ratio = std::string(param.info.name) == "ratio";
      spec += fmt::format("{}{}={}", spec == row.name ? ":" : ",", param.info.name, is_ratio ? "0.1" : "4");
    }
    if (parse_spec(spec).ok()) {
      specs.push_back(spec);
    } else if (parse_spec(std::string(row.name) + ":fp16").ok()) {
      specs.push_back(std::string(row.name) + ":fp16");
    } else {
      ADD_FAILURE() << "no spec known for the codec " << row.name << ": "
                    << parse_spec(spec).status().message();
    }
  }
  return specs;
}

// A place where the ranks of a world lay their results side by side.
class Replicas {
 public:
  explicit Replicas(int size) : results_(static_cast<size_t>(size)), barrier_(size) {}

  // Every rank calls this with its result; all are compared bit for bit.
  template <typename T>
  void expect_equal(int rank, const std::vector<T>& result, const std::string& what) {
    std::vector<uint8_t>& mine = results_[static_cast<size_t>(rank)];
    mine.resize(result.size() * sizeof(T));
    if (!mine.empty()) std::memcpy(mine.data(), result.data(), mine.size());
    barrier_.arrive_and_wait();
    EXPECT_TRUE(mine == results_[0]) << "ranks 0 and " << rank << " differ: " << what;
    barrier_.arrive_and_wait();
  }
  void meet() { barrier_.arrive_and_wait(); }

 private:
  std::vector<std::vector<uint8_t>> results_;
  std::barrier<> barrier_;
};

}  // namespace cgx::test
