// Saved states: a run that loads one goes on bit for bit, a failed or killed collective leaves none of itself
// in one, and bytes that are no state of this rank are refused and change nothing.
#include "comm/state.h"

#include <random>

#include "base/crc32c.h"
#include "codec/candidates.h"
#include "comm/policy_text.h"
#include "comm/processes.h"
#include "comm/world.h"

namespace cgx {
namespace {

using test::in_place;
using test::noise;
using test::Processes;
using test::Replicas;
using test::Report;
using test::run_world;
using test::TemporaryDirectory;
using test::whole;
using test::World;

using Bytes = std::vector<uint8_t>;

constexpr uint64_t kCount = 3000;

Bytes saved(const Communicator& comm) {
  const auto bytes = comm.state_bytes();
  EXPECT_TRUE(bytes.ok()) << bytes.status().message();
  Bytes state(*bytes);
  const Status status = comm.save_state(state);
  EXPECT_TRUE(status.ok()) << status.message();
  return state;
}

// Two tensors, the second in segments with and without error feedback.
Status step(Communicator& comm, const std::string& spec, uint32_t number, std::vector<float>* results) {
  std::vector<float> x = noise(comm.rank(), kCount, number);
  CGX_RETURN_IF_ERROR(comm.allreduce(in_place(x, whole(kCount, spec), true)));
  std::vector<float> y = noise(comm.rank() + 100, kCount, number);
  auto layout = Layout::make(DType::kF32, kCount,
                             {{0, 1000, test::spec_of(spec), 1},
                              {1000, 1500, test::spec_of("maxmin:bits=4"), 2},
                              {2500, 500, test::spec_of("topk:ratio=0.1+ef"), 3}});
  EXPECT_TRUE(layout.ok()) << layout.status().message();
  CGX_RETURN_IF_ERROR(comm.allreduce(in_place(y, *layout)));
  results->insert(results->end(), x.begin(), x.end());
  results->insert(results->end(), y.begin(), y.end());
  return Status();
}

struct Trained {
  std::vector<std::vector<float>> results;  // of each rank, all steps
  std::vector<Bytes> at;                    // each rank's state before step `kSaveAt`
  std::vector<Bytes> end;
};

constexpr uint32_t kSaveAt = 3, kSteps = 7;

// Steps from `first` on, after loading `states` if there are any.
Trained run(const World& world, const std::string& spec, uint32_t first, const std::vector<Bytes>& states) {
  const auto size = static_cast<size_t>(world.size);
  Trained run{std::vector<std::vector<float>>(size), std::vector<Bytes>(size), std::vector<Bytes>(size)};
  run_world(world, [&](Communicator& comm) {
    const auto rank = static_cast<size_t>(comm.rank());
    if (!states.empty()) {
      std::vector<float> ignored;  // what happens before loading leaves no trace
      ASSERT_TRUE(step(comm, spec, 99, &ignored).ok());
      const Status loaded = comm.load_state(states[rank]);
      ASSERT_TRUE(loaded.ok()) << loaded.message();
      EXPECT_EQ(saved(comm), states[rank]);
    }
    for (uint32_t number = first; number < kSteps; ++number) {
      if (number == kSaveAt) run.at[rank] = saved(comm);
      const Status status = step(comm, spec, number, &run.results[rank]);
      ASSERT_TRUE(status.ok()) << status.message();
    }
    run.end[rank] = saved(comm);
  });
  return run;
}

class GoesOn : public testing::TestWithParam<std::tuple<const char*, const char*>> {};
INSTANTIATE_TEST_SUITE_P(
    State, GoesOn,
    testing::Combine(testing::Values("scatter_gather", "ring", "allgather", "tree", "hierarchical"),
                     testing::Values("topk:ratio=0.05+ef", "maxmin:bits=4", "maxmin:bits=2+ef",
                                     "randk:ratio=0.1", "natural", "none")));

TEST_P(GoesOn, ARunThatLoadsItsStateGivesTheBitsOfTheOneThatWasNotStopped) {
  const auto [algorithm, spec] = GetParam();
  const World world{.size = 3, .algorithm = algorithm};
  const Trained whole_run = run(world, spec, 0, {});
  const Trained resumed = run(world, spec, kSaveAt, whole_run.at);
  for (size_t rank = 0; rank < 3; ++rank) {
    const std::vector<float>& all = whole_run.results[rank];
    const std::vector<float> rest(all.begin() + 2 * kSaveAt * kCount, all.end());
    ASSERT_EQ(resumed.results[rank].size(), rest.size());
    EXPECT_EQ(std::memcmp(resumed.results[rank].data(), rest.data(), rest.size() * sizeof(float)), 0);
    EXPECT_EQ(resumed.end[rank], whole_run.end[rank]);
  }
}

TEST(State, WithoutLoadingItTheRunGoesElsewhere) {
  for (const char* spec : {"topk:ratio=0.05+ef", "maxmin:bits=4"}) {
    const Trained whole_run = run({}, spec, 0, {});
    const Trained fresh = run({}, spec, kSaveAt, {});
    EXPECT_NE(fresh.end[0], whole_run.end[0]);
  }
}

TEST(State, TheSeedIsPartOfIt) {
  const Trained whole_run = run({}, "maxmin:bits=4", 0, {});
  const World other_seed{.adjust = [](CommunicatorConfig& config) { config.seed = 5; }};
  EXPECT_EQ(run(other_seed, "maxmin:bits=4", kSaveAt, whole_run.at).end, whole_run.end);
}

TEST(State, ThePolicyIsPartOfIt) {
  Policy policy{default_profile(2, false), "local"};
  policy.profile.all_byte = policy.profile.pair_byte = 8;  // a slow link, where codecs pay
  for (const Candidate& c : candidates())
    policy.profile.codecs.push_back({c.spec, {{{0.1, 0.1}, {0.1, 0.1}, {0.2, 0.2}}}});
  const World pinned{.adjust = [&](CommunicatorConfig& config) { config.policy = to_json(policy); }};
  const std::string spec = "auto:error=0.1+ef";
  const Trained whole_run = run(pinned, spec, 0, {});
  EXPECT_EQ(run({}, spec, kSaveAt, whole_run.at).end, whole_run.end);
  // A state without a policy: as if nothing had been measured.
  Bytes empty;
  run_world({}, [&](Communicator& comm) {
    if (comm.rank() == 0) empty = saved(comm);
  });
  run_world(pinned, [&](Communicator& comm) {
    EXPECT_NE(*comm.policy(), "");
    if (comm.rank() != 0) return;
    ASSERT_TRUE(comm.load_state(empty).ok());
    EXPECT_EQ(*comm.policy(), "");
  });
}

TEST(State, RanksThatLoadedStatesOfDifferentStepsAreTold) {
  std::vector<Bytes> early(2), late(2);
  run_world({}, [&](Communicator& comm) {
    std::vector<float> results;
    ASSERT_TRUE(step(comm, "topk:ratio=0.1+ef", 0, &results).ok());
    early[static_cast<size_t>(comm.rank())] = saved(comm);
    ASSERT_TRUE(step(comm, "topk:ratio=0.1+ef", 1, &results).ok());
    late[static_cast<size_t>(comm.rank())] = saved(comm);
  });
  run_world({}, [&](Communicator& comm) {
    const auto rank = static_cast<size_t>(comm.rank());
    ASSERT_TRUE(comm.load_state(rank == 0 ? early[0] : late[1]).ok());
    std::vector<float> results;
    const Status status = step(comm, "topk:ratio=0.1+ef", 2, &results);
    EXPECT_EQ(status.code(), Code::kMismatch) << status.message();
    EXPECT_NE(status.message().find("#2"), std::string::npos) << status.message();
    EXPECT_NE(status.message().find("#4"), std::string::npos) << status.message();
  });
}

TEST(State, WhileWorkIsOutstandingItIsNeitherSavedNorLoaded) {
  Replicas meeting(2);
  run_world({}, [&](Communicator& comm) {
    const Bytes before = saved(comm);
    std::vector<float> x = noise(comm.rank(), kCount);
    if (comm.rank() == 1) meeting.meet();
    auto work = comm.allreduce_async(in_place(x, whole(kCount, "topk:ratio=0.1+ef")), nullptr);
    ASSERT_TRUE(work.ok());
    if (comm.rank() == 0) {  // rank 1 has not come yet
      EXPECT_EQ(comm.state_bytes().status().code(), Code::kInvalidArgument);
      const Status loaded = comm.load_state(before);
      EXPECT_EQ(loaded.code(), Code::kInvalidArgument);
      EXPECT_NE(loaded.message().find("outstanding"), std::string::npos) << loaded.message();
      meeting.meet();
    }
    ASSERT_TRUE((*work)->wait(-1));
    EXPECT_NE(saved(comm), before);
  });
}

// What a rank sees of a peer that is killed: the state it saves then is the one before the collective that
// failed, byte for byte, whatever was encoded already.
TEST(State, ACollectiveThatAKilledPeerBreaksLeavesNoTraceInTheState) {
  constexpr int kSize = 3;
  TemporaryDirectory directory;
  Processes ranks(kSize);
  const auto body = [&](int rank, Report& report) -> Status {
    CGX_ASSIGN_OR_RETURN(const std::unique_ptr<Store> store, make_file_store(directory.path()));
    const World world{.transport = "shm", .size = kSize};
    CGX_ASSIGN_OR_RETURN(const std::unique_ptr<Communicator> comm,
                         Communicator::create(test::config_of(world, store.get(), "killed", rank)));
    Bytes last = saved(*comm);
    for (uint32_t number = 0;; ++number) {
      std::vector<float> x = noise(rank, 100000, number);
      const Status status = comm->allreduce(in_place(x, whole(x.size(), "topk:ratio=0.05+ef"), true));
      const Bytes now = saved(*comm);
      ++report.steps;
      if (status.ok()) {
        last = now;
        continue;
      }
      return now == last ? status : error(Code::kInternal, "the state has changed: {}", status.message());
    }
  };
  for (int r = 0; r < kSize; ++r) ranks.start(r, [&, r](Report& report) { return body(r, report); });
  const int64_t give_up_ms = Report::now_ms() + 60000;
  while (ranks.report(0).steps < 5 && ranks.report(0).code == -1 && Report::now_ms() < give_up_ms)
    ::usleep(100);
  ranks.kill(2);
  for (const int r : {0, 1}) {
    ranks.wait_for(r);
    EXPECT_EQ(ranks.report(r).code, static_cast<int>(Code::kPeerFailed)) << ranks.report(r).message;
    EXPECT_GE(ranks.report(r).steps, 5);
  }
}

void fix_checksum(Bytes* state) {
  const uint32_t crc = crc32c(0, state->data(), state->size() - 4);
  std::memcpy(state->data() + state->size() - 4, &crc, 4);
}

void put(Bytes* state, size_t at, uint64_t value, size_t bytes) {
  std::memcpy(state->data() + at, &value, bytes);
}

// A communicator of one rank with residuals and a state that is not its present one.
class Hostile : public testing::Test {
 protected:
  void with(const std::function<void(Communicator&, const Bytes& good)>& body) {
    run_world({.size = 1}, [&](Communicator& comm) {
      std::vector<float> results;
      ASSERT_TRUE(step(comm, "topk:ratio=0.05+ef", 0, &results).ok());
      const Bytes good = saved(comm);
      ASSERT_TRUE(step(comm, "topk:ratio=0.05+ef", 1, &results).ok());
      const Bytes now = saved(comm);
      ASSERT_NE(now, good);
      body(comm, good);
      EXPECT_EQ(saved(comm), now) << "a refused state has changed something";
    });
  }
};

TEST_F(Hostile, EveryCutIsRefused) {
  with([](Communicator& comm, const Bytes& good) {
    for (size_t bytes = 0; bytes < good.size(); bytes += bytes < 300 ? 1 : 97) {
      const Status status = comm.load_state({good.data(), bytes});
      EXPECT_EQ(status.code(), Code::kCorrupt) << bytes << ": " << status.message();
    }
    Bytes longer = good;
    longer.push_back(0);
    EXPECT_EQ(comm.load_state(longer).code(), Code::kCorrupt);
  });
}

TEST_F(Hostile, EveryFlippedBitIsRefused) {
  with([](Communicator& comm, const Bytes& good) {
    for (size_t at = 0; at < good.size(); at += at < 300 ? 1 : 89) {
      Bytes bad = good;
      bad[at] ^= static_cast<uint8_t>(1u << (at % 8));
      const Status status = comm.load_state(bad);
      EXPECT_TRUE(status.code() == Code::kCorrupt || status.code() == Code::kUnsupported) << at;
    }
  });
}

// Offsets are those of docs/WIRE.md.
TEST_F(Hostile, WrongFieldsUnderAGoodChecksumAreRefusedWithTheirValue) {
  struct Wrong {
    const char* what;
    size_t at;
    uint64_t value;
    size_t bytes;
    Code code;
    const char* word;
  };
  const std::vector<Wrong> table = {
      {"another format", 8, 7, 4, Code::kUnsupported, "format 7"},
      {"another rank", 16, 3, 4, Code::kInvalidArgument, "rank 3 of 1"},
      {"another size", 20, 4, 4, Code::kInvalidArgument, "rank 0 of 4"},
      {"a length that is not its own", 40, 1u << 20, 8, Code::kCorrupt, "says 1048576"},
      {"unknown flags", 48, 6, 4, Code::kCorrupt, "flags 6"},
      {"a policy that decides and is not there", 48, 1, 4, Code::kCorrupt, "no policy"},
      {"a policy longer than everything", 52, 0xffffffff, 4, Code::kCorrupt, "policy is cut"},
      {"a policy that is none", 52, 32, 4, Code::kCorrupt, "JSON"},
      {"tensors without end", 56, ~0ull, 8, Code::kCorrupt, "all its tensors"},
      {"no tensors, and bytes of some", 56, 0, 8, Code::kCorrupt, "follow"},
      {"a scale of zero", 68, 0, 4, Code::kCorrupt, "scale 0"},
      {"a scale that is no number", 68, 0x7fc00000, 4, Code::kCorrupt, "scale nan"},
      {"a tensor of nothing", 80, 0, 8, Code::kCorrupt, "0 elements"},
      {"a tensor of everything", 80, ~0ull, 8, Code::kCorrupt, "elements"},
      {"a tensor whose bytes wrap around", 80, (1ull << 62) + 1000, 8, Code::kCorrupt, "elements"},
      {"runs without end", 88, ~0ull, 8, Code::kCorrupt, "runs"},
  };
  with([&](Communicator& comm, const Bytes& good) {
    for (const Wrong& wrong : table) {
      Bytes bad = good;
      put(&bad, wrong.at, wrong.value, wrong.bytes);
      fix_checksum(&bad);
      const Status status = comm.load_state(bad);
      EXPECT_EQ(status.code(), wrong.code) << wrong.what << ": " << status.message();
      EXPECT_NE(status.message().find(wrong.word), std::string::npos)
          << wrong.what << ": no \"" << wrong.word << "\" in: " << status.message();
    }
  });
}

TEST_F(Hostile, SumsOutsideOfTheirTensorAreRefused) {
  with([&](Communicator& comm, const Bytes& good) {
    for (const auto& [first, count] :
         {std::pair{5000ull, 1ull}, {0ull, ~0ull}, {2999ull, 2ull}, {~0ull, 2ull}}) {
      Bytes bad = good;  // one rank alone owns no sums: give the first tensor a run of them
      bad.insert(bad.begin() + 96, 16, 0);
      put(&bad, 40, bad.size(), 8);
      put(&bad, 88, 1, 8);
      put(&bad, 96, first, 8);
      put(&bad, 104, count, 8);
      fix_checksum(&bad);
      const Status status = comm.load_state(bad);
      EXPECT_EQ(status.code(), Code::kCorrupt) << first;
      EXPECT_NE(status.message().find(fmt::format("sums from {}", first)), std::string::npos)
          << status.message();
    }
  });
}

TEST(State, RandomBytesUnderAGoodChecksumAreLoadedOrRefusedAndNothingElse) {
  run_world({.size = 1}, [](Communicator& comm) {
    std::vector<float> results;
    ASSERT_TRUE(step(comm, "topk:ratio=0.05+ef", 0, &results).ok());
    const Bytes good = saved(comm);
    std::mt19937 random(7);
    int refused = 0;
    for (int i = 0; i < 2000; ++i) {
      Bytes bad = good;
      const size_t reach = i % 2 == 0 ? 200 : bad.size();
      for (int k = 0; k < 3; ++k)
        bad[random() % reach] = static_cast<uint8_t>(random() % 4 == 0 ? 255 : random());
      if (i % 5 == 0) bad.resize(68 + random() % (bad.size() - 68));
      if (i % 3 != 0) put(&bad, 40, bad.size(), 8);
      fix_checksum(&bad);
      const Bytes before = saved(comm);
      if (comm.load_state(bad).ok()) {
        EXPECT_EQ(saved(comm).size(), comm.state_bytes().value());
      } else {
        ++refused;
        EXPECT_EQ(saved(comm), before);
      }
    }
    EXPECT_GT(refused, 500);
    ASSERT_TRUE(comm.load_state(good).ok());
    ASSERT_TRUE(step(comm, "topk:ratio=0.05+ef", 1, &results).ok());
  });
}

TEST(State, MemoryThatIsTooSmallIsNotWritten) {
  run_world({.size = 1}, [](Communicator& comm) {
    Bytes state(*comm.state_bytes(), 9);
    const Status status = comm.save_state(std::span(state).first(state.size() - 1));
    EXPECT_EQ(status.code(), Code::kInvalidArgument);
    EXPECT_NE(status.message().find(fmt::format("takes {} bytes", state.size())), std::string::npos)
        << status.message();
    EXPECT_EQ(state, Bytes(state.size(), 9));
  });
}

TEST(State, OfTheSumsOnlyWhatARankOwnsIsSaved) {
  constexpr int kSize = 4;
  run_world({.size = kSize, .algorithm = "scatter_gather"}, [](Communicator& comm) {
    std::vector<float> x = noise(comm.rank(), 40000);
    ASSERT_TRUE(comm.allreduce(in_place(x, whole(x.size(), "maxmin:bits=4+ef"))).ok());
    // Contributions whole; of the sums a quarter, rounded up to a block's granule, and headers.
    EXPECT_LE(*comm.state_bytes(), x.size() * 4 + (x.size() / kSize + 4096) * 4 + 1000);
  });
}

}  // namespace
}  // namespace cgx
