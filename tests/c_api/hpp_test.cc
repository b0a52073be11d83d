// cgx.hpp, linked with libcgx.so only, as a user has it: two ranks as threads that meet in a custom store,
// and two processes that find everything in the environment.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cgx/cgx.hpp>

#include <atomic>
#include <cmath>
#include <condition_variable>
#include <cstdlib>
#include <map>
#include <mutex>
#include <thread>

#include "ports.h"

namespace {

struct Shared {
  std::mutex mutex;
  std::condition_variable changed;
  std::map<std::string, std::string> values;
};

class SharedStore final : public cgx::Store::Custom {
 public:
  explicit SharedStore(Shared* shared) : shared_(shared) {}
  void set(const std::string& key, const std::string& value) override {
    const std::lock_guard<std::mutex> lock(shared_->mutex);
    shared_->values[key] = value;
    shared_->changed.notify_all();
  }
  bool get(const std::string& key, int64_t timeout_ms, std::string* value) override {
    std::unique_lock<std::mutex> lock(shared_->mutex);
    if (!shared_->changed.wait_for(lock, std::chrono::milliseconds(timeout_ms),
                                   [&] { return shared_->values.count(key) != 0; })) {
      return false;
    }
    *value = shared_->values[key];
    return true;
  }

 private:
  Shared* shared_;
};

class BrokenStore final : public cgx::Store::Custom {
 public:
  void set(const std::string&, const std::string&) override { throw std::runtime_error("no"); }
  bool get(const std::string&, int64_t, std::string*) override { throw std::runtime_error("no"); }
};

void run_two(const std::function<void(cgx::Communicator&)>& body) {
  Shared shared;
  std::vector<std::thread> threads;
  for (int rank = 0; rank < 2; ++rank) {
    threads.emplace_back([&, rank] {
      const cgx::Store store = cgx::Store::custom(std::make_unique<SharedStore>(&shared));
      cgx::Communicator::Options options;
      options.rank = rank;
      options.size = 2;
      options.store = &store;
      options.transport = "local";
      options.timeout = std::chrono::seconds(60);
      cgx::Communicator comm(options);
      body(comm);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(Hpp, CodecsEncodeAndDecode) {
  const cgx::Codec codec("maxmin:bits=8,bucket=256");
  EXPECT_TRUE(codec.unbiased());
  std::vector<float> x(1000);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i);
  const std::vector<uint8_t> block = codec.encode(x.data(), x.size());
  EXPECT_EQ(block.size(), codec.encoded_bytes(x.size()));
  const std::vector<float> y = codec.decode(block, x.size());
  std::vector<float> sum = y, residual(x.size());
  codec.decode_add(block, sum);
  EXPECT_EQ(sum[100], 2 * y[100]);
  EXPECT_EQ(codec.encode_feedback(x.data(), residual), block);
  EXPECT_EQ(residual[100], x[100] - y[100]);
  for (size_t i = 0; i < x.size(); ++i) EXPECT_LE(std::abs(x[i] - y[i]), 1.0f);  // a step: 255 / 255
  EXPECT_EQ(cgx::Codec(codec.spec()).spec(), codec.spec());
}

TEST(Hpp, AWrongSpecIsAnExceptionWithItsStatus) {
  try {
    const cgx::Codec codec("maxmin:bits=99");
    FAIL() << "accepted";
  } catch (const cgx::Error& error) {
    EXPECT_EQ(error.status(), CGX_INVALID_ARGUMENT);
    EXPECT_NE(std::string(error.what()).find("99"), std::string::npos) << error.what();
  }
}

TEST(Hpp, AllreduceAveragesInPlaceAndCounts) {
  run_two([](cgx::Communicator& comm) {
    const cgx::Codec codec("maxmin:bits=4");
    std::vector<float> x(1000, static_cast<float>(comm.rank()));
    comm.allreduce(x.data(), x.size(), codec);
    EXPECT_EQ(x, std::vector<float>(1000, 0.5f));  // constant buckets are exact
    EXPECT_EQ(comm.stats().elements_compressed, 1000u);
    EXPECT_EQ(comm.transport(), "local");
  });
}

TEST(Hpp, ALoadedStateBringsResidualsAndRandomBitsBack) {
  run_two([](cgx::Communicator& comm) {
    const cgx::Codec codec("maxmin:bits=2+ef");
    const auto step = [&] {
      std::vector<float> x(1000);
      for (size_t i = 0; i < x.size(); ++i)
        x[i] = static_cast<float>(i % 17) + static_cast<float>(comm.rank());
      comm.allreduce(x.data(), x.size(), codec, 3);
      return x;
    };
    step();
    const std::vector<uint8_t> state = comm.save_state();
    const std::vector<float> next = step();
    EXPECT_NE(step(), next);
    comm.load_state(state);
    EXPECT_EQ(comm.save_state(), state);
    EXPECT_EQ(step(), next);
    try {
      comm.load_state(std::vector<uint8_t>(state.begin(), state.end() - 1));
      ADD_FAILURE() << "a cut state was loaded";
    } catch (const cgx::Error& error) {
      EXPECT_EQ(error.status(), CGX_CORRUPT);
    }
  });
}

TEST(Hpp, WorkIsAsynchronousWithACallback) {
  run_two([](cgx::Communicator& comm) {
    std::vector<int64_t> x(1000, comm.rank() + 1);
    cgx::Communicator::Args args;
    args.output = x.data();
    args.count = x.size();
    args.dtype = cgx::dtype_of<int64_t>();
    std::atomic<int> called{0};
    cgx::Work work = comm.allreduce_async(args, [&](cgx_status status, const std::string& message) {
      EXPECT_EQ(status, CGX_OK) << message;
      ++called;
    });
    work.wait();
    EXPECT_TRUE(work.wait_for(std::chrono::milliseconds(0)));
    EXPECT_EQ(x, std::vector<int64_t>(1000, 3));
    comm.allreduce(args);  // after the callback, in the queue's order
    EXPECT_EQ(called, 1);
  });
}

TEST(Hpp, ARefusedCallIsAnExceptionAndItsCallbackIsNotCalled) {
  run_two([](cgx::Communicator& comm) {
    cgx::Communicator::Args args;
    args.count = 10;  // no output
    bool called = false;
    EXPECT_THROW(comm.allreduce_async(args, [&](cgx_status, const std::string&) { called = true; }),
                 cgx::Error);
    EXPECT_FALSE(called);
  });
}

TEST(Hpp, AStoreThatThrowsIsAnErrorAndNoCrash) {
  const cgx::Store store = cgx::Store::custom(std::make_unique<BrokenStore>());
  cgx::Communicator::Options options;
  options.rank = 0;
  options.size = 2;
  options.store = &store;
  EXPECT_THROW(cgx::Communicator comm(options), cgx::Error);
}

// The launchers' own variables, with the store's address in ours or the launcher's.
int rank_from_environment() {
  try {
    cgx::Communicator::Options options;
    options.timeout = std::chrono::seconds(60);
    cgx::Communicator comm(options);
    std::vector<float> x(100, 1.0f);
    cgx::Communicator::Args args;
    args.output = x.data();
    args.count = x.size();
    comm.allreduce(args);
    return x == std::vector<float>(100, 2.0f) && comm.transport() == "shm" ? 0 : 2;
  } catch (const cgx::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}

void expect_pair_meets(const std::vector<std::pair<std::string, std::string>>& variables,
                       const char* rank_name, const char* size_name) {
  pid_t children[2];
  for (int rank = 0; rank < 2; ++rank) {
    children[rank] = ::fork();
    if (children[rank] == 0) {
      for (const char* stale :
           {"CGX_RANK", "CGX_SIZE", "RANK", "WORLD_SIZE", "CGX_STORE", "MASTER_ADDR", "MASTER_PORT"}) {
        ::unsetenv(stale);
      }
      for (const auto& [name, value] : variables) ::setenv(name.c_str(), value.c_str(), 1);
      ::setenv(rank_name, std::to_string(rank).c_str(), 1);
      ::setenv(size_name, "2", 1);
      ::_exit(rank_from_environment());
    }
  }
  for (const pid_t child : children) {
    int status = -1;
    ::waitpid(child, &status, 0);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << rank_name << ": " << status;
  }
}

std::string job() { return "env-" + std::to_string(::getpid()); }

TEST(Environment, OurOwnVariablesAndADirectory) {
  char directory[] = "/tmp/cgx-env-XXXXXX";
  ASSERT_NE(::mkdtemp(directory), nullptr);
  expect_pair_meets({{"CGX_STORE", std::string("file:") + directory}}, "CGX_RANK", "CGX_SIZE");
  expect_pair_meets({{"CGX_STORE", std::string("file:") + directory}, {"CGX_JOB", "again"}}, "PMI_RANK",
                    "PMI_SIZE");
  ASSERT_EQ(std::system((std::string("rm -r ") + directory).c_str()), 0);
}

TEST(Environment, TorchrunsAndMpisVariablesAndRankZerosAddress) {
  const auto port = [] { return std::to_string(cgx::test::free_port()); };
  expect_pair_meets({{"MASTER_ADDR", "127.0.0.1"}, {"MASTER_PORT", port()}, {"CGX_JOB", job()}}, "RANK",
                    "WORLD_SIZE");
  expect_pair_meets({{"CGX_STORE", "tcp:127.0.0.1:" + port()}, {"CGX_JOB", job()}}, "OMPI_COMM_WORLD_RANK",
                    "OMPI_COMM_WORLD_SIZE");
  expect_pair_meets({{"MASTER_ADDR", "127.0.0.1"}, {"CGX_PORT", port()}, {"CGX_JOB", job()}}, "SLURM_PROCID",
                    "SLURM_NTASKS");
}

}  // namespace
