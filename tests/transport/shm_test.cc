// Shared memory, part by part: the pool, the geometry, and what a hostile peer can write.
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <set>
#include <thread>

#include "ranks.h"
#include "transport/rendezvous.h"
#include "transport/shm_pool.h"
#include "transport/shm_segment.h"

namespace cgx::test {
namespace {

constexpr Wait kWait{5000, "scatter"};

TEST(ShmPool, GivesThePieceThatWasFreedLast) {
  ShmPool pool(1 << 20);
  const uint64_t a = *pool.allocate(1000), b = *pool.allocate(1000), c = *pool.allocate(1000);
  pool.free(a);
  pool.free(c);
  pool.free(b);
  EXPECT_EQ(pool.allocate(1000), b);
  EXPECT_EQ(pool.allocate(1000), c);
  EXPECT_EQ(pool.allocate(1000), a);
}

TEST(ShmPool, PrefersTheTightestPiece) {
  ShmPool pool(1 << 20);
  const uint64_t large = *pool.allocate(4096), wall = *pool.allocate(64), small = *pool.allocate(1024);
  pool.free(small);
  pool.free(large);
  EXPECT_EQ(pool.allocate(1000), small);
  EXPECT_NE(wall, small);
}

TEST(ShmPool, JoinsFreeNeighboursWhenNothingFits) {
  ShmPool pool(4096);
  uint64_t pieces[4];
  for (uint64_t& piece : pieces) piece = *pool.allocate(1024);
  EXPECT_FALSE(pool.allocate(1).has_value());
  for (const uint64_t piece : pieces) pool.free(piece);
  EXPECT_EQ(pool.used_bytes(), 0u);
  EXPECT_EQ(pool.allocate(4096), 0u);
}

// However many pieces other sizes left behind.
TEST(ShmPool, GivesThePieceThatWasFreedLastAmongHundreds) {
  ShmPool pool(1 << 20);
  std::vector<uint64_t> slivers;
  for (uint64_t i = 0; i < 100; ++i) {
    slivers.push_back(*pool.allocate(64 * (1 + i % 7)));
    ASSERT_TRUE(pool.allocate(64).has_value());  // a wall
  }
  const uint64_t a = *pool.allocate(1000), wall = *pool.allocate(64), b = *pool.allocate(1000);
  pool.free(a);
  pool.free(b);
  for (const uint64_t sliver : slivers) pool.free(sliver);  // a and b are not among the last any more
  EXPECT_EQ(pool.allocate(1000), b);
  EXPECT_EQ(pool.allocate(1000), a);
  pool.free(a);
  EXPECT_EQ(pool.allocate(64 * 16), a);
  pool.free(a);
  pool.free(wall);
  ASSERT_NE(pool.allocate(2 << 18), a);  // nothing is joined while something fits
  EXPECT_EQ(pool.allocate(1000), a);
}

TEST(ShmPool, NeverGivesAByteTwice) {
  ShmPool pool(1 << 16);
  std::vector<std::pair<uint64_t, uint64_t>> taken;  // offset, bytes
  uint64_t state = 1;
  for (int i = 0; i < 20000; ++i) {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    const uint64_t bytes = 1 + (state >> 40) % 5000;
    if (const auto offset = pool.allocate(bytes)) {
      ASSERT_EQ(*offset % 64, 0u);
      ASSERT_LE(*offset + bytes, uint64_t{1} << 16);
      for (const auto& [other, other_bytes] : taken) {
        ASSERT_TRUE(*offset + bytes <= other || other + other_bytes <= *offset);
      }
      taken.emplace_back(*offset, bytes);
    }
    if (taken.size() > 12 || (state >> 20) % 3 == 0) {
      if (taken.empty()) continue;
      const size_t victim = (state >> 8) % taken.size();
      pool.free(taken[victim].first);
      taken.erase(taken.begin() + static_cast<std::ptrdiff_t>(victim));
    }
  }
}

TEST(ShmGeometry, AJobOfAnySizeTakesTensOfMegabytes) {
  for (int size = 1; size <= 16; ++size) {
    const uint64_t job =
        static_cast<uint64_t>(size) * ShmGeometry{0, size, default_shm_pool_bytes(size)}.segment_bytes();
    EXPECT_LE(job, uint64_t{64} << 20) << size << " ranks";
  }
}

TEST(ShmGeometry, PartsDoNotOverlap) {
  for (const int size : {1, 2, 3, 16, 64}) {
    const ShmGeometry g{size - 1, size, 2 << 20};
    EXPECT_GE(g.channel_at(0), g.header_at() + sizeof(ShmHeader));
    EXPECT_EQ(g.channel_at(0) % 64, 0u);
    EXPECT_EQ(g.pool_at() % kShmPage, 0u);
    std::set<uint64_t> lanes;
    for (int peer = 0; peer < size - 1; ++peer) {
      for (uint32_t slot = 0; slot < kShmLaneSlots; ++slot) {
        const uint64_t at = g.lane_at(peer, slot);
        EXPECT_GE(at, g.channel_at(size));
        EXPECT_LE(at + g.lane_slot_bytes(), g.pool_at());
        EXPECT_EQ(at % kShmPage, 0u);
        EXPECT_TRUE(lanes.insert(at).second);
      }
    }
    EXPECT_EQ(g.segment_bytes(), g.pool_at() + (2 << 20));
  }
}

// Rank 0 is the real transport; rank 1 is this test, which joins as a rank does and then writes what no
// honest rank would.
class HostilePeer : public testing::Test {
 protected:
  // `attack` writes into rank 1's segment; returns what rank 0 then says.
  Status outcome_of(const std::function<void(OwnSegment&)>& attack, size_t expected = 100) {
    const std::unique_ptr<Store> store = make_memory_store();
    Status seen;
    std::atomic<bool> joined = false, attacked = false;
    std::thread honest([&] {
      auto opened = open_transport("shm", config_of(store.get(), 0, 2, 5000));
      joined = true;
      ASSERT_TRUE(opened.ok()) << opened.status().message();
      while (!attacked) std::this_thread::yield();
      seen = (*opened)->post(1, expected);
      if (seen.ok()) seen = (*opened)->receive(1, expected, kWait).status();
    });
    auto segment = OwnSegment::create("/dev/shm", {1, 2, job_hash()}, 1 << 20);
    EXPECT_TRUE(segment.ok());
    const Meeting meeting{1, 2, "cgx", "shm", 5000};
    EXPECT_TRUE(meet(store.get(), meeting, segment->name()).ok());
    segment->header().ready.store(1);
    while (!joined) std::this_thread::yield();
    attack(*segment);
    attacked = true;
    honest.join();
    return seen;
  }

  // The hash of the default job's name, as rank 0 writes it.
  static uint64_t job_hash() {
    uint64_t hash = 0xcbf29ce484222325ULL;
    for (const char c : std::string("cgx")) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
    return hash;
  }

  static void write(OwnSegment& segment, const ShmDescriptor& descriptor) {
    segment.channel(0).descriptors[0] = descriptor;
    segment.channel(0).sent.store(1);
  }
};

TEST_F(HostilePeer, AnHonestDescriptorIsTaken) {
  const Status status = outcome_of([](OwnSegment& s) { write(s, {64, 100, 0, 0}); });
  EXPECT_TRUE(status.ok()) << status.message();
}

TEST_F(HostilePeer, DescriptorsThatLieAreNamedCorrupt) {
  constexpr uint64_t kPool = 1 << 20;
  const ShmDescriptor lies[] = {
      {kPool, 100, 0, 0},                // past the end
      {kPool - 64, 100, 0, 0},           // over the end
      {~uint64_t{0} - 63, 100, 0, 0},    // wraps around
      {65, 100, 0, 0},                   // not aligned
      {64, 100, kShmSlots, 0},           // a slot that is none
      {64, 100, ~uint32_t{0}, 0},        // likewise
      {0, 100, kShmSlots, 101},          // a fragment larger than its message
      {0, 100, kShmSlots + 4, 50},       // a lane slot that is none
      {0, 100, 5, 50},                   // a fragment in a slot of the pool
      {0, 100, kShmSlots, ~uint32_t{0}}  // larger than anything
  };
  for (size_t i = 0; i < std::size(lies); ++i) {
    const Status status = outcome_of([&](OwnSegment& s) { write(s, lies[i]); });
    EXPECT_EQ(status.code(), Code::kCorrupt) << "lie " << i << ": " << status.message();
    EXPECT_NE(status.message().find("rank 1"), std::string::npos) << status.message();
    EXPECT_NE(status.message().find("scatter"), std::string::npos) << status.message();
  }
}

TEST_F(HostilePeer, SizesThatWereNotAnnouncedAreAMismatch) {
  for (const uint64_t bytes : {uint64_t{99}, uint64_t{101}, ~uint64_t{0}}) {
    for (const uint32_t fragment : {0u, 50u}) {
      const Status status = outcome_of([&](OwnSegment& s) { write(s, {64, bytes, 0, fragment}); });
      EXPECT_EQ(status.code(), Code::kMismatch) << status.message();
    }
  }
}

TEST_F(HostilePeer, CountersThatJumpAreNamedCorrupt) {
  for (const uint64_t count : {uint64_t{kShmRing} + 1, ~uint64_t{0}}) {
    EXPECT_EQ(outcome_of([&](OwnSegment& s) { s.channel(0).sent.store(count); }).code(), Code::kCorrupt);
    EXPECT_EQ(outcome_of([&](OwnSegment& s) { s.channel(0).acked.store(count); }).code(), Code::kCorrupt);
  }
}

TEST_F(HostilePeer, AcknowledgementsOfWhatWasNotSentAreNamedCorrupt) {
  for (const uint32_t slot : {0u, 7u, kShmSlots - 1, kShmSlots, kShmSlots + 4, ~uint32_t{0}}) {
    const Status status = outcome_of([&](OwnSegment& s) {
      s.channel(0).acks[0] = slot;
      s.channel(0).acked.store(1);
    });
    EXPECT_EQ(status.code(), Code::kCorrupt) << "slot " << slot << ": " << status.message();
  }
}

TEST_F(HostilePeer, AFailureTextWithoutAnEndIsCutOff) {
  const Status status = outcome_of([](OwnSegment& s) {
    std::memset(s.header().failure_text, 'x', kShmTextBytes);
    s.header().failure_rank = 77;
    s.header().failed.store(1);
  });
  EXPECT_EQ(status.code(), Code::kPeerFailed);
  EXPECT_EQ(status.message(), "rank 1 reported: " + std::string(kShmTextBytes, 'x'));
}

TEST(ShmSegment, OfAnotherKindVersionRankOrJobIsRefused) {
  const std::string directory = "/dev/shm";
  const ShmIdentity identity{1, 2, 42};
  const auto open_after = [&](const std::function<void(ShmHeader&)>& change) {
    auto own = OwnSegment::create(directory, identity, 1 << 20);
    EXPECT_TRUE(own.ok()) << own.status().message();
    change(own->header());
    return PeerSegment::open(directory, own->name(), identity).status().code();
  };
  EXPECT_EQ(open_after([](ShmHeader&) {}), Code::kOk);
  EXPECT_EQ(open_after([](ShmHeader& h) { ++h.magic; }), Code::kCorrupt);
  EXPECT_EQ(open_after([](ShmHeader& h) { ++h.version; }), Code::kMismatch);
  EXPECT_EQ(open_after([](ShmHeader& h) { ++h.rank; }), Code::kMismatch);
  EXPECT_EQ(open_after([](ShmHeader& h) { ++h.size; }), Code::kMismatch);
  EXPECT_EQ(open_after([](ShmHeader& h) { ++h.job_hash; }), Code::kMismatch);
  EXPECT_EQ(open_after([](ShmHeader& h) { h.pool_bytes += kShmPage; }), Code::kCorrupt);
  EXPECT_EQ(open_after([](ShmHeader& h) { h.pool_bytes = ~uint64_t{0} << 12; }), Code::kCorrupt);
  EXPECT_EQ(open_after([](ShmHeader& h) { h.lane_slot_bytes *= 2; }), Code::kCorrupt);
}

TEST(ShmSegment, NamesThatLeadElsewhereAreRefused) {
  for (const char* name : {"", "../../etc/passwd", "cgx-/../../etc/passwd", "passwd"}) {
    EXPECT_EQ(PeerSegment::open("/dev/shm", name, {1, 2, 0}).status().code(), Code::kCorrupt) << name;
  }
}

TEST(ShmSegment, TheOwnerIsAliveUntilItLetsGo) {
  auto own = OwnSegment::create("/dev/shm", {1, 2, 0}, 1 << 20);
  ASSERT_TRUE(own.ok());
  auto peer = PeerSegment::open("/dev/shm", own->name(), {1, 2, 0});
  ASSERT_TRUE(peer.ok()) << peer.status().message();
  EXPECT_TRUE(peer->alive());
  { const OwnSegment gone = std::move(*own); }
  EXPECT_FALSE(peer->alive());
}

// Neither rank announces anything before it has sent three times what shared memory holds: the pools
// are full of messages that nobody releases, and both must still go on.
TEST(Shm, RanksThatSendMuchAndAnnounceLateDoNotWaitForEachOtherForEver) {
  constexpr int kMessages = 12;
  constexpr size_t kBytes = 2000000;
  run_ranks("shm", 2, [&](Transport& t) {
    const int peers[] = {1 - t.rank()};
    for (int i = 0; i < kMessages; ++i) {
      auto memory = t.acquire(kBytes, kWait);
      ASSERT_TRUE(memory.ok()) << memory.status().message();
      std::memset(*memory, i, kBytes);
      ASSERT_TRUE(t.send(*memory, kBytes, peers).ok());
      t.release(*memory);
    }
    for (int i = 0; i < kMessages; ++i) {
      ASSERT_TRUE(t.post(peers[0], kBytes).ok());
      auto memory = t.receive(peers[0], kBytes, kWait);
      ASSERT_TRUE(memory.ok()) << memory.status().message();
      EXPECT_TRUE((*memory)[0] == i && std::memcmp(*memory, *memory + 1, kBytes - 1) == 0);
      t.release(*memory);
    }
    EXPECT_TRUE(t.flush(kWait).ok());
  });
}

// One peer holds more small messages than a ring has places; the rest follow through the lane.
TEST(Shm, AReceiverMayHoldMoreMessagesThanARingHas) {
  constexpr size_t kMessages = kShmRing + 300;
  run_ranks("shm", 2, [&](Transport& t) {
    if (t.rank() == 0) {
      const int peers[] = {1};
      for (size_t i = 0; i < kMessages; ++i) {
        auto memory = t.acquire(8, kWait);
        ASSERT_TRUE(memory.ok()) << memory.status().message();
        std::memcpy(*memory, &i, 8);
        ASSERT_TRUE(t.send(*memory, 8, peers).ok());
        t.release(*memory);
      }
      EXPECT_TRUE(t.flush(kWait).ok());
      ASSERT_TRUE(t.post(1, 1).ok());
      EXPECT_TRUE(t.receive(1, 1, kWait).ok());
      return;
    }
    std::vector<const uint8_t*> held;
    for (size_t i = 0; i < kMessages; ++i) {
      ASSERT_TRUE(t.post(0, 8).ok());
      auto memory = t.receive(0, 8, kWait);
      ASSERT_TRUE(memory.ok()) << memory.status().message();
      held.push_back(*memory);
    }
    for (size_t i = 0; i < kMessages; ++i) EXPECT_EQ(std::memcmp(held[i], &i, 8), 0) << i;
    for (const uint8_t* memory : held) t.release(memory);
    const int peers[] = {0};
    auto memory = t.acquire(1, kWait);
    ASSERT_TRUE(memory.ok());
    ASSERT_TRUE(t.send(*memory, 1, peers).ok());
    t.release(*memory);
    EXPECT_TRUE(t.flush(kWait).ok());
  });
}

TEST(Shm, MoreRanksThanAMaskHoldsAreRefused) {
  const std::unique_ptr<Store> store = make_memory_store();
  const Status status = open_transport("shm", config_of(store.get(), 0, 65)).status();
  EXPECT_EQ(status.code(), Code::kUnsupported);
  EXPECT_NE(status.message().find("64"), std::string::npos) << status.message();
}

}  // namespace
}  // namespace cgx::test
