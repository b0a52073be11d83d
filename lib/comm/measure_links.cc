// Probes of links: latencies of all pairs, small messages in a row, and bandwidth, alone and with all
// sending.
#include <cstring>

#include "comm/prober.h"

namespace cgx {
namespace {

constexpr size_t kBulk = 128 << 10;  // bytes of one whose time is bandwidth
constexpr size_t kShort = 16 << 10;
constexpr double kSwamped = 1.5;  // times as long as between pairs
constexpr int kRoundTrips = 8;
constexpr size_t kBurst = 32;     // small messages that follow each other
constexpr size_t kFirstBulk = 2;  // to find out about how fast the link is, and past a shaper's burst
constexpr double kBulkNs = 10e6;  // of the two measurements of bandwidth, each
constexpr size_t kMaxBulk = 32;   // messages a peer

}  // namespace

// Rank r's partner in a round of a tournament in which everybody meets everybody; -1: none.
int Prober::partner(int round) const {
  const int seats = size_ + size_ % 2;
  const int circle = seats - 1;
  int peer = rank_ == seats - 1 ? round * (seats / 2) % circle : (round + circle - rank_) % circle;
  if (peer == rank_) peer = seats - 1;
  return peer < size_ ? peer : -1;
}

Status Prober::each_pair(const std::function<Status(int)>& work) {
  const int rounds = size_ + size_ % 2 - 1;
  for (int round = 0; round < rounds; ++round) {
    if (const int peer = partner(round); peer >= 0) CGX_RETURN_IF_ERROR(work(peer));
  }
  return {};
}

Status Prober::send(size_t bytes, std::span<const int> peers) {
  CGX_ASSIGN_OR_RETURN(const Transport::Lent lent, t_.acquire_for(peers, bytes, wait_));
  uint8_t* message = lent.memory;
  std::memset(message, 0, std::min(bytes, kSmall));
  Status sent = t_.send(message, bytes, peers);
  t_.release(message);
  return sent;
}

Status Prober::receive(int peer, size_t bytes) {
  CGX_ASSIGN_OR_RETURN(const uint8_t* message, t_.receive(peer, bytes, wait_));
  t_.release(message);
  return {};
}

// Nanoseconds to the farthest of them, as far as transports know: next to nothing inside a host.
double Prober::way_ns(const std::vector<int>& peers) const {
  const bool far =
      std::any_of(peers.begin(), peers.end(), [&](int peer) { return host_of(peer) != host_of(rank_); });
  return far ? static_cast<double>(t_.links().round_trip_us) * 1000 / 2 : 0;
}

// Messages that are sent before one is received, so that a link is busy: few where memory is shared. All
// ranks have the same number of peers, and so of these.
size_t Prober::lead(size_t bytes, const std::vector<int>& peers) const {
  constexpr double kByteNs = 0.8, kMost = 16, kMostInside = 4;
  const double messages =
      way_ns(peers) / kByteNs / static_cast<double>(peers.size()) / static_cast<double>(bytes);
  return static_cast<size_t>(std::clamp(messages, 1.0, t_.links().shared_inside ? kMostInside : kMost));
}

// Sends `messages` messages to each of `to` and receives as many from each of `from`.
Status Prober::stream(size_t messages, size_t bytes, const std::vector<int>& to,
                      const std::vector<int>& from) {
  const size_t ahead = lead(bytes, to);
  for (size_t i = 0; i < messages + ahead; ++i) {
    if (i < messages) {
      for (const int peer : from) CGX_RETURN_IF_ERROR(t_.post(peer, bytes));
      CGX_RETURN_IF_ERROR(send(bytes, to));
    }
    if (i < ahead) continue;
    for (const int peer : from) CGX_RETURN_IF_ERROR(receive(peer, bytes));
  }
  return t_.flush(wait_);
}

Status Prober::latency(Measurement* m) {
  return each_pair([&](int peer) -> Status {
    const int to[] = {peer};
    std::vector<double> trips;
    for (int i = 0; i <= kRoundTrips; ++i) {
      CGX_RETURN_IF_ERROR(t_.post(peer, kSmall));
      const ProbeClock::time_point start = ProbeClock::now();
      if (rank_ < peer) CGX_RETURN_IF_ERROR(send(kSmall, to));
      CGX_RETURN_IF_ERROR(receive(peer, kSmall));
      if (rank_ > peer) CGX_RETURN_IF_ERROR(send(kSmall, to));
      if (i > 0) trips.push_back(ns_since(start));
    }
    std::nth_element(trips.begin(), trips.begin() + kRoundTrips / 2, trips.end());
    const uint64_t one_way = picoseconds(trips[kRoundTrips / 2] / 2);
    m->latency = std::max(m->latency, one_way);
    if (host_of(peer) == host_of(rank_)) m->inside_latency = std::max(m->inside_latency, one_way);
    return {};
  });
}

Status Prober::burst(Measurement* m) {
  CGX_RETURN_IF_ERROR(stream(2, kSmall, {next()}, {previous()}));
  const double cpu = process_cpu_ns();
  const ProbeClock::time_point start = ProbeClock::now();
  for (size_t i = 0; i < kBurst / 2; ++i) {
    for (int k = 0; k < 2; ++k) {
      CGX_RETURN_IF_ERROR(t_.post(previous(), kSmall));
      const int to[] = {next()};
      CGX_RETURN_IF_ERROR(send(kSmall, to));
    }
    for (int k = 0; k < 2; ++k) CGX_RETURN_IF_ERROR(receive(previous(), kSmall));
  }
  const double wall = ns_since(start);
  m->message = picoseconds(std::min(process_cpu_ns() - cpu, wall) / static_cast<double>(kBurst));
  return {};
}

// All to all, as in scatter_gather and allgather. The first, short attempt says how much fits the time.
Status Prober::all_links(Measurement* m) {
  const double peers = static_cast<double>(others_.size());
  const size_t least = kFirstBulk * lead(kBulk, others_);
  CGX_ASSIGN_OR_RETURN(const double first, stream_ns(others_, least, kBulk));
  m->all_byte = picoseconds(first);
  CGX_ASSIGN_OR_RETURN(const std::vector<Measurement> all, exchange(*m));
  const double message_ns = agree_on(all).all_byte * kBulk * peers;
  const size_t messages =
      std::clamp(static_cast<size_t>(kBulkNs / std::max(1.0, message_ns)), least, kMaxBulk);
  const double cpu = process_cpu_ns();
  CGX_ASSIGN_OR_RETURN(const double byte, stream_ns(others_, messages, kBulk));
  const double bytes = peers * static_cast<double>(messages * kBulk);
  m->all_byte = picoseconds(byte);
  m->cpu_byte = picoseconds(std::min((process_cpu_ns() - cpu) / bytes, byte));
  return {};
}

Status Prober::pair_links(Measurement* m) {
  CGX_ASSIGN_OR_RETURN(const std::vector<Measurement> all, exchange(*m));
  const double message_ns = std::max(1.0, agree_on(all).all_byte * kBulk);
  const double pairs = static_cast<double>(others_.size());
  const size_t affordable = static_cast<size_t>(kBulkNs / pairs / message_ns);
  return each_pair([&](int peer) -> Status {
    const size_t messages = std::clamp(affordable, kFirstBulk * lead(kBulk, {peer}), kMaxBulk);
    CGX_ASSIGN_OR_RETURN(const double ns, stream_ns({peer}, messages, kBulk));
    m->pair_byte = std::max(m->pair_byte, picoseconds(ns));
    return {};
  });
}

// Where long messages of all to all are much slower than those of pairs, queues may overflow that shorter
// ones, as codecs make them, do not fill. The first stream is for connections to recover.
Status Prober::short_messages(Measurement* m) {
  CGX_ASSIGN_OR_RETURN(const std::vector<Measurement> all, exchange(*m));
  const Profile agreed = agree_on(all);
  if (size_ < 3 || agreed.all_byte <= kSwamped * agreed.pair_byte) return {};
  const double message_ns = std::max(1.0, agreed.pair_byte * kShort * static_cast<double>(others_.size()));
  const size_t messages = std::clamp(static_cast<size_t>(kBulkNs / message_ns), kFirstBulk, kMaxBulk);
  double ns = 0;
  for (int k = 0; k < 2; ++k) {
    CGX_ASSIGN_OR_RETURN(ns, stream_ns(others_, messages, kShort));
  }
  m->short_byte = picoseconds(ns);
  return {};
}

// Nanoseconds a byte, sending to each of the peers while each sends here, but for the first one's way.
Result<double> Prober::stream_ns(const std::vector<int>& peers, size_t messages, size_t bytes) {
  const ProbeClock::time_point start = ProbeClock::now();
  CGX_RETURN_IF_ERROR(stream(messages, bytes, peers, peers));
  const double wall = ns_since(start);
  return std::max(wall - way_ns(peers), wall / 8) / static_cast<double>(peers.size() * messages * bytes);
}

// Where there are several ranks on one of several hosts: inside each host, and between one rank of each.
Status Prober::level_links(Measurement* m) {
  Profile shape;
  shape.size = size_;
  set_hosts(hosts_, &shape);
  if (shape.hosts < 2 || shape.largest_host < 2) return {};
  std::vector<int> mates, leaders;
  std::vector<int> seen;
  for (int rank = 0; rank < size_; ++rank) {
    if (rank != rank_ && host_of(rank) == host_of(rank_)) mates.push_back(rank);
    if (std::find(seen.begin(), seen.end(), host_of(rank)) != seen.end()) continue;
    seen.push_back(host_of(rank));
    leaders.push_back(rank);
  }
  const auto own = std::find(leaders.begin(), leaders.end(), rank_);
  const bool leads = own != leaders.end();
  if (leads) leaders.erase(own);
  CGX_ASSIGN_OR_RETURN(const std::vector<Measurement> all, exchange(*m));
  const double message_ns = std::max(1.0, agree_on(all).all_byte * kBulk) * static_cast<double>(size_);
  const size_t messages = std::clamp(static_cast<size_t>(kBulkNs / 2 / message_ns), kFirstBulk, kMaxBulk);
  if (!mates.empty()) {
    CGX_ASSIGN_OR_RETURN(const double ns, stream_ns(mates, messages, kBulk));
    m->inside_byte = picoseconds(ns);
  }
  if (leads) {
    CGX_ASSIGN_OR_RETURN(const double ns, stream_ns(leaders, messages, kBulk));
    m->leader_byte = picoseconds(ns);
  }
  return {};
}

}  // namespace cgx
