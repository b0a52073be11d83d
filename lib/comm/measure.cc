// See measure.h. What ranks measured is exchanged, and made one profile.
#include "comm/measure.h"

#include <cstring>

#include "codec/candidates.h"
#include "comm/prober.h"
#include "comm/processors.h"

namespace cgx {
namespace {

// Three significant digits, upward at the half: two may be 5 % off, which is what choices are about. In
// integers, so that no machine rounds in another way.
uint64_t round_three_digits(uint64_t value) {
  uint64_t unit = 1;
  while (value / unit >= 1000) unit *= 10;
  return (value + unit / 2) / unit * unit;
}

}  // namespace

void Measurement::Times::scale(double encode_factor, double decode_factor) {
  encode = static_cast<uint64_t>(static_cast<double>(encode) * encode_factor);
  decode = static_cast<uint64_t>(static_cast<double>(decode) * decode_factor);
}

Status Prober::measure(Measurement* m) {
  const Processors own = own_processors();
  m->host = own.host;
  m->cores = own.cores;
  if (size_ == 1) return {};
  CGX_RETURN_IF_ERROR(latency(m));
  CGX_RETURN_IF_ERROR(burst(m));
  CGX_RETURN_IF_ERROR(all_links(m));
  CGX_RETURN_IF_ERROR(pair_links(m));
  CGX_RETURN_IF_ERROR(short_messages(m));
  CGX_RETURN_IF_ERROR(level_links(m));
  CGX_RETURN_IF_ERROR(codecs(m));
  return fit(m);
}

Result<std::vector<Measurement>> Prober::exchange(const Measurement& own) {
  std::vector<Measurement> all(static_cast<size_t>(size_), own);
  if (size_ == 1) return all;
  for (const int peer : others_) CGX_RETURN_IF_ERROR(t_.post(peer, sizeof(Measurement)));
  CGX_ASSIGN_OR_RETURN(uint8_t * message, t_.acquire(sizeof(Measurement), wait_));
  std::memcpy(message, &own, sizeof(Measurement));
  Status sent = t_.send(message, sizeof(Measurement), others_);
  t_.release(message);
  CGX_RETURN_IF_ERROR(std::move(sent));
  for (const int peer : others_) {
    CGX_ASSIGN_OR_RETURN(const uint8_t* theirs, t_.receive(peer, sizeof(Measurement), wait_));
    Measurement& m = all[static_cast<size_t>(peer)];
    std::memcpy(&m, theirs, sizeof(Measurement));
    t_.release(theirs);
    if (m.magic != Measurement::kMagic) {
      return error(Code::kMismatch, "rank {} sent no measurement (0x{:x}): it runs another version of cgx",
                   peer, m.magic);
    }
  }
  return all;
}

Result<Measurement> measure(const MeasureArgs& args) {
  Measurement m;
  CGX_RETURN_IF_ERROR(Prober(args).measure(&m));
  return m;
}

Result<std::vector<Measurement>> exchange(const MeasureArgs& args, const Measurement& own) {
  return Prober(args).exchange(own);
}

Profile agree_on(const std::vector<Measurement>& all, const std::vector<int>& hosts) {
  const auto slowest = [&all](auto field) {
    uint64_t worst = 0;
    for (const Measurement& m : all) worst = std::max(worst, field(m));
    return static_cast<double>(round_three_digits(worst)) / 1000;
  };
  Profile p;
  p.size = static_cast<int>(all.size());
  set_hosts(hosts, &p);
  p.call = slowest([](const Measurement& m) { return m.call; });
  p.latency = slowest([](const Measurement& m) { return m.latency; });
  p.message = slowest([](const Measurement& m) { return m.message; });
  p.pair_byte = slowest([](const Measurement& m) { return m.pair_byte; });
  p.all_byte = slowest([](const Measurement& m) { return m.all_byte; });
  p.short_byte = slowest([](const Measurement& m) { return m.short_byte; });
  p.cpu_byte = slowest([](const Measurement& m) { return m.cpu_byte; });
  p.inside_latency = slowest([](const Measurement& m) { return m.inside_latency; });
  p.inside_byte = slowest([](const Measurement& m) { return m.inside_byte; });
  p.leader_byte = slowest([](const Measurement& m) { return m.leader_byte; });
  p.cold_links = slowest([](const Measurement& m) { return m.cold_links; });
  p.one_shot = slowest([](const Measurement& m) { return m.one_shot; });
  std::vector<Processors> processors;
  for (const Measurement& m : all) processors.push_back({m.host, m.cores});
  p.crowding = crowding_of(processors);
  const std::vector<Candidate> list = candidates();
  CGX_CHECK(list.size() <= Measurement::kMaxCodecs);
  for (size_t i = 0; i < list.size(); ++i) {
    CodecCost cost;
    cost.spec = list[i].spec;
    for (size_t s = 0; s < kScales; ++s) {
      cost.at[s].encode = slowest([&](const Measurement& m) { return m.codecs[i][s].encode; });
      cost.at[s].decode = slowest([&](const Measurement& m) { return m.codecs[i][s].decode; });
    }
    p.codecs.push_back(cost);
  }
  return p;
}

}  // namespace cgx
