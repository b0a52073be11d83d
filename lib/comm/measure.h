// Measures what cost.h needs to know, through the transport that collectives use and into its own message
// memory: latencies of all pairs, the link alone and with everybody sending at once, and each candidate
// codec. Where codecs and not the link decide, collectives of each Scale are then run with each codec, and
// its figures scaled so that the cost model gives their time; where the link decides, a large uncompressed
// one is, and says what a byte takes that comes from memory and goes there. Otherwise a codec that was run
// would be compared with one that was not. The ranks exchange what they measured and take the slowest of each
// figure, rounded: all hold the same profile, bit for bit.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "base/status.h"
#include "plan/cost.h"
#include "transport/transport.h"

namespace cgx {

// What one rank measured, as it travels: all times in picoseconds.
struct Measurement {
  static constexpr size_t kMaxCodecs = 8;
  static constexpr uint64_t kMagic = 0x3550584743;  // "CGXP5"

  struct Times {  // of an element
    uint64_t encode, decode;

    void scale(double encode_factor, double decode_factor);
  };
  using Codec = std::array<Times, kScales>;  // by Scale

  uint64_t magic = kMagic;
  uint64_t call = 0;
  uint64_t latency = 0;
  uint64_t message = 0;
  uint64_t pair_byte = 0;
  uint64_t all_byte = 0;
  uint64_t short_byte = 0;
  uint64_t cpu_byte = 0;
  uint64_t inside_latency = 0;
  uint64_t inside_byte = 0;
  uint64_t leader_byte = 0;
  uint64_t cold_links = 1000;  // in thousandths, as one_shot
  uint64_t one_shot = 1000;
  uint64_t host = 0;                          // the same number for ranks that share processors
  uint64_t cores = 1;                         // of that host
  std::array<Codec, kMaxCodecs> codecs = {};  // in the order of candidates()
};

struct MeasureArgs {
  Transport* transport = nullptr;
  int64_t timeout_ms = 0;
};

// Collective. Takes a quarter to half a second on links of 1 Gb/s and more.
Result<Measurement> measure(const MeasureArgs& args);
// Collective: what all ranks measured, in rank order.
Result<std::vector<Measurement>> exchange(const MeasureArgs& args, const Measurement& own);
// The same profile on every rank that is given the same measurements. `hosts`: Transport::hosts().
Profile agree_on(const std::vector<Measurement>& all, const std::vector<int>& hosts = {});

}  // namespace cgx
