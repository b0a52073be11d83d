// Queued work: its order, its callbacks, waiting with a timeout, abort and destruction.
#include <future>

#include "comm/world.h"

namespace cgx {
namespace {

using test::in_place;
using test::noise;
using test::run_world;
using test::whole;
using test::World;

TEST(Async, WorkRunsInTheOrderOfTheCalls) {
  constexpr int kCalls = 20;
  run_world({}, [&](Communicator& comm) {
    std::vector<std::vector<float>> x;
    for (int i = 0; i < kCalls; ++i) x.emplace_back(1000 + i, 1.0f);
    std::vector<int> order;  // written by one thread, read after the last has ended
    std::vector<std::shared_ptr<Work>> work;
    for (int i = 0; i < kCalls; ++i) {
      std::vector<float>& tensor = x[static_cast<size_t>(i)];
      auto started = comm.allreduce_async(in_place(tensor, whole(tensor.size(), "none")),
                                          [&order, i](const Status& status) {
                                            EXPECT_TRUE(status.ok()) << status.message();
                                            order.push_back(i);
                                          });
      ASSERT_TRUE(started.ok()) << started.status().message();
      work.push_back(*started);
    }
    // A synchronous call takes its place in the queue, so all callbacks before it have been called.
    std::vector<float> last(10, 1.0f);
    ASSERT_TRUE(comm.allreduce(in_place(last, whole(10, "none"))).ok());
    for (const auto& one : work) {
      ASSERT_TRUE(one->done());
      EXPECT_TRUE(one->status().ok());
    }
    std::vector<int> expected(kCalls);
    for (int i = 0; i < kCalls; ++i) expected[static_cast<size_t>(i)] = i;
    EXPECT_EQ(order, expected);
    for (const auto& tensor : x) EXPECT_EQ(tensor, std::vector<float>(tensor.size(), 2.0f));
  });
}

TEST(Async, SynchronousAndQueuedCallsGiveTheSameBits) {
  std::vector<float> results[2];
  for (const bool queued : {false, true}) {
    run_world({}, [&](Communicator& comm) {
      std::vector<float> x = noise(comm.rank(), 5000);
      const AllreduceCall call = in_place(x, whole(5000, "maxmin:bits=4,bucket=64"), true);
      if (queued) {
        auto work = comm.allreduce_async(call, nullptr);
        ASSERT_TRUE(work.ok());
        ASSERT_TRUE((*work)->wait(-1));
        ASSERT_TRUE((*work)->status().ok());
      } else {
        ASSERT_TRUE(comm.allreduce(call).ok());
      }
      if (comm.rank() == 0) results[queued ? 1 : 0] = x;
    });
  }
  EXPECT_EQ(results[0], results[1]);
}

TEST(Async, WaitingWithATimeoutLeavesTheWorkGoingOn) {
  std::promise<void> waited;
  run_world({}, [&](Communicator& comm) {
    std::vector<float> x(1000, 1.0f);
    if (comm.rank() == 1) waited.get_future().wait();  // comes only when rank 0 has given up waiting
    auto work = comm.allreduce_async(in_place(x, whole(1000, "none")), nullptr);
    ASSERT_TRUE(work.ok());
    if (comm.rank() == 0) {
      EXPECT_FALSE((*work)->wait(20));
      EXPECT_FALSE((*work)->done());
      waited.set_value();
    }
    EXPECT_TRUE((*work)->wait(-1));
    EXPECT_TRUE((*work)->status().ok());
    EXPECT_EQ(x, std::vector<float>(1000, 2.0f));
  });
}

TEST(Async, AbortEndsRunningAndQueuedWorkAndTellsThePeers) {
  for (const char* transport : {"local", "shm"}) {
    std::promise<void> aborted;
    std::shared_future<void> after_abort = aborted.get_future().share();
    // By one-shot the peer could have all it needs before the abort, and succeed.
    run_world({transport, 2, "scatter_gather", {}}, [&](Communicator& comm) {
      std::vector<float> x(1000, 1.0f);
      std::vector<float> y(1000, 1.0f);
      if (comm.rank() == 1) {
        after_abort.wait();
        const Status status = comm.allreduce(in_place(x, whole(1000, "none")));
        EXPECT_EQ(status.code(), Code::kPeerFailed) << status.message();
        EXPECT_NE(status.message().find("enough of it"), std::string::npos) << status.message();
        return;
      }
      auto running = comm.allreduce_async(in_place(x, whole(1000, "none")), nullptr);
      auto queued = comm.allreduce_async(in_place(y, whole(1000, "none")), nullptr);
      ASSERT_TRUE(running.ok() && queued.ok());
      std::thread([&comm] { comm.abort("enough of it"); }).join();
      for (const auto& work : {*running, *queued}) {
        ASSERT_TRUE(work->wait(-1));
        EXPECT_EQ(work->status().code(), Code::kAborted) << work->status().message();
        EXPECT_NE(work->status().message().find("enough of it"), std::string::npos)
            << work->status().message();
      }
      const Status later = comm.allreduce(in_place(x, whole(1000, "none")));
      EXPECT_EQ(later.code(), Code::kFailed);
      EXPECT_NE(later.message().find("enough of it"), std::string::npos) << later.message();
      aborted.set_value();
    });
  }
}

TEST(Async, ACallThatIsRefusedQueuesNothing) {
  run_world({}, [&](Communicator& comm) {
    std::vector<int32_t> x(10);
    bool called = false;
    auto work = comm.allreduce_async(in_place(x, whole(10, "none", DType::kI32), true),
                                     [&called](const Status&) { called = true; });
    ASSERT_FALSE(work.ok());
    EXPECT_EQ(work.status().code(), Code::kUnsupported);
    EXPECT_TRUE(comm.allreduce(in_place(x, whole(10, "none", DType::kI32))).ok());
    EXPECT_FALSE(called);
  });
}

TEST(Async, ACallbackThatCallsItsCommunicatorIsRefusedInsteadOfWaitingForItself) {
  run_world({}, [&](Communicator& comm) {
    std::vector<float> x(10, 1.0f);
    Status inside;
    auto work = comm.allreduce_async(in_place(x, whole(10, "none")), [&](const Status&) {
      std::vector<float> y(10, 1.0f);
      inside = comm.allreduce(in_place(y, whole(10, "none")));
    });
    ASSERT_TRUE(work.ok());
    std::vector<float> z(10, 1.0f);
    ASSERT_TRUE(comm.allreduce(in_place(z, whole(10, "none"))).ok());  // after the callback
    EXPECT_EQ(inside.code(), Code::kInvalidArgument);
  });
}

TEST(Async, DestructionWaitsForQueuedWork) {
  std::vector<float> x[2] = {std::vector<float>(100000, 1.0f), std::vector<float>(100000, 1.0f)};
  std::atomic<int> ended = 0;
  run_world({}, [&](Communicator& comm) {
    std::vector<float>& mine = x[comm.rank()];
    ASSERT_TRUE(comm.allreduce_async(in_place(mine, whole(mine.size(), "none")),
                                     [&ended](const Status& status) {
                                       EXPECT_TRUE(status.ok()) << status.message();
                                       ++ended;
                                     })
                    .ok());
  });
  EXPECT_EQ(ended, 2);
  EXPECT_EQ(x[0], std::vector<float>(100000, 2.0f));
}

TEST(Async, DestructionGivesUpAfterTheTimeout) {
  World world;
  world.adjust = [](CommunicatorConfig& config) { config.timeout_ms = 100; };
  std::vector<float> x(1000, 1.0f);
  Status seen;
  run_world(world, [&](Communicator& comm) {
    if (comm.rank() == 1) return;  // never calls
    ASSERT_TRUE(
        comm.allreduce_async(in_place(x, whole(1000, "none")), [&seen](const Status& s) { seen = s; }).ok());
  });
  EXPECT_FALSE(seen.ok());
}

}  // namespace
}  // namespace cgx
