// Layouts that plans are tried on: one segment, and many small odd ones of different codecs.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "codec/layout.h"
#include "plan/algorithm_list.h"
#include "plan/plan.h"

namespace cgx::test {

inline CodecSpec spec_of(const std::string& text) {
  auto spec = parse_spec(text);
  EXPECT_TRUE(spec.ok()) << spec.status().message();
  return *spec;
}

inline Layout uniform(uint64_t count, const std::string& spec, DType dtype = DType::kF32) {
  auto layout = Layout::uniform(dtype, count, spec_of(spec), 7);
  EXPECT_TRUE(layout.ok()) << layout.status().message();
  return *layout;
}

// Segments of 1, 300, 64, 1023, ... elements that take the specs in turn; the last one is cut to fit.
inline Layout mixed(uint64_t count, const std::vector<std::string>& specs, DType dtype = DType::kF32) {
  constexpr uint64_t kCounts[] = {1, 300, 64, 1023, 7, 2048, 256, 513, 5000};
  std::vector<Segment> segments;
  for (uint64_t offset = 0; offset < count; offset += segments.back().count) {
    const size_t i = segments.size();
    const uint64_t length = std::min(kCounts[i % std::size(kCounts)], count - offset);
    segments.push_back({offset, length, spec_of(specs[i % specs.size()]), static_cast<uint32_t>(100 + i)});
  }
  auto layout = Layout::make(dtype, count, segments);
  EXPECT_TRUE(layout.ok()) << layout.status().message();
  return *layout;
}

inline const std::vector<std::string> kMixedSpecs = {"none", "maxmin:bits=4,bucket=64", "topk:ratio=0.1",
                                                     "maxmin:bits=2,bucket=0"};

// The hosts of `size` ranks: all on one, each on its own, and what lies between: equal and unequal ones,
// neighbours together or dealt out in turn, numbered in any way.
inline std::vector<std::vector<int>> groupings(int size) {
  std::vector<std::vector<int>> all(7);
  for (int r = 0; r < size; ++r) {
    all[0].push_back(0);
    all[1].push_back(r);
    all[2].push_back(r / 2);
    all[3].push_back(r % 2);
    all[4].push_back(7 - r % 3);
    all[5].push_back(r == 0 ? 1 : 0);
    all[6].push_back(r < size / 3 ? 4 : r < size - 1 ? 2 : 9);
  }
  return all;
}

inline std::vector<Plan> plans_of(const Algorithm& algorithm, PlanKey key) {
  std::vector<Plan> plans;
  for (key.rank = 0; key.rank < key.size; ++key.rank) plans.push_back(algorithm.plan(key));
  return plans;
}

}  // namespace cgx::test
