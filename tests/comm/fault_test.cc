// A rank that is killed and a rank that never comes: every survivor gets an error that names it, within
// the timeout. Nobody hangs.
#include "comm/processes.h"

namespace cgx {
namespace {

using test::await_steps;
using test::in_place;
using test::noise;
using test::process_config;
using test::Processes;
using test::Report;
using test::TemporaryDirectory;
using test::whole;

constexpr int64_t kTimeoutMs = 4000;
// What a survivor may take beyond the timeout on a busy machine.
constexpr int64_t kSlackMs = 6000;

// Collectives until one fails.
Status train(const char* transport, int rank, int size, const std::string& directory, Report& report) {
  CGX_ASSIGN_OR_RETURN(const std::unique_ptr<Store> store, make_file_store(directory));
  CGX_ASSIGN_OR_RETURN(const std::unique_ptr<Communicator> comm,
                       Communicator::create(process_config(transport, rank, size, store.get(), kTimeoutMs)));
  std::vector<float> x = noise(rank, 200000);
  for (;;) {
    CGX_RETURN_IF_ERROR(comm->allreduce(in_place(x, whole(x.size(), "maxmin:bits=4,bucket=512"), true)));
    ++report.steps;
  }
}

bool is_here(const char* transport) {
  TemporaryDirectory directory;
  Processes one(1);
  one.start(0, [&](Report&) -> Status {
    CGX_ASSIGN_OR_RETURN(const std::unique_ptr<Store> store, make_file_store(directory.path()));
    return Communicator::create(process_config(transport, 0, 1, store.get(), kTimeoutMs)).status();
  });
  one.wait_for(0);
  return one.report(0).code == 0;
}

class Fault : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (!is_here(GetParam())) GTEST_SKIP() << "no transport " << GetParam() << " here";
  }
};
INSTANTIATE_TEST_SUITE_P(BetweenProcesses, Fault, testing::Values("shm", "gloo", "mixed"),
                         [](const auto& entry) { return std::string(entry.param); });

TEST_P(Fault, AKilledRankIsNamedByEverySurvivorWithinTheTimeout) {
  for (const int size : {2, 3}) {
    TemporaryDirectory directory;
    Processes ranks(size);
    for (int r = 0; r < size; ++r) {
      ranks.start(r, [&, r](Report& report) { return train(GetParam(), r, size, directory.path(), report); });
    }
    const int victim = size - 1;
    await_steps(ranks, 0, 3);
    const int64_t killed_ms = Report::now_ms();
    ranks.kill(victim);
    ranks.wait_for(victim);
    for (int r = 0; r < victim; ++r) {
      ranks.wait_for(r);
      const Report& report = ranks.report(r);
      EXPECT_TRUE(report.code == static_cast<int>(Code::kPeerFailed) ||
                  report.code == static_cast<int>(Code::kTimeout))
          << "rank " << r << ": code " << report.code << ": " << report.message;
      EXPECT_NE(std::string(report.message).find(fmt::format("rank {}", victim)), std::string::npos)
          << report.message;
      const int64_t took_ms = report.ended_ms - killed_ms;
      EXPECT_LE(took_ms, kTimeoutMs + kSlackMs);
      std::printf("%s, %d ranks: rank %d noticed after %lld ms: %s\n", GetParam(), size, r,
                  static_cast<long long>(took_ms), report.message);
    }
  }
}

TEST_P(Fault, ARankThatNeverComesIsNamedByAllOthers) {
  constexpr int kSize = 3;
  TemporaryDirectory directory;
  Processes ranks(kSize);
  const int64_t begin_ms = Report::now_ms();
  for (const int r : {0, 2}) {
    ranks.start(r, [&, r](Report& report) -> Status {
      CGX_ASSIGN_OR_RETURN(const std::unique_ptr<Store> store, make_file_store(directory.path()));
      const CommunicatorConfig config = process_config(GetParam(), r, kSize, store.get(), 500);
      static_cast<void>(report);
      return Communicator::create(config).status();
    });
  }
  for (const int r : {0, 2}) {
    ranks.wait_for(r);
    EXPECT_EQ(ranks.report(r).code, static_cast<int>(Code::kTimeout)) << ranks.report(r).message;
    EXPECT_NE(std::string(ranks.report(r).message).find("rank 1 of 3 did not come"), std::string::npos)
        << ranks.report(r).message;
    EXPECT_LE(ranks.report(r).ended_ms - begin_ms, 500 + kSlackMs);
  }
}

// It joined, but does not call: the others' timeout is on progress.
TEST_P(Fault, ARankThatDoesNotCallIsNamedByAllOthers) {
  constexpr int kSize = 3;
  TemporaryDirectory directory;
  Processes ranks(kSize);
  for (int r = 0; r < kSize; ++r) {
    ranks.start(r, [&, r](Report& report) -> Status {
      CGX_ASSIGN_OR_RETURN(const std::unique_ptr<Store> store, make_file_store(directory.path()));
      CGX_ASSIGN_OR_RETURN(
          const std::unique_ptr<Communicator> comm,
          Communicator::create(process_config(GetParam(), r, kSize, store.get(), kTimeoutMs)));
      if (r == 1) ::raise(SIGSTOP);  // the destructor of `ranks` kills it
      std::vector<float> x = noise(r, 1000);
      AllreduceCall call = in_place(x, whole(x.size(), "none"));
      call.timeout_ms = 500;
      static_cast<void>(report);
      return comm->allreduce(std::move(call));
    });
  }
  for (const int r : {0, 2}) {
    ranks.wait_for(r);
    const std::string message = ranks.report(r).message;
    EXPECT_TRUE(ranks.report(r).code == static_cast<int>(Code::kTimeout) ||
                ranks.report(r).code == static_cast<int>(Code::kPeerFailed))
        << message;
    EXPECT_NE(message.find("rank 1"), std::string::npos) << message;
  }
}

}  // namespace
}  // namespace cgx
