// See stats.h.
#include "comm/stats.h"

#include <algorithm>

namespace cgx {

void CommunicatorStats::add(const CommunicatorStats& other) {
  collectives += other.collectives;
  failed += other.failed;
  accounting.elements += other.accounting.elements;
  accounting.compressed += other.accounting.compressed;
  accounting.raw += other.accounting.raw;
  accounting.too_small += other.accounting.too_small;
  accounting.not_float += other.accounting.not_float;
  accounting.not_sum += other.accounting.not_sum;
  run.counts.elements += other.run.counts.elements;
  run.counts.saturated += other.run.counts.saturated;
  run.counts.non_finite += other.run.counts.non_finite;
  run.raw_bytes += other.run.raw_bytes;
  run.wire_bytes += other.run.wire_bytes;
  run.encode_seconds += other.run.encode_seconds;
  run.decode_seconds += other.run.decode_seconds;
  run.wait_seconds += other.run.wait_seconds;
}

void Histogram::count(double one) {
  size_t above = 0;  // bounds are few: no search is faster
  for (const double bound : kBounds) above += bound < one ? 1 : 0;
  ++counts[above];
  seconds += one;
}

void Histogram::add(const Histogram& other) {
  for (size_t i = 0; i < counts.size(); ++i) counts[i] += other.counts[i];
  seconds += other.seconds;
}

void Snapshot::add(const Snapshot& other) {
  last_wall_seconds = std::max(last_wall_seconds, other.last_wall_seconds);
  stats.add(other.stats);
  times.add(other.times);
  for (const auto& [name, bytes] : other.codecs) {
    codecs[name].raw += bytes.raw;
    codecs[name].wire += bytes.wire;
  }
}

}  // namespace cgx
