// A thread that helps may run out of memory: that is this rank's error, and the end of nothing else.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <memory>
#include <new>
#include <string>

#include "plan/algorithm_list.h"
#include "plan/ranks_run.h"

namespace {

constexpr size_t kTileBytes = 8192 * sizeof(float);  // of a sum, and of nothing else here
std::atomic<bool> refuses_helpers = false;           // kTileBytes
std::atomic<bool> one_was_refused = false;
thread_local bool is_rank = false;

}  // namespace

// Ranks' own threads wait in their part of a sum until a helper has come to another. Not inlined: GCC would
// see free() of what it takes for the usual operator new.
[[gnu::noinline]] void* operator new(size_t bytes) {
  if (bytes == kTileBytes && refuses_helpers) {
    if (!is_rank) {
      one_was_refused = true;
      one_was_refused.notify_all();
      throw std::bad_alloc();
    }
    one_was_refused.wait(false);
  }
  if (void* memory = std::malloc(bytes)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept { std::free(memory); }

namespace cgx {
namespace {

TEST(Memory, AHelperWithoutItIsAnErrorOfItsRank) {
  const Layout layout = test::uniform(200003, "maxmin:bits=4");
  const auto plans = test::plans_of(*find_algorithm("scatter_gather"), {0, 2, layout, uint64_t{1} << 20});
  test::RunOptions options;
  options.threads = 2;
  options.wrap = [](Transport&) -> std::unique_ptr<Transport> {
    is_rank = true;
    return nullptr;
  };
  refuses_helpers = true;
  const test::Outcome outcome = test::run_plans(layout, plans, options);
  refuses_helpers = false;
  EXPECT_TRUE(one_was_refused);
  const std::string resource = fmt::format("{}: ", static_cast<int>(Code::kResource));
  const std::string failed = fmt::format("{}: ", static_cast<int>(Code::kPeerFailed));
  int refused = 0;
  for (const std::string& problem : outcome.errors) {
    const bool own = problem.starts_with(resource) && problem.find("out of memory") != std::string::npos;
    EXPECT_TRUE(own || problem.starts_with(failed)) << problem;
    refused += own;
  }
  EXPECT_GE(refused, 1);
}

}  // namespace
}  // namespace cgx
