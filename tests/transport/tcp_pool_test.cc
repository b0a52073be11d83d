// The pool of tcp's messages: what comes back is used again, and coming back needs no memory.
#include "transport/tcp_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>
#include <vector>

namespace {
std::atomic<int> allocations = 0;
}

// Not inlined: GCC would see free() of what it takes for the usual operator new.
[[gnu::noinline]] void* operator new(size_t bytes) {
  ++allocations;
  if (void* memory = std::malloc(bytes)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept { std::free(memory); }

namespace cgx {
namespace {

// A frame that has gone leaves the queue and gives its message back: did that throw, the frame would go
// twice.
TEST(TcpPool, GivingBackAllocatesNothing) {
  TcpPool pool;
  std::vector<TcpMessage*> messages;
  for (size_t bytes = 1; bytes < (size_t{1} << 20); bytes += 1 + bytes / 3) {
    for (int i = 0; i < 20; ++i) messages.push_back(pool.take(bytes));
  }
  for (TcpMessage* message : messages) pool.add_unsent(message);
  const int before = allocations;
  for (TcpMessage* message : messages) pool.release(message);
  for (TcpMessage* message : messages) pool.sent(message);
  EXPECT_EQ(allocations, before);
  EXPECT_EQ(pool.unsent_messages(), 0u);
}

TEST(TcpPool, TheMessageThatCameBackLastIsTakenFirst) {
  TcpPool pool;
  TcpMessage* one = pool.take(5000);
  TcpMessage* two = pool.take(5000);
  pool.release(one);
  pool.release(two);
  EXPECT_EQ(pool.take(5000), two);
  EXPECT_EQ(pool.take(4500), one) << "of the same class";
  EXPECT_EQ(pool.unsent_bytes(), 0u);
}

}  // namespace
}  // namespace cgx
