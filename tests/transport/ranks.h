// Runs ranks as threads over any transport of the list. Each thread owns its transport from opening to
// closing, as a rank must.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "transport/store.h"
#include "transport/transport_list.h"

namespace cgx::test {

using Body = std::function<void(Transport&)>;

inline TransportConfig config_of(Store* store, int rank, int size, int64_t timeout_ms = 30000) {
  TransportConfig config;
  config.rank = rank;
  config.size = size;
  config.store = store;
  config.timeout_ms = timeout_ms;
  config.interface_name = "lo";
  return config;
}

using Adjust = std::function<void(TransportConfig&)>;

// Opens `size` ranks and runs body on each in a thread of its own.
inline void run_ranks(
    const std::string& transport, int size, const Body& body,
    const Adjust& adjust = [](TransportConfig&) {}) {
  const std::unique_ptr<Store> store = make_memory_store();
  std::vector<std::thread> threads;
  for (int rank = 0; rank < size; ++rank) {
    threads.emplace_back([&, rank] {
      TransportConfig config = config_of(store.get(), rank, size);
      adjust(config);
      auto opened = open_transport(transport, config);
      ASSERT_TRUE(opened.ok()) << "rank " << rank << ": " << opened.status().message();
      body(**opened);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace cgx::test
