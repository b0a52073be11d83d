// Probes of codecs, and trials of collectives to which the cost model is fitted.
#include <initializer_list>
#include <memory>

#include "codec/candidates.h"
#include "codec/codec.h"
#include "comm/prober.h"
#include "plan/algorithm_list.h"
#include "plan/select.h"

namespace cgx {
namespace {

constexpr int kRepeats = 3;       // of a codec, hot and cold each; the best counts
constexpr double kSlowLink = 20;  // ns a byte: on such links codecs are measured on fewer elements
constexpr uint64_t kElements = 32 << 10, kElementsOnSlowLinks = 8 << 10;
// Walked through piece by piece, once for elements and once for results: what comes next is in no cache, also
// where that is as large as servers' are. All ranks of a job together have a bounded amount, as they may
// share a host.
constexpr uint64_t kColdBytes = 64 << 20, kLeastColdBytes = 16 << 20, kColdBytesOfAll = 256 << 20;

// Tensors that stay in the caches, but not in the first of them: other tensors come between two calls.
constexpr uint64_t kHotBytes = 4 << 20;
constexpr Trial kCallTrial = {4 << 10, 25, 4e6, true, 1e6, kHotBytes};
constexpr Trial kSmallTrial = {16 << 10, 25, 4e6, true, 1e6, kHotBytes};  // of each Scale
constexpr Trial kHotTrial = {128 << 10, 15, 4e6, true, 1e6, kHotBytes};
constexpr Trial kColdTrial = {8 << 20, 13, 24e6, false, 8e6, UINT64_MAX};
constexpr int kLeastRepeats = 5;
// Where less of a collective's time than this is its codec's, running it says little about the codec.
constexpr double kShareThatTells = 0.3;

// The first of them at a multiple of 64 bytes, as PyTorch's tensors begin: what is not cannot be written past
// the caches.
constexpr uint64_t kLine = 64;
float* aligned(std::vector<float>& floats) {
  void* first = floats.data();
  size_t room = floats.size() * sizeof(float);
  return static_cast<float*>(std::align(kLine, sizeof(float), first, room));
}

// Of what a collective is predicted to take: all, and without what is asked about.
struct Share {
  double predicted, base;

  bool decides() const { return predicted - base >= kShareThatTells * predicted; }
  double factor(double measured, double most = 8) const {
    return std::clamp((measured - base) / std::max(1.0, predicted - base), 0.25, most);
  }
};

using Cost = double (*)(const Load& load, const Profile& profile);
Share share_of(std::initializer_list<double Load::*> asked, const Layout& layout, const Profile& profile,
               Cost cost = scatter_gather_ns) {
  Load load = load_of(layout, profile, kDefaultSliceBytes);
  const double predicted = cost(load, profile);
  for (const auto part : asked) load.*part = 0;
  return {predicted, cost(load, profile)};
}

Share codec_share(const Layout& layout, const Profile& profile, Cost cost = scatter_gather_ns) {
  return share_of({&Load::encode_ns, &Load::decode_ns}, layout, profile, cost);
}

// What makes the model give the measured time. Where elements stay in caches, what it takes longer than the
// codec alone is its receiver's, who waits for lines that another core has written: so one who decodes more,
// as in allgather, waits more. From memory and to it both are slower.
struct Factors {
  double encode, decode;
};

Factors factors(Scale scale, const Layout& layout, const Profile& profile, double measured) {
  constexpr double kMostOfDecode = 32;
  const double both = codec_share(layout, profile).factor(measured);
  if (scale == Scale::kMemory || both <= 1) return {both, both};
  return {1, share_of({&Load::decode_ns}, layout, profile).factor(measured, kMostOfDecode)};
}

Result<Layout> layout_of(const CodecSpec& spec, uint64_t raw_bytes) {
  return Layout::uniform(DType::kF32, raw_bytes / sizeof(float), spec, 0);
}

}  // namespace

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
  const uint64_t share = kColdBytesOfAll / static_cast<uint64_t>(size_);
  walk_length_ = std::clamp(share, kLeastColdBytes, kColdBytes) / sizeof(float);
  elements_.resize(walk_length_ + kLine / sizeof(float));
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
  CGX_CHECK(list.size() <= Measurement::kMaxCodecs);
  for (size_t i = 0; i < list.size(); ++i) {
    constexpr double kNever = 1e9;
    double hot_encode = kNever, hot_decode = kNever, cold_encode = kNever, cold_decode = kNever,
           ignored = kNever;
    const CodecSpec& spec = list[i].spec;
    CGX_RETURN_IF_ERROR(codec(spec, aligned(elements_), count, &ignored, &ignored));
    for (int k = 0; k < kRepeats; ++k) {
      CGX_RETURN_IF_ERROR(codec(spec, aligned(elements_), count, &hot_encode, &hot_decode));
    }
    for (int k = 0; k < kRepeats; ++k)
      CGX_RETURN_IF_ERROR(
          codec(spec, aligned(elements_) + walk(2 * count, walk_length_), count, &cold_encode, &cold_decode));
    const Measurement::Times hot = {picoseconds(hot_encode), picoseconds(hot_decode)};
    const Measurement::Times cold = {picoseconds(cold_encode), picoseconds(cold_decode)};
    m->codecs[i] = {hot, hot, cold};
  }
  return t_.flush(wait_);
}

uint64_t Prober::walk(uint64_t count, uint64_t length) {
  if (walked_ + count > length) walked_ = 0;
  walked_ += count;
  return walked_ - count;
}

Status Prober::run_once(const Trial& trial, Contender* contender) {
  RunStats stats;
  RunArgs args;
  args.plan = &contender->plan;
  args.layout = &contender->layout;
  args.transport = &t_;
  // Each time another place: a gradient was last touched a while ago.
  const uint64_t place =
      walk(contender->layout.count(), std::min(walk_length_, trial.walked_bytes / sizeof(float)));
  args.x = aligned(elements_) + place;
  args.y = aligned(results_) + place;
  args.timeout_ms = wait_.timeout_ms;
  args.workspace = &workspace_;
  args.shared_writes = &contender->shared_writes;
  args.stats = &stats;
  const ProbeClock::time_point start = ProbeClock::now();
  CGX_RETURN_IF_ERROR(run(args));
  contender->ns = ns_since(start);
  return {};
}

// They take turns: a machine whose speed drifts drifts for all of them. Where little things count, what a
// contender finds in the caches is its own, as in a loop of equal calls. Of the runs by the way of writing
// that most of them took, the (lower) median; of large ones the lower quartile, as what comes between (a
// queue that fills, another tenant of the machine) is as long as what codecs differ by, and longer for one
// contender than for the next.
Status Prober::run_trials(const Trial& trial, std::vector<Contender>* contenders) {
  // The first of all touches memory that nobody has touched.
  if (!contenders->empty()) CGX_RETURN_IF_ERROR(run_once(trial, &contenders->front()));
  for (int k = 0; k < trial.repeats; ++k) {
    for (Contender& c : *contenders) {
      if (k >= c.repeats) continue;
      if (trial.warm) CGX_RETURN_IF_ERROR(run_once(trial, &c));
      const size_t way = c.shared_writes.way();
      CGX_RETURN_IF_ERROR(run_once(trial, &c));
      c.times[way].push_back(c.ns);
    }
  }
  for (Contender& c : *contenders) {
    std::vector<double>& times = c.times[c.times[1].size() > c.times[0].size() ? 1 : 0];
    const auto typical =
        times.begin() + static_cast<std::ptrdiff_t>((times.size() - 1) / (trial.warm ? 2 : 4));
    std::nth_element(times.begin(), typical, times.end());
    c.ns = *typical;
  }
  return {};
}

Profile Prober::profile_of(const std::vector<Measurement>& all) const {
  Profile profile = agree_on(all);
  profile.links = t_.links();
  return profile;
}

Prober::Contender Prober::contender(const Trial& trial, const Layout& layout, const char* algorithm,
                                    const Profile& profile, double predicted_ns) const {
  const double runs = trial.contender_ns / std::max(1.0, predicted_ns) / (trial.warm ? 2 : 1);
  const int repeats = std::clamp(static_cast<int>(std::min(runs, 1e6)), kLeastRepeats, trial.repeats);
  const Algorithm* row = find_algorithm(algorithm);
  const uint32_t depth =
      depth_of(row->turn(size_, profile.hosts), load_of(layout, profile, kDefaultSliceBytes), profile);
  return {layout, row->plan({rank_, size_, layout, kDefaultSliceBytes, {}, {}, depth}),
          shared_writes_of(layout), repeats};
}

// What a small collective takes beyond what the model knows of: in any case, and for each time that ranks
// wait for each other (allgather does so once, scatter_gather twice).
Status Prober::fit_call(Measurement* m) {
  CGX_ASSIGN_OR_RETURN(const std::vector<Measurement> all, exchange(*m));
  const Profile profile = profile_of(all);
  CGX_ASSIGN_OR_RETURN(const Layout layout, layout_of({}, kCallTrial.raw_bytes));
  const Load load = load_of(layout, profile, kDefaultSliceBytes);
  const double predicted[] = {allgather_ns(load, profile), scatter_gather_ns(load, profile)};
  std::vector<Contender> both = {contender(kCallTrial, layout, "allgather", profile, predicted[0]),
                                 contender(kCallTrial, layout, "scatter_gather", profile, predicted[1])};
  CGX_RETURN_IF_ERROR(run_trials(kCallTrial, &both));
  const double once = both[0].ns - predicted[0];
  const double twice = both[1].ns - predicted[1];
  const double wait = std::max(0.0, twice - once);
  m->latency += picoseconds(wait);
  m->call = picoseconds(once - wait);
  return {};
}

// T is linear in the codec's cost where that outweighs the link's, and in the link's where that outweighs the
// codec's: the factor that makes it the measured one is (measured - base) / (predicted - base), `base`
// without the one or the other. Uncompressed and large, the link's; then each codec's.
Status Prober::fit_codecs(const Trial& trial, Measurement* m) {
  CGX_ASSIGN_OR_RETURN(const std::vector<Measurement> all, exchange(*m));
  Profile profile = profile_of(all);
  const Scale scale = scale_of(trial.raw_bytes);
  const std::vector<Candidate> list = candidates();
  std::vector<size_t> codecs;
  std::vector<Contender> contenders;
  for (size_t i = 0; i < list.size(); ++i) {
    CGX_ASSIGN_OR_RETURN(const Layout layout, layout_of(list[i].spec, trial.raw_bytes));
    const Share share = codec_share(layout, profile);
    const bool tells_of_links = i == 0 && scale == Scale::kMemory;
    if (share.predicted > trial.longest_ns || (!share.decides() && !tells_of_links)) continue;
    codecs.push_back(i);
    contenders.push_back(contender(trial, layout, "scatter_gather", profile, share.predicted));
  }
  CGX_RETURN_IF_ERROR(run_trials(trial, &contenders));
  for (size_t k = 0; k < codecs.size(); ++k) {
    const Layout& layout = contenders[k].layout;
    const double measured = contenders[k].ns;
    if (codec_share(layout, profile).decides()) {
      const Factors factor = factors(scale, layout, profile, measured);
      m->codecs[codecs[k]][static_cast<size_t>(scale)].scale(factor.encode, factor.decode);
    } else if (codecs[k] == 0) {
      profile.cold_links *= share_of({&Load::links}, layout, profile).factor(measured);
      m->cold_links = static_cast<uint64_t>(profile.cold_links * 1000);
    }
  }
  return {};
}

// Uncompressed and of the size of that trial: what allgather takes and the model does not know of. Where
// messages are long, every rank reads all of them at once, as scatter_gather does not.
Status Prober::fit_one_shot(Measurement* m) {
  CGX_ASSIGN_OR_RETURN(const std::vector<Measurement> all, exchange(*m));
  const Profile profile = profile_of(all);
  CGX_ASSIGN_OR_RETURN(const Layout layout, layout_of({}, kHotTrial.raw_bytes));
  const Share share = codec_share(layout, profile, allgather_ns);
  if (share.predicted > kHotTrial.longest_ns || !share.decides()) return {};
  std::vector<Contender> one = {contender(kHotTrial, layout, "allgather", profile, share.predicted)};
  CGX_RETURN_IF_ERROR(run_trials(kHotTrial, &one));
  m->one_shot = static_cast<uint64_t>(1000 * std::max(1.0, share.factor(one[0].ns)));
  return {};
}

Status Prober::fit(Measurement* m) {
  CGX_RETURN_IF_ERROR(fit_call(m));
  CGX_RETURN_IF_ERROR(fit_codecs(kHotTrial, m));
  CGX_RETURN_IF_ERROR(fit_one_shot(m));
  // Where little is left to measure of small ones, they cost what those do.
  for (Measurement::Codec& codec : m->codecs)
    codec[static_cast<size_t>(Scale::kSmall)] = codec[static_cast<size_t>(Scale::kCached)];
  CGX_RETURN_IF_ERROR(fit_codecs(kSmallTrial, m));
  return fit_codecs(kColdTrial, m);
}

}  // namespace cgx
