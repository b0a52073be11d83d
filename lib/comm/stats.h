// The totals of a communicator, and all else that its reports are made of.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>

#include "comm/accounting.h"
#include "comm/ledger.h"
#include "plan/run.h"

namespace cgx {

struct CommunicatorStats {
  uint64_t collectives = 0;
  uint64_t failed = 0;
  Accounting accounting;
  RunStats run;

  void add(const CommunicatorStats& other);
};

// How long collectives took: counts by upper bounds in seconds, the last one without.
struct Histogram {
  static constexpr std::array<double, 13> kBounds = {1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2,
                                                     3e-2, 1e-1, 3e-1, 1,    3,    10};
  std::array<uint64_t, kBounds.size() + 1> counts = {};
  double seconds = 0;

  void count(double one);
  void add(const Histogram& other);
};

// A communicator as its reports show it.
struct Snapshot {
  int rank = 0, size = 1;
  std::string job, transport;
  double age_seconds = 0;
  double last_wall_seconds = 0;  // when the last collective ended, since 1970; 0: never
  CommunicatorStats stats;
  Histogram times;  // of collectives that ended well
  std::map<std::string, CodecBytes> codecs;
  std::string last_failure;  // "" if there was none

  void add(const Snapshot& other);
};

}  // namespace cgx
