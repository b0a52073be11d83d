// See measure.h.
#include "comm/measure.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <ctime>
#include <fstream>
#include <functional>
#include <map>
#include <string>

#include "codec/candidates.h"
#include "codec/codec.h"
#include "plan/algorithm_list.h"
#include "plan/run.h"
#include "plan/select.h"

namespace cgx {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kSmall = 64;        // bytes of a message whose time is latency
constexpr size_t kBulk = 128 << 10;  // bytes of one whose time is bandwidth
constexpr int kRoundTrips = 8;
constexpr size_t kBurst = 32;     // small messages that follow each other
constexpr size_t kFirstBulk = 2;  // to find out about how fast the link is, and past a shaper's burst
constexpr double kBulkNs = 10e6;  // of the two measurements of bandwidth, each
constexpr size_t kMaxBulk = 32;   // messages a peer
constexpr int kRepeats = 3;       // of a codec, hot and cold each; the best counts
constexpr double kSlowLink = 20;  // ns a byte: on such links codecs are measured on fewer elements
constexpr uint64_t kElements = 32 << 10, kElementsOnSlowLinks = 8 << 10;
// Walked through piece by piece, once for elements and once for results: what comes next is in no cache.
constexpr uint64_t kColdBytes = 16 << 20;

// A collective that is run to fit the model to it: its size, how often, and the longest that is worth it.
struct Trial {
  uint64_t raw_bytes;
  int repeats;
  bool warm;  // once more before, which does not count
  double longest_ns;
};
constexpr Trial kCallTrial = {4 << 10, 25, true, 1e6};
constexpr Trial kHotTrial = {128 << 10, 15, true, 1e6};
constexpr Trial kColdTrial = {8 << 20, 3, false, 8e6};
// Where less of a collective's time than this is its codec's, running it says little about the codec.
constexpr double kCodecShare = 0.3;

double ns_since(Clock::time_point start) {
  return std::chrono::duration<double, std::nano>(Clock::now() - start).count();
}

double cpu_ns(clockid_t whose) {
  timespec now = {};
  clock_gettime(whose, &now);
  return static_cast<double>(now.tv_sec) * 1e9 + static_cast<double>(now.tv_nsec);
}

double process_cpu_ns() { return cpu_ns(CLOCK_PROCESS_CPUTIME_ID); }
// Not the clock on the wall: where ranks share cores, one is often interrupted in the middle.
double thread_cpu_ns() { return cpu_ns(CLOCK_THREAD_CPUTIME_ID); }

uint64_t picoseconds(double ns) { return static_cast<uint64_t>(std::clamp(ns, 0.0, 1e12) * 1000); }

// Two significant digits, upward at the half: ranks and people need no more. In integers, so that no machine
// rounds in another way.
uint64_t round_two_digits(uint64_t value) {
  uint64_t unit = 1;
  while (value / unit >= 100) unit *= 10;
  return (value + unit / 2) / unit * unit;
}

class Prober {
 public:
  explicit Prober(const MeasureArgs& args)
      : t_(*args.transport),
        wait_{args.timeout_ms, "measuring"},
        size_(t_.size()),
        rank_(t_.rank()),
        hosts_(t_.hosts()) {
    for (int d = 1; d < size_; ++d) others_.push_back((rank_ + d) % size_);
  }

  Status measure(Measurement* m);
  Result<std::vector<Measurement>> exchange(const Measurement& own);

 private:
  int host_of(int rank) const { return hosts_[static_cast<size_t>(rank)]; }
  int next() const { return (rank_ + 1) % size_; }
  int previous() const { return (rank_ + size_ - 1) % size_; }
  int partner(int round) const;

  Status send(size_t bytes, std::span<const int> peers);
  Status receive(int peer, size_t bytes);
  Status stream(size_t messages, size_t bytes, const std::vector<int>& to, const std::vector<int>& from);

  Status each_pair(const std::function<Status(int peer)>& work);
  Status latency(Measurement* m);
  Status burst(Measurement* m);
  Status all_links(Measurement* m);
  Status pair_links(Measurement* m);
  Status level_links(Measurement* m);
  Result<double> stream_ns(const std::vector<int>& peers, size_t messages);
  void fill_elements();
  Status codecs(Measurement* m);
  // The next place of `count` elements.
  uint64_t walk(uint64_t count);
  Status run_once(const Layout& layout, const Plan& plan, double* ns);
  Status run_trial(const Layout& layout, const char* algorithm, const Trial& trial, double* ns);
  Status fit_call(Measurement* m);
  Status fit_codecs(const Trial& trial, Measurement* m);
  Status codec(const CodecSpec& spec, float* x, uint64_t count, double* encode_ns, double* decode_ns);

  Transport& t_;
  const Wait wait_;
  const int size_;
  const int rank_;
  const std::vector<int> hosts_;
  std::vector<int> others_;
  std::vector<float> elements_, results_;
  Workspace workspace_;
  uint64_t walked_ = 0;
};

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

// Sends `messages` messages to each of `to` and receives as many from each of `from`, one ahead.
Status Prober::stream(size_t messages, size_t bytes, const std::vector<int>& to,
                      const std::vector<int>& from) {
  for (size_t i = 0; i <= messages; ++i) {
    if (i < messages) {
      for (const int peer : from) CGX_RETURN_IF_ERROR(t_.post(peer, bytes));
      CGX_RETURN_IF_ERROR(send(bytes, to));
    }
    if (i == 0) continue;
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
      const Clock::time_point start = Clock::now();
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
  const Clock::time_point start = Clock::now();
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
  Clock::time_point start = Clock::now();
  CGX_RETURN_IF_ERROR(stream(kFirstBulk, kBulk, others_, others_));
  m->all_byte = picoseconds(ns_since(start) / (peers * kFirstBulk * kBulk));
  CGX_ASSIGN_OR_RETURN(const std::vector<Measurement> all, exchange(*m));
  const double message_ns = agree_on(all).all_byte * kBulk * peers;
  const size_t messages =
      std::clamp(static_cast<size_t>(kBulkNs / std::max(1.0, message_ns)), kFirstBulk, kMaxBulk);
  const double cpu = process_cpu_ns();
  start = Clock::now();
  CGX_RETURN_IF_ERROR(stream(messages, kBulk, others_, others_));
  const double wall = ns_since(start);
  const double bytes = peers * static_cast<double>(messages * kBulk);
  m->all_byte = picoseconds(wall / bytes);
  m->cpu_byte = picoseconds(std::min(process_cpu_ns() - cpu, wall) / bytes);
  return {};
}

Status Prober::pair_links(Measurement* m) {
  CGX_ASSIGN_OR_RETURN(const std::vector<Measurement> all, exchange(*m));
  const double message_ns = std::max(1.0, agree_on(all).all_byte * kBulk);
  const double pairs = static_cast<double>(others_.size());
  const size_t messages = std::clamp(static_cast<size_t>(kBulkNs / pairs / message_ns), kFirstBulk, kMaxBulk);
  return each_pair([&](int peer) -> Status {
    const Clock::time_point start = Clock::now();
    CGX_RETURN_IF_ERROR(stream(messages, kBulk, {peer}, {peer}));
    m->pair_byte =
        std::max(m->pair_byte, picoseconds(ns_since(start) / static_cast<double>(messages * kBulk)));
    return {};
  });
}

// Nanoseconds a byte, sending to each of the peers while each sends here.
Result<double> Prober::stream_ns(const std::vector<int>& peers, size_t messages) {
  const Clock::time_point start = Clock::now();
  CGX_RETURN_IF_ERROR(stream(messages, kBulk, peers, peers));
  return ns_since(start) / static_cast<double>(peers.size() * messages * kBulk);
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
    CGX_ASSIGN_OR_RETURN(const double ns, stream_ns(mates, messages));
    m->inside_byte = picoseconds(ns);
  }
  if (leads) {
    CGX_ASSIGN_OR_RETURN(const double ns, stream_ns(leaders, messages));
    m->leader_byte = picoseconds(ns);
  }
  return {};
}

// Encodes into a message for the next rank, decodes the one of the rank before: the memory, and the caches it
// is in, are those of a collective.
Status Prober::codec(const CodecSpec& spec, float* x, uint64_t count, double* encode_ns, double* decode_ns) {
  const size_t bytes = encoded_bytes(spec, DType::kF32, count);
  CGX_RETURN_IF_ERROR(t_.post(previous(), bytes));
  const int to[] = {next()};
  CGX_ASSIGN_OR_RETURN(const Transport::Lent lent, t_.acquire_for(to, bytes, wait_));
  uint8_t* out = lent.memory;
  double start = thread_cpu_ns();
  const Status encoded = encode(spec, DType::kF32, x, count, {}, {}, out);
  *encode_ns = std::min(*encode_ns, (thread_cpu_ns() - start) / static_cast<double>(count));
  Status sent = t_.send(out, bytes, to);
  t_.release(out);
  CGX_RETURN_IF_ERROR(encoded);
  CGX_RETURN_IF_ERROR(std::move(sent));
  CGX_ASSIGN_OR_RETURN(const uint8_t* in, t_.receive(previous(), bytes, wait_));
  start = thread_cpu_ns();
  Status decoded = decode(spec, DType::kF32, in, count, Into::kAdd, x);
  *decode_ns = std::min(*decode_ns, (thread_cpu_ns() - start) / static_cast<double>(count));
  t_.release(in);
  return decoded;
}

// Uniform over [-1, 1): what codecs cost does not depend on the distribution. Part is repeated, which costs
// less.
void Prober::fill_elements() {
  constexpr size_t kRandom = 1 << 18;
  elements_.resize(kColdBytes / sizeof(float));
  results_.resize(elements_.size());
  uint32_t state = 12345;
  for (size_t i = 0; i < elements_.size(); ++i) {
    if (i >= kRandom) {
      elements_[i] = elements_[i - kRandom];
      continue;
    }
    state = state * 1664525 + 1013904223;
    elements_[i] = static_cast<float>(static_cast<int32_t>(state)) * 0x1p-31f;
  }
}

Status Prober::codecs(Measurement* m) {
  CGX_ASSIGN_OR_RETURN(const std::vector<Measurement> all, exchange(*m));
  const uint64_t count = agree_on(all).all_byte > kSlowLink ? kElementsOnSlowLinks : kElements;
  fill_elements();
  const std::vector<Candidate> list = candidates();
  for (size_t i = 0; i < list.size(); ++i) {
    constexpr double kNever = 1e9;
    double hot_encode = kNever, hot_decode = kNever, cold_encode = kNever, cold_decode = kNever,
           ignored = kNever;
    const CodecSpec& spec = list[i].spec;
    CGX_RETURN_IF_ERROR(codec(spec, elements_.data(), count, &ignored, &ignored));
    for (int k = 0; k < kRepeats; ++k) {
      CGX_RETURN_IF_ERROR(codec(spec, elements_.data(), count, &hot_encode, &hot_decode));
    }
    for (int k = 0; k < kRepeats; ++k)
      CGX_RETURN_IF_ERROR(codec(spec, elements_.data() + walk(2 * count), count, &cold_encode, &cold_decode));
    m->codecs[i] = {picoseconds(hot_encode), picoseconds(hot_decode), picoseconds(cold_encode),
                    picoseconds(cold_decode)};
  }
  return t_.flush(wait_);
}

uint64_t Prober::walk(uint64_t count) {
  if (walked_ + count > elements_.size()) walked_ = 0;
  walked_ += count;
  return walked_ - count;
}

Status Prober::run_once(const Layout& layout, const Plan& plan, double* ns) {
  RunStats stats;
  RunArgs args;
  args.plan = &plan;
  args.layout = &layout;
  args.transport = &t_;
  // Each time another place: a gradient was last touched a while ago.
  const uint64_t place = walk(layout.count());
  args.x = elements_.data() + place;
  args.y = results_.data() + place;
  args.timeout_ms = wait_.timeout_ms;
  args.workspace = &workspace_;
  args.stats = &stats;
  const Clock::time_point start = Clock::now();
  CGX_RETURN_IF_ERROR(run(args));
  *ns = ns_since(start);
  return {};
}

// The (lower) median.
Status Prober::run_trial(const Layout& layout, const char* algorithm, const Trial& trial, double* ns) {
  const Plan plan = find_algorithm(algorithm)->plan({rank_, size_, layout, kDefaultSliceBytes});
  if (trial.warm) CGX_RETURN_IF_ERROR(run_once(layout, plan, ns));
  std::vector<double> times(static_cast<size_t>(trial.repeats));
  for (double& time : times) CGX_RETURN_IF_ERROR(run_once(layout, plan, &time));
  const auto median = times.begin() + (trial.repeats - 1) / 2;
  std::nth_element(times.begin(), median, times.end());
  *ns = *median;
  return {};
}

Result<Layout> layout_of(const CodecSpec& spec, uint64_t raw_bytes) {
  return Layout::uniform(DType::kF32, raw_bytes / sizeof(float), spec, 0);
}

// What a small collective takes beyond what the model knows of: in any case, and for each time that ranks
// wait for each other (allgather does so once, scatter_gather twice).
Status Prober::fit_call(Measurement* m) {
  CGX_ASSIGN_OR_RETURN(const std::vector<Measurement> all, exchange(*m));
  const Profile profile = agree_on(all);
  CGX_ASSIGN_OR_RETURN(const Layout layout, layout_of({}, kCallTrial.raw_bytes));
  const Load load = load_of(layout, profile, kDefaultSliceBytes);
  double once = 0, twice = 0;
  CGX_RETURN_IF_ERROR(run_trial(layout, "allgather", kCallTrial, &once));
  CGX_RETURN_IF_ERROR(run_trial(layout, "scatter_gather", kCallTrial, &twice));
  once -= allgather_ns(load, profile);
  twice -= scatter_gather_ns(load, profile);
  const double wait = std::max(0.0, twice - once);
  m->latency += picoseconds(wait);
  m->call = picoseconds(once - wait);
  return {};
}

// T is linear in the codec's cost where that outweighs the link's: the factor that makes it the measured one
// is (measured - base) / (predicted - base).
Status Prober::fit_codecs(const Trial& trial, Measurement* m) {
  CGX_ASSIGN_OR_RETURN(const std::vector<Measurement> all, exchange(*m));
  const Profile profile = agree_on(all);
  const bool hot = trial.raw_bytes == kHotTrial.raw_bytes;
  const std::vector<Candidate> list = candidates();
  for (size_t i = 0; i < list.size(); ++i) {
    CGX_ASSIGN_OR_RETURN(const Layout layout, layout_of(list[i].spec, trial.raw_bytes));
    Load load = load_of(layout, profile, kDefaultSliceBytes);
    const double predicted = scatter_gather_ns(load, profile);
    load.encode_ns = load.decode_ns = 0;
    const double base = scatter_gather_ns(load, profile);
    if (predicted > trial.longest_ns || predicted - base < kCodecShare * predicted) continue;
    double ns = 0;
    Trial now = trial;
    now.warm = trial.warm || i == 0;  // the first of all touches memory that nobody has touched
    CGX_RETURN_IF_ERROR(run_trial(layout, "scatter_gather", now, &ns));
    const double factor = std::clamp((ns - base) / (predicted - base), 0.25, 8.0);
    const auto scale = [factor](uint64_t& ps) {
      ps = static_cast<uint64_t>(static_cast<double>(ps) * factor);
    };
    Measurement::Codec& codec = m->codecs[i];
    scale(hot ? codec.encode_hot : codec.encode_cold);
    scale(hot ? codec.decode_hot : codec.decode_cold);
  }
  return {};
}

uint64_t host_number() {
  std::string boot;
  std::ifstream("/proc/sys/kernel/random/boot_id") >> boot;
  return std::hash<std::string>()(boot);
}

// Not this process's affinity: launchers that give each rank its own cores would look crowded.
uint64_t host_cores() { return static_cast<uint64_t>(std::max(1L, sysconf(_SC_NPROCESSORS_ONLN))); }

Status Prober::measure(Measurement* m) {
  m->host = host_number();
  m->cores = host_cores();
  if (size_ == 1) return {};
  CGX_RETURN_IF_ERROR(latency(m));
  CGX_RETURN_IF_ERROR(burst(m));
  CGX_RETURN_IF_ERROR(all_links(m));
  CGX_RETURN_IF_ERROR(pair_links(m));
  CGX_RETURN_IF_ERROR(level_links(m));
  CGX_RETURN_IF_ERROR(codecs(m));
  CGX_RETURN_IF_ERROR(fit_call(m));
  CGX_RETURN_IF_ERROR(fit_codecs(kHotTrial, m));
  return fit_codecs(kColdTrial, m);
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

double crowding_of(const std::vector<Measurement>& all) {
  std::map<uint64_t, uint64_t> ranks;
  double worst = 1;
  for (const Measurement& m : all) ++ranks[m.host];
  for (const Measurement& m : all) {
    worst = std::max(
        worst, static_cast<double>(ranks[m.host]) / static_cast<double>(std::max<uint64_t>(1, m.cores)));
  }
  return worst;
}

}  // namespace

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
    return static_cast<double>(round_two_digits(worst)) / 1000;
  };
  Profile p;
  p.size = static_cast<int>(all.size());
  set_hosts(hosts, &p);
  p.call = slowest([](const Measurement& m) { return m.call; });
  p.latency = slowest([](const Measurement& m) { return m.latency; });
  p.message = slowest([](const Measurement& m) { return m.message; });
  p.pair_byte = slowest([](const Measurement& m) { return m.pair_byte; });
  p.all_byte = slowest([](const Measurement& m) { return m.all_byte; });
  p.cpu_byte = slowest([](const Measurement& m) { return m.cpu_byte; });
  p.inside_latency = slowest([](const Measurement& m) { return m.inside_latency; });
  p.inside_byte = slowest([](const Measurement& m) { return m.inside_byte; });
  p.leader_byte = slowest([](const Measurement& m) { return m.leader_byte; });
  p.crowding = crowding_of(all);
  const std::vector<Candidate> list = candidates();
  static_assert(Measurement::kMaxCodecs >= 7);
  for (size_t i = 0; i < list.size(); ++i) {
    CodecCost cost;
    cost.spec = list[i].spec;
    cost.encode_hot = slowest([i](const Measurement& m) { return m.codecs[i].encode_hot; });
    cost.decode_hot = slowest([i](const Measurement& m) { return m.codecs[i].decode_hot; });
    cost.encode_cold = slowest([i](const Measurement& m) { return m.codecs[i].encode_cold; });
    cost.decode_cold = slowest([i](const Measurement& m) { return m.codecs[i].decode_cold; });
    p.codecs.push_back(cost);
  }
  return p;
}

}  // namespace cgx
