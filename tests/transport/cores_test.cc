// Who may spin: ranks that can have a core each.
#include "transport/cores.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <cstddef>
#include <vector>

namespace cgx {
namespace {

Cores cores_of(const std::vector<size_t>& cpus) {
  Cores cores = {};
  for (const size_t cpu : cpus) cores.words[cpu / 64] |= uint64_t{1} << (cpu % 64);
  return cores;
}

bool fit(const std::vector<Cores>& ranks) { return can_have_one_each(ranks); }

TEST(Cores, AreEnoughWhereRanksAreNoMoreThanThoseThatAnyMayUse) {
  EXPECT_TRUE(fit({cores_of({3})}));
  EXPECT_TRUE(fit({cores_of({0, 1}), cores_of({0, 1})}));
  EXPECT_TRUE(fit({cores_of({0}), cores_of({1023})}));  // as launchers bind ranks
  EXPECT_FALSE(fit({cores_of({70}), cores_of({70})}));
  EXPECT_FALSE(fit({cores_of({0, 1}), cores_of({0, 1}), cores_of({1})}));
  EXPECT_FALSE(fit({cores_of({0}), cores_of({0}), cores_of({1, 2})})) << "two share one, whoever has more";
  EXPECT_FALSE(fit({cores_of({0}), cores_of({0, 1}), cores_of({0, 1}), cores_of({2, 3, 4})}));
  EXPECT_TRUE(fit({cores_of({0}), cores_of({0, 1}), cores_of({2, 3, 4})}));
  EXPECT_FALSE(fit({cores_of({})})) << "where the system does not say";
}

TEST(Cores, OfThisThreadAreWhatItIsBoundTo) {
  cpu_set_t before;
  ASSERT_EQ(sched_getaffinity(0, sizeof before, &before), 0);
  size_t first = 0;
  while (!CPU_ISSET(first, &before)) ++first;
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(first, &one);
  ASSERT_EQ(sched_setaffinity(0, sizeof one, &one), 0);
  const Cores bound = Cores::own();
  EXPECT_TRUE(fit({bound}));
  EXPECT_FALSE(fit({bound, bound}));
  ASSERT_EQ(sched_setaffinity(0, sizeof before, &before), 0);
  const size_t count = static_cast<size_t>(CPU_COUNT(&before));
  EXPECT_TRUE(fit(std::vector<Cores>(count, Cores::own())));
  EXPECT_FALSE(fit(std::vector<Cores>(count + 1, Cores::own())));
}

}  // namespace
}  // namespace cgx
