// Going on with the survivors: ranks die in every place that matters, and those that are left agree on who
// they are, sum right, and keep their residuals.
#include <atomic>
#include <bit>
#include <climits>
#include <thread>

#include "cgx/cgx.h"
#include "comm/agreement.h"
#include "comm/processes.h"
#include "ports.h"

namespace cgx {
namespace {

using test::await_steps;
using test::free_port;
using test::in_place;
using test::noise;
using test::Processes;
using test::Report;
using test::TemporaryDirectory;
using test::whole;

constexpr int64_t kTimeoutMs = 20000;  // a busy machine; nothing here waits for it
constexpr int kStepsAfter = 3;
constexpr int kThrough = 1000;  // more than the steps of any test

struct Job {
  std::string transport;
  int size;
  std::string directory;  // of a file store; empty: a tcp store that rank 0 serves
  uint16_t port = 0;
  int64_t timeout_ms = kTimeoutMs;
};

CommunicatorConfig config_for(const Job& job, int rank, Store* store) {
  return test::process_config(job.transport, rank, job.size, store, job.timeout_ms);
}

Result<std::unique_ptr<Store>> open_store(const Job& job, int rank) {
  if (!job.directory.empty()) return make_file_store(job.directory);
  return make_tcp_store({"127.0.0.1", job.port, rank, job.timeout_ms});
}

// The ranks of the first generation that took part, as bits. Checks that the sum is one of exactly `size`
// ranks.
Result<uint32_t> take_part(Communicator& comm, int first_rank) {
  std::vector<int32_t> x(5000, 1 << first_rank);
  CGX_RETURN_IF_ERROR(comm.allreduce(in_place(x, whole(x.size(), "none", DType::kI32))));
  if (x.front() != x.back() || std::popcount(static_cast<uint32_t>(x.front())) != comm.size()) {
    return error(Code::kInternal, "a wrong sum: {} and {} of {} ranks", x.front(), x.back(), comm.size());
  }
  std::vector<float> y(5000, 1.0f);
  CGX_RETURN_IF_ERROR(comm.allreduce(in_place(y, whole(y.size(), "maxmin:bits=4,bucket=512"))));
  if (y.front() != static_cast<float>(comm.size()))
    return error(Code::kInternal, "a wrong sum: {}", y.front());
  return static_cast<uint32_t>(x.front());
}

// Sums and shrinks until `last` ranks are left, then a few times more. Reports who they were in `steps`.
Status survive(const Job& job, int rank, int last, Report& report,
               const std::function<void(int size)>& before_shrink = {}) {
  CGX_ASSIGN_OR_RETURN(const std::unique_ptr<Store> store, open_store(job, rank));
  std::vector<Shrunk> generations(1);  // a later one may need the stores of those before it
  CGX_ASSIGN_OR_RETURN(generations.back().communicator,
                       Communicator::create(config_for(job, rank, store.get())));
  report.steps = 1;
  int after = 0;
  while (after < kStepsAfter) {
    Communicator& comm = *generations.back().communicator;
    const Result<uint32_t> took_part = take_part(comm, rank);
    if (took_part.ok()) {
      ++report.steps;
      if (comm.size() == last) ++after;
      if (after == kStepsAfter) std::printf("rank %d: %x\n", rank, *took_part);
      continue;
    }
    const Code code = took_part.status().code();
    if (code != Code::kPeerFailed && code != Code::kTimeout && code != Code::kFailed)
      return took_part.status();
    after = 0;
    if (before_shrink) before_shrink(comm.size());
    CGX_ASSIGN_OR_RETURN(Shrunk shrunk, comm.shrink(0));
    generations.push_back(std::move(shrunk));
  }
  while (!generations.empty()) generations.pop_back();
  return Status();
}

void expect_well(Processes& ranks, const std::vector<int>& which) {
  for (const int r : which) {
    ranks.wait_for(r);
    EXPECT_EQ(ranks.report(r).code, 0) << "rank " << r << ": " << ranks.report(r).message;
  }
}

// Another thread aborts, again and again, as an abort before the shrink begins is not one of it.
Status shrink_under_abort(Communicator& comm, std::atomic<int>* took_ms) {
  std::atomic<bool> returned = false;
  std::thread other([&] {
    while (!returned) {
      comm.abort("the other thread");
      ::usleep(1000);
    }
  });
  const int64_t begin_ms = Report::now_ms();
  const Status status = comm.shrink(0).status();
  *took_ms = static_cast<int>(Report::now_ms() - begin_ms);
  returned = true;
  other.join();
  return status;
}

struct Case {
  const char* transport;
  const char* store;
};

class Shrink : public testing::TestWithParam<Case> {
 protected:
  // With a store of its own.
  Job job_of(int size) {
    if (std::string(GetParam().store) != "file") return {GetParam().transport, size, "", free_port()};
    return {GetParam().transport, size, fmt::format("{}/{}", directory_.path(), jobs_++)};
  }

 private:
  TemporaryDirectory directory_;
  int jobs_ = 0;
};
INSTANTIATE_TEST_SUITE_P(Of, Shrink,
                         testing::Values(Case{"shm", "file"}, Case{"shm", "tcp"}, Case{"tcp", "file"},
                                         Case{"tcp", "tcp"}),
                         [](const auto& entry) {
                           return fmt::format("{}_with_a_{}_store", entry.param.transport, entry.param.store);
                         });

TEST_P(Shrink, TheSurvivorsOfAKilledRankGoOn) {
  for (const int victim : {0, 2}) {
    const Job job = job_of(3);
    Processes ranks(3);
    for (int r = 0; r < 3; ++r) {
      ranks.start(r, [&, r](Report& report) { return survive(job, r, 2, report); });
    }
    await_steps(ranks, 1, 3);
    const int64_t begin_ms = Report::now_ms();
    ranks.kill(victim);
    ranks.wait_for(victim);
    expect_well(ranks, victim == 0 ? std::vector{1, 2} : std::vector{0, 1});
    std::printf("rank %d killed, the others are through after %lld ms\n", victim,
                static_cast<long long>(Report::now_ms() - begin_ms));
  }
}

TEST_P(Shrink, TwoOfFiveAtOnceAndRankZeroAmongThem) {
  const Job job = job_of(5);
  Processes ranks(5);
  for (int r = 0; r < 5; ++r) {
    ranks.start(r, [&, r](Report& report) { return survive(job, r, 3, report); });
  }
  await_steps(ranks, 1, 3);
  ranks.kill(0);
  ranks.kill(3);
  expect_well(ranks, {1, 2, 4});
}

// Rank 1 is the heir of rank 0's store; it dies when it is about to serve. Rank 3 dies when its call comes.
TEST_P(Shrink, ARankThatDiesDuringTheShrinkIsLeftOutToo) {
  const Job job = job_of(5);
  Processes ranks(5);
  for (int r = 0; r < 5; ++r) {
    ranks.start(r, [&, r](Report& report) {
      return survive(job, r, 2, report, [&](int) {
        if (r == 1 || r == 3) ::raise(SIGKILL);
      });
    });
  }
  await_steps(ranks, 1, 3);
  ranks.kill(0);
  expect_well(ranks, {2, 4});
}

TEST_P(Shrink, OneByOneDownToTheLast) {
  const Job job = job_of(4);
  Processes ranks(4);
  for (int r = 0; r < 4; ++r) {
    ranks.start(r, [&, r](Report& report) { return survive(job, r, 1, report); });
  }
  for (int victim = 0; victim < 3; ++victim) {
    const int steps = ranks.report(3).steps;
    await_steps(ranks, 3, steps + 3);
    ranks.kill(victim);
    ranks.wait_for(victim);
  }
  expect_well(ranks, {3});
}

// Ends the process when it has set so many more keys. Its connections too.
class DyingStore final : public Store {
 public:
  DyingStore(std::unique_ptr<Store> inner, std::shared_ptr<int> left)
      : inner_(std::move(inner)), left_(std::move(left)) {}
  Status set(const std::string& key, const std::string& value) override {
    const Status status = inner_->set(key, value);
    if (--*left_ == 0) ::raise(SIGKILL);
    return status;
  }
  Result<std::string> get(const std::string& key, int64_t timeout_ms) override {
    return inner_->get(key, timeout_ms);
  }
  Result<std::unique_ptr<StoreHeir>> make_heir() override { return inner_->make_heir(); }
  Result<std::unique_ptr<Store>> reconnect(int64_t timeout_ms, const StopFlag& stop) override {
    CGX_ASSIGN_OR_RETURN(std::unique_ptr<Store> again, inner_->reconnect(timeout_ms, stop));
    return std::unique_ptr<Store>(std::make_unique<DyingStore>(std::move(again), left_));
  }

 private:
  std::unique_ptr<Store> inner_;
  std::shared_ptr<int> left_;
};

// Where it is, who waits for whom, and what the others know of it by then, differs with each word.
TEST_P(Shrink, ARankMayDieAfterEachWordThatItLeaves) {
  for (int words = 1; words <= 5; ++words) {
    const Job job = job_of(4);
    Processes ranks(4);
    for (int r = 0; r < 4; ++r) {
      ranks.start(r, [&, r](Report& report) -> Status {
        if (r != 1)
          return survive(job, r, 2, report, [r](int) {
            if (r == 3) ::raise(SIGKILL);
          });
        CGX_ASSIGN_OR_RETURN(std::unique_ptr<Store> inner, open_store(job, r));
        const auto left = std::make_shared<int>(INT_MAX);
        DyingStore store(std::move(inner), left);
        CGX_ASSIGN_OR_RETURN(const auto comm, Communicator::create(config_for(job, r, &store)));
        CGX_RETURN_IF_ERROR(take_part(*comm, r).status());
        report.steps = 1;
        comm->abort("the test");
        *left = words;
        static_cast<void>(comm->shrink(0));
        ::raise(SIGKILL);
        return Status();
      });
    }
    const int64_t begin_ms = Report::now_ms();
    expect_well(ranks, {0, 2});
    EXPECT_LT(Report::now_ms() - begin_ms, kTimeoutMs)
        << "after " << words << " words: nothing waits so long";
  }
}

// A rank of four that plays its part of the shrink by hand, as far as its greeting: that goes to `heard`
// alone. It dies once that rank is through.
Status greet_one_and_die(const Job& job, int rank, int heard, Report& of_heard) {
  CGX_ASSIGN_OR_RETURN(const std::unique_ptr<Store> store, open_store(job, rank));
  CGX_ASSIGN_OR_RETURN(const auto comm, Communicator::create(config_for(job, rank, store.get())));
  static_cast<void>(take_part(*comm, rank));  // rank 3 may be dead by now
  comm->abort("the test");
  Lineage lineage;
  lineage.job = "processes";
  lineage.rank = rank;
  lineage.size = job.size;
  lineage.is_gone = [](int r) { return r == 3; };
  CGX_ASSIGN_OR_RETURN(const Survivors agreed,
                       agree_on_survivors(store.get(), lineage, 1, kTimeoutMs, nullptr));
  Card card;
  card.size = static_cast<int>(agreed.ranks.size());
  card.version = CGX_VERSION;
  card.transport = job.transport;
  card.algorithm = "auto";
  card.policy = 0xcbf29ce484222325u;  // none: the hash of an empty text
  card.members = agreed.words();
  card.inner_codec = "none";
  CGX_RETURN_IF_ERROR(agree(store.get(), {rank, "processes~1", kTimeoutMs}, card).status());
  TransportConfig config;
  config.rank = rank;
  config.size = card.size;
  config.store = store.get();
  config.job = "processes~1";
  config.timeout_ms = kTimeoutMs;
  config.interface_name = "lo";
  CGX_ASSIGN_OR_RETURN(const std::unique_ptr<Transport> transport, open_transport(job.transport, config));
  CGX_ASSIGN_OR_RETURN(uint8_t * message, transport->acquire(sizeof(Hello), {kTimeoutMs, "the test"}));
  Hello hello;
  hello.version = CGX_VERSION;
  hello.operation = agreed.operation;
  hello.fingerprint = kShrinkGreeting;
  std::memcpy(message, &hello, sizeof hello);
  CGX_RETURN_IF_ERROR(transport->send(message, sizeof hello, std::span(&heard, 1)));
  transport->release(message);
  CGX_RETURN_IF_ERROR(transport->flush({kTimeoutMs, "the test"}));
  while (of_heard.steps < kThrough && of_heard.code == -1) ::usleep(1000);
  ::raise(SIGKILL);
  return Status();
}

// Destroys each communicator as soon as there is the next: peers that are not through see its end.
Status survive_leaving(const Job& job, int rank, Report& report) {
  CGX_ASSIGN_OR_RETURN(const std::unique_ptr<Store> store, open_store(job, rank));
  std::vector<Shrunk> generations(1);
  CGX_ASSIGN_OR_RETURN(generations.back().communicator,
                       Communicator::create(config_for(job, rank, store.get())));
  for (;;) {
    Communicator& comm = *generations.back().communicator;
    const Result<uint32_t> took_part = take_part(comm, rank);
    if (took_part.ok() && comm.size() == 1) return error(Code::kInternal, "it went on alone");
    if (took_part.ok() && comm.size() == 2) return Status();
    if (took_part.ok()) continue;
    CGX_ASSIGN_OR_RETURN(Shrunk shrunk, comm.shrink(0));
    generations.push_back(std::move(shrunk));
    generations[generations.size() - 2].communicator.reset();
    report.steps = kThrough;
  }
}

// It served the store, in half of the cases.
TEST_P(Shrink, OfTwoOnlyOneHeardADyingRankAndBothGoOnTogether) {
  for (const int victim : {0, 1}) {
    for (const int heard : {2, 1 - victim}) {
      const Job job = job_of(4);
      Processes ranks(4);
      for (int r = 0; r < 4; ++r) {
        ranks.start(r, [&, r](Report& report) -> Status {
          if (r == victim) return greet_one_and_die(job, r, heard, ranks.report(heard));
          if (r != 3) return survive_leaving(job, r, report);
          CGX_ASSIGN_OR_RETURN(const std::unique_ptr<Store> store, open_store(job, r));
          CGX_ASSIGN_OR_RETURN(const auto comm, Communicator::create(config_for(job, r, store.get())));
          CGX_RETURN_IF_ERROR(take_part(*comm, r).status());
          ::raise(SIGKILL);
          return Status();
        });
      }
      const int64_t begin_ms = Report::now_ms();
      expect_well(ranks, victim == 0 ? std::vector{1, 2} : std::vector{0, 2});
      EXPECT_LT(Report::now_ms() - begin_ms, kTimeoutMs) << "nothing waits for the end of the time";
      ranks.wait_for(victim);
      EXPECT_EQ(ranks.report(victim).code, -1) << ranks.report(victim).message;
    }
  }
}

// The store in which ranks 0 and 2 decided died when only rank 0 had read it.
TEST(ShrinkStore, WhoComesToANewOneBringsTheDecision) {
  const std::unique_ptr<Store> store = make_memory_store();
  Lineage behind;
  behind.job = "job";
  behind.rank = 2;
  behind.size = 3;
  behind.is_gone = [](int rank) { return rank == 1; };
  Lineage ahead;
  ahead.job = "job";
  ahead.generation = 1;
  ahead.rank = 0;
  ahead.size = 2;
  ahead.decision = "5:0,2";
  std::jthread rank_0([&] {
    const auto agreed = agree_on_survivors(store.get(), ahead, 6, kTimeoutMs, nullptr);
    ASSERT_TRUE(agreed.ok()) << agreed.status().message();
    EXPECT_EQ(agreed->text(), "6:0,1");
  });
  auto agreed = agree_on_survivors(store.get(), behind, 3, kTimeoutMs, nullptr);
  ASSERT_TRUE(agreed.ok()) << agreed.status().message();
  EXPECT_EQ(agreed->text(), "5:0,2");
  behind.generation = 1;
  behind.rank = 1;
  behind.size = 2;
  behind.decision = agreed->text();
  behind.is_gone = nullptr;
  agreed = agree_on_survivors(store.get(), behind, 5, kTimeoutMs, nullptr);
  ASSERT_TRUE(agreed.ok()) << agreed.status().message();
  EXPECT_EQ(agreed->text(), "6:0,1");
  rank_0.join();
  // A rank that goes by another one comes too late.
  behind.decision = "5:0,1,2";
  EXPECT_EQ(agree_on_survivors(store.get(), behind, 5, kTimeoutMs, nullptr).status().code(),
            Code::kPeerFailed);
}

// It does not come in time: the others wait their timeout and go on, and it is told so when it wakes.
TEST_P(Shrink, AStoppedRankIsLeftOutAndToldSo) {
  Job job = job_of(3);
  job.timeout_ms = 1500;
  Processes ranks(3);
  for (int r = 0; r < 3; ++r) {
    ranks.start(r, [&, r](Report& report) -> Status {
      if (r != 2) return survive(job, r, 2, report);
      CGX_ASSIGN_OR_RETURN(const std::unique_ptr<Store> store, open_store(job, r));
      CGX_ASSIGN_OR_RETURN(const auto comm, Communicator::create(config_for(job, r, store.get())));
      CGX_RETURN_IF_ERROR(take_part(*comm, r).status());
      ::raise(SIGSTOP);
      const Status status = take_part(*comm, r).status();
      EXPECT_FALSE(status.ok());
      return comm->shrink(0).status();
    });
  }
  for (const int r : {1}) await_steps(ranks, r, 3);
  expect_well(ranks, {1});
  ranks.resume(2);
  ranks.wait_for(2);
  expect_well(ranks, {0});
  // Where rank 0 served the store, it may have closed it by now.
  EXPECT_NE(ranks.report(2).code, 0);
  EXPECT_NE(ranks.report(2).code, -1) << "it was killed";
  std::printf("%s\n", ranks.report(2).message);
}

// Rank 0 serves the store, and stands still: nobody knows whether it is dead, and rank 1 asks it.
TEST_P(Shrink, AnAbortEndsAShrinkThatWaitsForAStandingRank) {
  Job job = job_of(2);
  job.timeout_ms = 2 * kTimeoutMs;
  Processes ranks(2);
  for (int r = 0; r < 2; ++r) {
    ranks.start(r, [&, r](Report& report) -> Status {
      CGX_ASSIGN_OR_RETURN(const std::unique_ptr<Store> store, open_store(job, r));
      CGX_ASSIGN_OR_RETURN(const auto comm, Communicator::create(config_for(job, r, store.get())));
      const Status status = take_part(*comm, r).status();
      // Also where the other's abort was faster. The destructor of `ranks` kills it.
      if (r == 0) ::raise(SIGSTOP);
      CGX_RETURN_IF_ERROR(status);
      comm->abort("the test");
      return shrink_under_abort(*comm, &report.steps);
    });
  }
  ranks.wait_for(1);
  EXPECT_EQ(ranks.report(1).code, static_cast<int>(Code::kAborted)) << ranks.report(1).message;
  EXPECT_LT(ranks.report(1).steps, kTimeoutMs / 4) << "milliseconds";
}

TEST(ShrinkInOneProcess, ResidualsGoOnAsOfTheLastSuccess) {
  test::World world{.size = 3};
  world.adjust = [](CommunicatorConfig& config) { config.timeout_ms = 3000; };
  test::run_world(world, [](Communicator& comm) {
    std::vector<float> x = noise(comm.rank(), 4096);
    const Layout layout = whole(x.size(), "topk:ratio=0.01+ef");
    for (int step = 0; step < 3; ++step) {
      x = noise(comm.rank(), 4096, static_cast<uint32_t>(step));
      ASSERT_TRUE(comm.allreduce(in_place(x, layout)).ok());
    }
    if (comm.rank() == 2) return;  // its communicator ends
    const double before = *comm.residual_norm(7);
    EXPECT_GT(before, 0);
    EXPECT_FALSE(comm.allreduce(in_place(x, layout)).ok());
    EXPECT_EQ(*comm.residual_norm(7), before);
    auto shrunk = comm.shrink(500);
    ASSERT_TRUE(shrunk.ok()) << shrunk.status().message();
    Communicator& left = *shrunk->communicator;
    EXPECT_EQ(left.size(), 2);
    // Top-k by allgather owns no sums: what is carried is the contribution, bit for bit.
    EXPECT_EQ(*left.residual_norm(7), before);
    x = noise(comm.rank(), 4096, 9);
    EXPECT_TRUE(left.allreduce(in_place(x, layout)).ok());
    EXPECT_NE(*left.residual_norm(7), before);
    EXPECT_EQ(comm.shrink(500).status().code(), Code::kInvalidArgument);
    EXPECT_EQ(comm.allreduce(in_place(x, layout)).code(), Code::kFailed);
  });
}

TEST(ShrinkInOneProcess, RanksThatDisagreedGoOnTogether) {
  test::run_world({.size = 3}, [](Communicator& comm) {
    std::vector<float> x(100 + static_cast<size_t>(comm.rank() == 1), 1.0f);
    EXPECT_EQ(comm.allreduce(in_place(x, whole(x.size(), "none"))).code(), Code::kMismatch);
    auto shrunk = comm.shrink(0);
    ASSERT_TRUE(shrunk.ok()) << shrunk.status().message();
    x.assign(100, 1.0f);
    EXPECT_TRUE(shrunk->communicator->allreduce(in_place(x, whole(x.size(), "none"))).ok());
    EXPECT_EQ(x[99], 3.0f);
  });
}

// Rank 0 is aborted at a moment of its shrink and shrinks again. What it meets depends on the moment; that it
// and the other get through does not.
TEST(ShrinkInOneProcess, AnAbortAtAnyMomentEndsAShrink) {
  constexpr int kCycles = 6;
  int aborted = 0;
  for (const char* transport : {"local", "shm", "tcp"}) {
    for (int cycle = 0; cycle < kCycles; ++cycle) {
      std::atomic<bool> over = false;
      test::run_world({.transport = transport}, [&](Communicator& comm) {
        comm.abort("the test");
        if (comm.rank() == 1) {
          Result<Shrunk> shrunk = comm.shrink(0);
          while (!shrunk.ok() && !over) shrunk = comm.shrink(0);
          return;
        }
        std::atomic<bool> stop = false;
        std::thread other([&] {
          ::usleep(static_cast<useconds_t>(cycle * 600));
          while (!stop) comm.abort("the other thread");
        });
        const int64_t begin_ms = Report::now_ms();
        Result<Shrunk> shrunk = comm.shrink(0);
        EXPECT_LT(Report::now_ms() - begin_ms, test::kPatienceMs / 2);
        stop = true;
        other.join();
        if (!shrunk.ok()) {
          ++aborted;
          EXPECT_EQ(shrunk.status().code(), Code::kAborted) << shrunk.status().message();
          EXPECT_NE(shrunk.status().message().find("the other thread"), std::string::npos);
          shrunk = comm.shrink(0);
        }
        over = true;
        // The other may have been through, and saw this rank leave.
        EXPECT_TRUE(shrunk.ok() || shrunk.status().code() == Code::kPeerFailed) << shrunk.status().message();
      });
    }
  }
  std::printf("%d of %d shrinks were aborted\n", aborted, 3 * kCycles);
}

}  // namespace
}  // namespace cgx
