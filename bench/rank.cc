// A rank's process: for each size it runs every contender once a round, each call after a barrier, then
// checks results, and reports one JSON line a size.
#include "rank.h"

#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <cstring>

#include "other_ops.h"
#include "own_files.h"
#include "rank_group.h"
#include "turns.h"

namespace cgx::bench {
namespace {

using json = nlohmann::json;

double microseconds(std::chrono::steady_clock::duration d) {
  return std::chrono::duration<double, std::micro>(d).count();
}

void report(int fd, const json& line) {
  const std::string text = line.dump() + "\n";
  for (size_t done = 0; done < text.size();) {
    const ssize_t wrote = write(fd, text.data() + done, text.size() - done);
    if (wrote <= 0) _exit(1);  // nobody listens any more
    done += static_cast<size_t>(wrote);
  }
}

// 64 bits over the result, to compare replicas.
std::string fingerprint(const Buffer& buffer) {
  uint64_t hash = 0xCBF29CE484222325u;
  const char* bytes = static_cast<const char*>(buffer.data());
  for (uint64_t at = 0; at < buffer.bytes(); at += 8) {
    uint64_t word = 0;
    std::memcpy(&word, bytes + at, std::min<uint64_t>(8, buffer.bytes() - at));
    hash = (hash ^ word) * 0x9E3779B97F4A7C15u;
    hash ^= hash >> 29;
  }
  return fmt::format("{:016x}", hash);
}

}  // namespace

RankRun::RankRun(const Options& options, Team& team)
    : options_(options), team_(team), source_(options.data, options.seed) {
  if (!options.cpu_path.empty()) require_ok(cgx_set_cpu_path(options.cpu_path.c_str()), "--cpu");
  if (options.mode == Mode::kLayers) buckets_ = model_buckets(options.model);
  int number = 0;
  for (const Entry& entry : entries(options)) {
    entries_.push_back(entry);
    contenders_.push_back(make(entry, number++));
  }
}

json RankRun::ready() const {
  json line = json::array();
  for (const auto& contender : contenders_) {
    line.push_back({{"codec", contender->spec()},
                    {"transport", contender->transport()},
                    {"version", contender->version()},
                    {"unbiased", contender->unbiased()}});
  }
  return {{"contenders", line}};
}

void RankRun::load(uint64_t bytes) {
  count_ = bytes / dtype_bytes(options_.dtype);
  inputs_.clear();
  outputs_.clear();
  for (int b = 0; b < rotation(bytes); ++b) {
    inputs_.emplace_back(bytes);
    outputs_.emplace_back(bytes);
    source_.fill(options_.rank, b, 0, count_, options_.dtype, inputs_.back().data());
  }
  ++generation_;
  std::vector<std::pair<uint64_t, uint64_t>> spans;
  for (const Bucket& bucket : buckets_) spans.emplace_back(bucket.first, bucket.count);
  if (buckets_.empty()) spans.emplace_back(0, count_);
  for (const auto& contender : contenders_) {
    Guest* guest = contender->guest();
    if (guest != nullptr) guest->load({generation_, inputs_, spans, options_.dtype, options_.op});
  }
}

json RankRun::measure(uint64_t bytes) {
  load(bytes);
  std::vector<json> rows(contenders_.size());
  for (size_t k = 0; k < contenders_.size(); ++k) {
    team_.wait_patiently();
    contenders_[k]->forget();  // residuals of another size
    for (int w = 0; w < options_.warmup; ++w) timed_call(k);
    rows[k]["times_us"] = json::array();
  }
  for (size_t round = 0; round < static_cast<size_t>(options_.rounds); ++round) {
    for (size_t k = 0; k < contenders_.size(); ++k) {
      const size_t which = whose_turn(k, round, contenders_.size());
      rows[which]["times_us"].push_back(one_round(which));
    }
  }
  for (size_t k = 0; k < contenders_.size(); ++k) check(k, rows[k]);
  return {{"contenders", rows}};
}

// Where mpirun started this rank, MPI is in this process; else it has one of its own.
std::unique_ptr<Contender> RankRun::make(const Entry& entry, int number) {
  switch (entry.kind) {
    case Kind::kGloo:
      return make_gloo(options_, number, false);
    case Kind::kGloo16:
      return make_gloo(options_, number, true);
    case Kind::kOpenMpi: {
      if (!options_.launcher.empty()) return make_openmpi(options_, entry.method);
      const std::string path = guest_path(team_.directory(), number, options_.rank);
      return std::make_unique<Guest>(std::make_shared<GuestLink>(path, std::vector<std::string>()), entry);
    }
    case Kind::kTorch:
    case Kind::kTorchHook:
      return std::make_unique<Guest>(torch_link(number), entry);
    case Kind::kCopy:
      return make_copy(options_);
    default:
      return make_cgx(options_, entry, number, team_);
  }
}

std::shared_ptr<GuestLink> RankRun::torch_link(int number) {
  if (torch_ != nullptr) return torch_;
  const std::string path = guest_path(team_.directory(), number, options_.rank);
  // PyTorch's Gloo listens where this says.
  const std::string& named = options_.interface_name;
  if (!named.empty()) setenv("GLOO_SOCKET_IFNAME", named.c_str(), 1);
  const std::vector<std::string> words = {options_.python,
                                          own_file("torch_guest.py"),
                                          "--socket=" + path,
                                          fmt::format("--rank={}", options_.rank),
                                          fmt::format("--ranks={}", options_.ranks),
                                          fmt::format("--meeting={}/torch", team_.directory()),
                                          fmt::format("--timeout={}", options_.timeout_ms)};
  torch_ = std::make_shared<GuestLink>(path, words);
  return torch_;
}

// One allreduce of everything: of the tensor, or of a model's buckets one after the other.
void RankRun::call(size_t which, size_t buffer, Buffer& out) {
  Contender& contender = *contenders_[which];
  const Buffer& in = inputs_[buffer];
  if (Guest* guest = contender.guest(); guest != nullptr) {
    guest->timed(buffer);
    std::memcpy(out.data(), guest->output(buffer), out.bytes());
    return;
  }
  if (buckets_.empty()) return contender.allreduce(in.data(), out.data(), count_);
  const uint64_t element = dtype_bytes(options_.dtype);
  const char* from = static_cast<const char*>(in.data());
  char* to = static_cast<char*>(out.data());
  for (const Bucket& bucket : buckets_) {
    const uint64_t at = bucket.first * element;
    if (!entries_[which].call_a_layer) {
      contender.allreduce_layers(from + at, to + at, bucket.count, bucket.layers);
      continue;
    }
    for (const Layer& layer : bucket.layers) {
      const uint64_t begin = at + layer.first * element;
      const Layer alone = {0, layer.count, layer.compressed, layer.id};
      contender.allreduce_layers(from + begin, to + begin, layer.count, {&alone, 1});
    }
  }
}

double RankRun::timed_call(size_t which) {
  const size_t b = turn_++ % inputs_.size();
  if (Guest* guest = contenders_[which]->guest(); guest != nullptr) return guest->timed(b);
  team_.wait_spinning();
  const auto start = std::chrono::steady_clock::now();
  call(which, b, outputs_[b]);
  const double took = microseconds(std::chrono::steady_clock::now() - start);
  contenders_[which]->settle();
  return took;
}

std::vector<double> RankRun::one_round(size_t which) {
  std::vector<double> times;
  team_.wait_patiently();
  for (int i = 0; i < options_.iterations; ++i) times.push_back(timed_call(which));
  return times;
}

void RankRun::check(size_t which, json& row) {
  Accuracy accuracy;
  json fingerprints = json::array();
  Contender& contender = *contenders_[which];
  const Traffic before = contender.traffic();
  const int checks = entries_[which].kind == Kind::kCopy ? 0 : options_.checks;
  for (int c = 0; c < std::max(checks, 1); ++c) {  // once at least, to count bytes
    const int b = static_cast<int>(static_cast<size_t>(c) % inputs_.size());
    team_.wait_patiently();
    contender.forget();
    call(which, static_cast<size_t>(b), outputs_[0]);
    contender.settle();
    if (checks == 0) continue;
    fingerprints.push_back(fingerprint(outputs_[0]));
    verify(which, b, accuracy);
  }
  if (!declares_bound(entries_[which])) accuracy.wrong = 0;
  const Traffic after = contender.traffic();
  const auto calls = static_cast<uint64_t>(std::max(checks, 1));
  row["wire_bytes"] = (after.wire_bytes - before.wire_bytes) / calls;
  row["raw_bytes"] = (after.raw_bytes - before.raw_bytes) / calls;
  row["fingerprints"] = fingerprints;
  row["wrong"] = accuracy.wrong;
  row["sums"] = {accuracy.error_squares, accuracy.exact_squares, accuracy.projected,
                 accuracy.projected_squares};
}

// This rank's share of the elements. Replicas are compared apart from this, so each element is looked at
// once.
void RankRun::verify(size_t which, int buffer, Accuracy& accuracy) {
  const Contender& contender = *contenders_[which];
  const std::string spec = contender.spec();
  const bool raw = spec.starts_with("auto") || !is_sum(options_.op);
  const DeclaredBound bound(raw ? "none" : spec, options_.dtype);
  // A ring's bound holds for what others do in any order of sums.
  const Reduction reduction = {contender.is_foreign() ? "ring" : entries_[which].algorithm, options_.op,
                               options_.dtype};
  uint64_t turn = 0;
  if (buckets_.empty()) return verify_tensor(bound, reduction, buffer, {0, count_, true, 0}, turn, accuracy);
  const DeclaredBound uncompressed("none", options_.dtype);
  for (const Bucket& bucket : buckets_) {
    for (Layer layer : bucket.layers) {
      layer.first += bucket.first;
      verify_tensor(layer.compressed ? bound : uncompressed, reduction, buffer, layer, turn, accuracy);
    }
  }
}

void RankRun::verify_tensor(const DeclaredBound& bound, const Reduction& reduction, int buffer,
                            const Layer& layer, uint64_t& turn, Accuracy& accuracy) {
  constexpr uint64_t kSpan = 1 << 20;  // a multiple of every granule
  const uint64_t span = bound.granule() == 0 ? layer.count : kSpan;
  for (uint64_t at = 0; at < layer.count; at += span, ++turn) {
    if (turn % static_cast<uint64_t>(options_.ranks) != static_cast<uint64_t>(options_.rank)) continue;
    verify_span(bound, reduction, buffer, layer.first + at, std::min(span, layer.count - at), accuracy);
  }
}

void RankRun::verify_span(const DeclaredBound& bound, const Reduction& reduction, int buffer, uint64_t first,
                          uint64_t count, Accuracy& accuracy) {
  Buffer elements(count * dtype_bytes(options_.dtype));
  std::vector<std::vector<double>> inputs(static_cast<size_t>(options_.ranks));
  for (size_t r = 0; r < inputs.size(); ++r) {
    source_.fill(static_cast<int>(r), buffer, first, count, options_.dtype, elements.data());
    inputs[r].resize(count);
    to_doubles(options_.dtype, elements.data(), inputs[r]);
  }
  std::vector<double> result(count);
  to_doubles(options_.dtype,
             static_cast<const char*>(outputs_[0].data()) + first * dtype_bytes(options_.dtype), result);
  accuracy.add(result, is_sum(reduction.op) ? expected_sum(bound, reduction, inputs)
                                            : expected_other(reduction, inputs));
}

int run_rank(const Options& options) {
  const int fd = options.report_fd;
  try {
    PageTeam team(options);
    RankRun run(options, team);
    report(fd, run.ready());
    for (const uint64_t bytes : sizes(options)) report(fd, run.measure(bytes));
    return 0;
  } catch (const std::exception& error) {
    report(fd, {{"error", error.what()}});
    return 1;
  }
}

}  // namespace cgx::bench
