// See cost.h.
#include "plan/cost.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <map>

#include "plan/algorithms/algorithms.h"

namespace cgx {
namespace {

// The largest tensors of their scale.
constexpr uint64_t kSmallBytes = 32 << 10;
constexpr uint64_t kCachedBytes = 512 << 10;

// Where a codec was not measured: what 4-bit max-min costs on a core of 2020, and a copy.
constexpr double kLossyEncode = 0.3, kLossyDecode = 0.2;
constexpr double kRawEncode = 0.15, kRawDecode = 0.2;

// The measured codec that is most like `spec`: the same, else of the same kind with the nearest number of
// bits.
ElementCost cost_of(const CodecSpec& spec, const Profile& profile, Scale scale) {
  const CodecCost* best = nullptr;
  int best_distance = 1 << 16;
  for (const CodecCost& cost : profile.codecs) {
    if (cost.spec.values.kind != spec.values.kind || is_sparse(spec)) continue;
    const int distance = std::abs(int{cost.spec.values.bits} - int{spec.values.bits});
    if (distance >= best_distance) continue;
    best = &cost;
    best_distance = distance;
  }
  if (best != nullptr) return best->at[static_cast<size_t>(scale)];
  const bool raw = spec.kind == CodecKind::kNone || is_auto(spec);
  return raw ? ElementCost{kRawEncode, kRawDecode} : ElementCost{kLossyEncode, kLossyDecode};
}

double wire_of(const Load& load) { return load.links * static_cast<double>(load.wire_bytes); }

// What a byte of the tensor becomes.
double ratio_of(const Load& load) {
  return static_cast<double>(load.wire_bytes) / static_cast<double>(std::max<uint64_t>(1, load.raw_bytes));
}

// Of a byte in messages of `raw_bytes` before they are encoded, while all send to all. Long ones may overflow
// a queue that short ones do not (docs/DESIGN.md, Incast).
double all_byte_of(double raw_bytes, const Load& load, const Profile& p) {
  const bool is_short = p.short_byte != 0 && raw_bytes * ratio_of(load) <= static_cast<double>(kShortMessage);
  return is_short ? std::min(p.short_byte, p.all_byte) : p.all_byte;
}

double ranks_of(const Profile& profile) { return static_cast<double>(profile.size); }

double turns_of(double raw_bytes, uint64_t slice_bytes) {
  return std::max(1.0, std::ceil(raw_bytes / static_cast<double>(std::max<uint64_t>(1, slice_bytes))));
}

// `turns` turns that together need `cpu` of the processor and `link` of the link.
double pipelined(double turns, double cpu, double link) {
  return (cpu + link + (turns - 1) * std::max(cpu, link)) / turns;
}

// The least that the turns after the first take, whatever their bytes.
double on_the_way(double turns, const Turn& turn, const Load& load, const Profile& p) {
  return (turns - 1) * p.latency / depth_of(turn, load, p);
}

// Between hosts, eight ranks that send to all at once overflow a switch with short queues (docs/DESIGN.md,
// Incast), and with long ones gain nothing over ring: enough for ring to be chosen where bytes decide.
constexpr int kSwampingSize = 8;
constexpr double kSwamped = 1.3;

}  // namespace

uint32_t depth_of(const Turn& turn, const Load& load, const Profile& profile) {
  constexpr double kByteNs = 0.8;
  constexpr double kOfAPair = 4 << 20, kOfAll = 16 << 20, kDeepest = 32;
  const double slice =
      static_cast<double>(turn.among ? slice_among(profile.size, load.slice_bytes) : load.slice_bytes);
  const double chunk = static_cast<double>(load.raw_bytes) / turn.chunks;
  const double message =
      std::max({1.0, std::min(slice, chunk) * ratio_of(load), static_cast<double>(load.uncut_bytes)});
  const double way_ns = static_cast<double>(profile.links.round_trip_us) * 1000 / 2;
  const double peers = turn.peers;
  // A slice has two messages under way: contribution and sum.
  const double wanted = std::max<double>(profile.links.streams, way_ns / kByteNs / peers / (2 * message));
  const double most = std::min({kOfAPair / (2 * message), kOfAll / peers / (2 * message), kDeepest,
                                std::ceil(chunk / std::max(1.0, slice))});
  const auto depth = static_cast<uint32_t>(std::max(1.0, std::min(wanted, most)));
  return profile.links.shared_inside ? std::min(depth, turn.deepest_inside) : depth;
}

Scale scale_of(uint64_t raw_bytes) {
  if (raw_bytes <= kSmallBytes) return Scale::kSmall;
  return raw_bytes <= kCachedBytes ? Scale::kCached : Scale::kMemory;
}

Profile default_profile(int size, bool same_host, const std::vector<int>& hosts) {
  constexpr double kInsideLatency = 2e3, kInsideByte = 0.05;
  Profile p;
  p.size = size;
  set_hosts(hosts, &p);
  p.latency = same_host ? kInsideLatency : 30e3;
  p.message = same_host ? 200 : 2e3;
  p.pair_byte = same_host ? kInsideByte : 0.8;
  const auto swamped = [](int ranks) { return ranks >= kSwampingSize ? kSwamped : 1; };
  p.all_byte = p.pair_byte * (same_host ? 1 : swamped(size));
  p.inside_latency = kInsideLatency;
  p.inside_byte = kInsideByte;
  p.leader_byte = p.pair_byte * (same_host ? 1 : swamped(p.hosts));
  if (p.hosts > 1 && p.largest_host > 1) {
    // The ranks of a host share its link for what they send to other hosts.
    const double others = size - p.largest_host;
    p.all_byte *= p.largest_host * others / (size - 1);
  }
  return p;
}

void set_hosts(const std::vector<int>& hosts, Profile* profile) {
  std::map<int, int> ranks;
  for (const int host : hosts) ++ranks[host];
  profile->hosts = std::max(1, static_cast<int>(ranks.size()));
  profile->largest_host = hosts.empty() ? profile->size : 1;
  for (const auto& [host, count] : ranks) profile->largest_host = std::max(profile->largest_host, count);
}

Load load_of(const Layout& layout, const Profile& profile, uint64_t slice_bytes,
             const CodecSpec& inner_codec) {
  Load load;
  load.raw_bytes = layout.count() * dtype_bytes(layout.dtype());
  load.wire_bytes = layout.wire_bytes(0, layout.count());
  load.slice_bytes = slice_bytes;
  const Scale scale = scale_of(load.raw_bytes);
  if (scale == Scale::kMemory) load.links = profile.cold_links;
  const CodecSpec none;
  for (const Segment& segment : layout.segments()) {
    const bool raw = is_raw(segment.spec, layout.dtype(), segment.count);
    const ElementCost cost = cost_of(raw ? none : segment.spec, profile, scale);
    if (granule(segment.spec) == 0) {
      load.uncut_bytes =
          std::max<uint64_t>(load.uncut_bytes, encoded_bytes(segment.spec, layout.dtype(), segment.count));
    }
    load.encode_ns += cost.encode * static_cast<double>(segment.count);
    load.decode_ns += cost.decode * static_cast<double>(segment.count);
    const CodecSpec& inner = segment.spec.kind == CodecKind::kNone ? none : inner_codec;
    const ElementCost inner_cost =
        cost_of(is_raw(inner, layout.dtype(), segment.count) ? none : inner, profile, scale);
    load.inner_bytes += encoded_bytes(inner, layout.dtype(), segment.count);
    load.inner_encode_ns += inner_cost.encode * static_cast<double>(segment.count);
    load.inner_decode_ns += inner_cost.decode * static_cast<double>(segment.count);
  }
  return load;
}

double scatter_gather_ns(const Load& load, const Profile& p) {
  const double n = ranks_of(p);
  if (p.size < 2) return load.decode_ns;
  const double chunk = static_cast<double>(load.raw_bytes) / n;
  const uint64_t slice = slice_among(p.size, load.slice_bytes);
  const double turns = turns_of(chunk, slice);
  const double byte = all_byte_of(std::min(chunk, static_cast<double>(slice)), load, p);
  const double bytes = 2 * (n - 1) / n * wire_of(load);
  const double cpu = load.encode_ns + load.decode_ns * (2 * n - 1) / n + bytes * p.cpu_byte +
                     turns * 2 * (n - 1) * p.message;
  const double link =
      std::max(bytes * byte, on_the_way(turns, scatter_gather_turn(p.size, p.hosts), load, p));
  return p.call + 2 * p.latency + pipelined(turns, cpu * p.crowding, link);
}

double allgather_ns(const Load& load, const Profile& p) {
  const double n = ranks_of(p);
  if (p.size < 2) return load.decode_ns;
  const double raw_bytes = static_cast<double>(load.raw_bytes);
  const double turns = turns_of(raw_bytes, load.slice_bytes);
  const double byte = all_byte_of(std::min(raw_bytes, static_cast<double>(load.slice_bytes)), load, p);
  const double bytes = (n - 1) * wire_of(load);
  const double times = scale_of(load.raw_bytes) == Scale::kSmall ? 1 : p.one_shot;
  const double cpu =
      (load.encode_ns + load.decode_ns * n) * times + bytes * p.cpu_byte + turns * (n - 1) * p.message;
  const double link = std::max(bytes * byte, on_the_way(turns, allgather_turn(p.size, p.hosts), load, p));
  return p.call + p.latency + pipelined(turns, cpu * p.crowding, link);
}

// Twice as many slices as the pipeline is deep walk together: while some are summed the others are on their
// way.
double ring_ns(const Load& load, const Profile& p) {
  const double n = ranks_of(p);
  if (p.size <= 2) return scatter_gather_ns(load, p);  // the same exchange
  const double hops = 2 * (n - 1);
  const double slices = turns_of(static_cast<double>(load.raw_bytes) / n, load.slice_bytes);
  const double together = std::clamp(slices, 2.0, 2.0 * depth_of(ring_turn(p.size, p.hosts), load, p));
  const double turns = std::ceil(slices / together);
  const double bytes = hops / n * wire_of(load);
  const double cpu = load.encode_ns * (2 * n - 2) / n + load.decode_ns * (2 * n - 1) / n +
                     bytes * p.cpu_byte + turns * hops * together * p.message;
  const double steps = turns * hops;
  const double c = cpu * p.crowding / steps;
  const double l = bytes * p.pair_byte / steps;
  return p.call + steps * std::max({c, l, p.latency + (c + l) / 2});
}

// Without several ranks on one of several hosts it is what scatter_gather is, or worse: all through one rank.
double hierarchical_ns(const Load& load, const Profile& p) {
  const double h = p.hosts, g = p.largest_host;
  if (p.hosts < 2 || p.largest_host < 2) return scatter_gather_ns(load, p);
  const double wire = wire_of(load), inner = load.links * static_cast<double>(load.inner_bytes);
  const double turns =
      turns_of(static_cast<double>(load.raw_bytes) / h, slice_among(p.size, load.slice_bytes));
  const double between = 2 * (h - 1) / h * wire;
  const double inside = (g - 1) * (inner + wire);
  const double leader = load.encode_ns + load.decode_ns * (2 * h - 1) / h + (g - 1) * load.inner_decode_ns +
                        (between + inside) * p.cpu_byte + turns * (2 * (h - 1) + 2 * (g - 1) * h) * p.message;
  const double member = load.inner_encode_ns + load.decode_ns + (inner + wire) * p.cpu_byte;
  const double cpu = std::max(leader, (leader + (g - 1) * member) / g * p.crowding);
  const double link = std::max({between * p.leader_byte, inside * p.inside_byte,
                                on_the_way(turns, hierarchical_turn(p.size, p.hosts), load, p)});
  return p.call + 2 * p.latency + 2 * p.inside_latency + pipelined(turns, cpu, link);
}

// The first slice climbs and descends level by level; the others follow as fast as the root, the busiest
// rank, works and sends, or as all ranks' work fits their processors.
double tree_ns(const Load& load, const Profile& p) {
  const double n = ranks_of(p);
  if (p.size < 2) return load.decode_ns;
  const double depth = tree_depth(p.size);
  const double children = std::bit_width(static_cast<unsigned>(p.size - 1));  // of the root
  const double turns = turns_of(static_cast<double>(load.raw_bytes), load.slice_bytes);
  const double encode = load.encode_ns / turns, decode = load.decode_ns / turns;
  const double bytes = wire_of(load) / turns;
  const double hop = p.latency + bytes * p.pair_byte + 2 * p.message;
  const double first = encode * (p.crowding - 1) + depth * (encode + 2 * decode + 2 * hop) + encode + decode;
  const double root =
      encode + (children + 1) * decode + 2 * children * p.message + children * bytes * p.cpu_byte;
  const double all = encode + 3 * decode + 4 * p.message + 2 * bytes * p.cpu_byte;
  const double link = children * bytes * p.all_byte;
  const double way = depth * p.latency / depth_of(tree_turn(p.size, p.hosts), load, p);
  const double following = std::max({root, all * p.crowding * (n - 1) / n, link, way});
  return p.call + first + (turns - 1) * following;
}

}  // namespace cgx
