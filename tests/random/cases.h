// What the random runner runs, from nothing but a seed: worlds (ranks, transport, algorithm, hosts) and in
// each a row of collectives, with every rank's elements. Each process and thread makes them again for itself.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "codec/layout.h"
#include "plan/run.h"

namespace cgx::random {

struct World {
  uint64_t seed = 0;
  std::string transport;
  std::string algorithm;
  std::string inner_codec;
  int size = 1;
  std::vector<int> hosts;  // of each rank; empty: as the machine is
  uint64_t slice_bytes = 0;
  uint32_t threads = 1;
  bool processes = false;  // else ranks are threads

  std::string words() const;
};

enum class Elements : uint8_t {
  kExact,    // small whole numbers: every order of summing gives the same, in every type
  kNormal,   // like gradients
  kSpecial,  // with NaN, infinities, zeros of both signs and subnormals in places
};

struct Case {
  DType dtype = DType::kF32;
  ReduceOp op = ReduceOp::kSum;
  bool average = false;
  bool in_place = false;
  Elements elements = Elements::kExact;
  uint64_t count = 0;
  std::vector<Segment> segments;  // as asked for; codecs that cannot serve among them
  uint64_t offset = 0;            // of its results among those of the world's other cases, in bytes

  uint64_t bytes() const { return count * dtype_bytes(dtype); }
  std::string words() const;
};

World make_world(uint64_t seed, const std::vector<std::string>& transports);
std::vector<Case> make_cases(const World& world, uint64_t cases);
// The elements of one rank.
std::vector<uint8_t> make_input(const World& world, const Case& one, size_t index, int rank);

}  // namespace cgx::random
