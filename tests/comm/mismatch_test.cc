// Ranks that disagree: an error on all of them, with both sides in it.
#include "comm/world.h"

namespace cgx {
namespace {

using test::in_place;
using test::noise;
using test::run_world;
using test::whole;
using test::World;

// Every transport of the list that opens here.
std::vector<std::string> transports_here() {
  std::vector<std::string> names;
  for (const TransportEntry& entry : transports()) {
    bool opens = false;
    test::create_world({entry.name, 1}, [&](int, auto& made) { opens = made.ok(); });
    if (opens) names.emplace_back(entry.name);
  }
  return names;
}

// Rank 1 makes `odd`, the others `even`; all must fail, and each message must hold all `words`.
struct Disagreement {
  AllreduceCall (*even)(std::vector<float>& x);
  AllreduceCall (*odd)(std::vector<float>& x);
  std::vector<std::string> words;
};

void expect_mismatch(const Disagreement& d, int size) {
  for (const std::string& transport : transports_here()) {
    run_world({transport, size}, [&](Communicator& comm) {
      std::vector<float> x = noise(comm.rank(), 3000);
      const Status status = comm.allreduce(comm.rank() == 1 ? d.odd(x) : d.even(x));
      EXPECT_EQ(status.code(), Code::kMismatch)
          << transport << " rank " << comm.rank() << ": " << status.message();
      for (const std::string& word : d.words) {
        EXPECT_NE(status.message().find(word), std::string::npos)
            << transport << " rank " << comm.rank() << ": no \"" << word << "\" in: " << status.message();
      }
      const Status after = comm.allreduce(d.even(x));
      EXPECT_EQ(after.code(), Code::kFailed) << after.message();
      EXPECT_NE(after.message().find("rank 1"), std::string::npos) << after.message();
    });
  }
}

AllreduceCall usual(std::vector<float>& x) { return in_place(x, whole(1000, "maxmin:bits=4,bucket=64")); }

TEST(Mismatch, AnotherCountIsAnErrorOnAllRanks) {
  const auto odd = [](std::vector<float>& x) { return in_place(x, whole(1025, "maxmin:bits=4,bucket=64")); };
  expect_mismatch({usual, odd, {"rank 1", "#0", "count=1000", "count=1025"}}, 2);
  expect_mismatch({usual, odd, {"rank 1", "count=1000", "count=1025"}}, 4);
}

TEST(Mismatch, AnotherTypeIsAnErrorOnAllRanks) {
  const auto odd = [](std::vector<float>& x) {
    return in_place(x, whole(1000, "maxmin:bits=4,bucket=64", DType::kF16));
  };
  expect_mismatch({usual, odd, {"fp32", "fp16", "rank 1"}}, 3);
}

TEST(Mismatch, AnotherOperationIsAnErrorOnAllRanks) {
  const auto odd = [](std::vector<float>& x) {
    return in_place(x, whole(1000, "maxmin:bits=4,bucket=64"), true);
  };
  expect_mismatch({usual, odd, {"sum", "avg"}}, 3);
}

TEST(Mismatch, AnotherSpecIsAnErrorOnAllRanks) {
  const auto odd = [](std::vector<float>& x) { return in_place(x, whole(1000, "maxmin:bits=3,bucket=64")); };
  expect_mismatch({usual, odd, {"bits=4", "bits=3"}}, 3);
}

TEST(Mismatch, AnotherTensorIdIsAnErrorOnAllRanks) {
  const auto odd = [](std::vector<float>& x) {
    return in_place(x, whole(1000, "maxmin:bits=4,bucket=64", DType::kF32, 8));
  };
  expect_mismatch({usual, odd, {"tensor id", "rank 1"}}, 3);
}

TEST(Mismatch, AnEmptyTensorAgainstALongOneIsAnErrorOnAllRanks) {
  const auto odd = [](std::vector<float>& x) { return in_place(x, whole(0, "none")); };
  expect_mismatch({usual, odd, {"count=1000", "count=0"}}, 3);
}

TEST(Mismatch, AnotherOrderIsAnErrorOnAllRanks) {
  run_world({"local", 3}, [&](Communicator& comm) {
    std::vector<float> x = noise(comm.rank(), 3000);
    ASSERT_TRUE(comm.allreduce(usual(x)).ok());
    const uint64_t counts[] = {500, 700};
    const bool turned = comm.rank() == 2;
    Status status = comm.allreduce(in_place(x, whole(counts[turned ? 1 : 0], "none")));
    EXPECT_EQ(status.code(), Code::kMismatch) << status.message();
    for (const char* word : {"#1", "count=500", "count=700", "rank 2"}) {
      EXPECT_NE(status.message().find(word), std::string::npos) << status.message();
    }
  });
}

// A config that differs on rank 1.
void expect_create_mismatch(const std::function<void(CommunicatorConfig&)>& change,
                            const std::vector<std::string>& words) {
  World world{"local", 3};
  world.adjust = [&](CommunicatorConfig& config) {
    if (config.rank == 1) change(config);
  };
  test::create_world(world, [&](int rank, auto& made) {
    ASSERT_FALSE(made.ok());
    const Status& status = made.status();
    EXPECT_EQ(status.code(), Code::kMismatch) << "rank " << rank << ": " << status.message();
    for (const std::string& word : words) {
      EXPECT_NE(status.message().find(word), std::string::npos)
          << "rank " << rank << ": " << status.message();
    }
  });
}

TEST(Mismatch, AnotherConfigurationIsAnErrorOnAllRanks) {
  expect_create_mismatch([](CommunicatorConfig& c) { c.seed = 7; }, {"seed=7", "seed=42"});
  expect_create_mismatch([](CommunicatorConfig& c) { c.algorithm = "ring"; }, {"ring", "auto"});
  expect_create_mismatch([](CommunicatorConfig& c) { c.transport = "shm"; }, {"shm", "local"});
  expect_create_mismatch([](CommunicatorConfig& c) { c.slice_bytes = 4096; },
                         {"slice_bytes=4096", "slice_bytes=0"});
  expect_create_mismatch([](CommunicatorConfig& c) { c.size = 4; }, {"size=4", "size=3"});
  expect_create_mismatch([](CommunicatorConfig& c) { c.tune = true; }, {"tune=1", "tune=0"});
}

TEST(Mismatch, ARankThatIsThereTwiceIsAnError) {
  World world{"local", 2};
  world.adjust = [](CommunicatorConfig& config) {
    config.rank = 0;
    config.timeout_ms = 200;
  };
  std::atomic<int> refused = 0;
  test::create_world(world, [&](int, auto& made) {
    EXPECT_FALSE(made.ok());
    if (made.status().code() == Code::kInvalidArgument) ++refused;
  });
  EXPECT_EQ(refused, 1);
}

TEST(Hello, BytesThatAreNoHelloAreAMismatch) {
  Hello own;
  Hello theirs;
  theirs.magic = 0x43475848;
  const Status status = compare_hellos(own, 0, theirs, 1);
  EXPECT_EQ(status.code(), Code::kMismatch);
  theirs = own;
  theirs.version = own.version + 1;
  EXPECT_EQ(compare_hellos(own, 0, theirs, 1).code(), Code::kMismatch);
  EXPECT_TRUE(compare_hellos(own, 0, own, 1).ok());
}

TEST(Hello, TextThatIsTooLongIsCutAndAnyBytesAreSafe) {
  Hello hello;
  hello.set_text(std::string(1000, 'x'));
  EXPECT_EQ(hello.text[sizeof(hello.text) - 1], '\0');
  EXPECT_NE(hello.call().find("xxx..."), std::string::npos);
  std::memset(hello.text, 'y', sizeof(hello.text));  // a peer's: not terminated
  EXPECT_LT(hello.call().size(), 300u);
}

}  // namespace
}  // namespace cgx
