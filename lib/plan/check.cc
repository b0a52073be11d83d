#include "plan/check.h"

#include <algorithm>
#include <array>
#include <deque>
#include <map>
#include <utility>

#include "plan/symbols.h"
#include "plan/text.h"

namespace cgx {

namespace {

// One message as one rank sees it.
struct Held {
  enum class State : uint8_t { kUnused, kPosted, kReadable, kReleased };
  State state = State::kUnused;
  bool sent = false;
  int sender = -1;      // whose memory it is
  uint32_t origin = 0;  // its number in the sender's plan
  uint32_t value = 0;
  uint32_t keepers = 0;  // in the sender's: ranks that have not released it
};

struct Write {
  uint64_t begin, end;
  uint32_t value;
  size_t step;
};

struct Rank {
  const Plan* plan = nullptr;
  size_t next = 0;  // step
  std::vector<Held> messages;
  uint64_t held = 0;  // own messages that somebody has not released; their bytes where those are bounded
  std::array<std::deque<uint32_t>, kMaxRanks> arriving;  // messages of that peer's plan, not received
  std::array<std::deque<uint32_t>, kMaxRanks> posted;    // messages of this plan
  Ranges written, contributed, contribution_rounded, sum_rounded;
  std::map<int, Ranges> rounded;  // by stage
  std::vector<Write> writes;

  bool done() const { return next == plan->steps.size(); }
};

class Checker {
 public:
  Checker(const Layout& layout, std::span<const Plan> plans, const CheckOptions& options)
      : layout_(layout),
        size_(static_cast<int>(plans.size())),
        hosts_(options.hosts),
        capacity_(hosts_.empty() ? options.window * std::max<uint64_t>(1, plans.size() - 1)
                                 : options.inside_bytes),
        values_(size_) {
    for (const Plan& plan : plans) {
      Rank rank;
      rank.plan = &plan;
      rank.messages.resize(plan.messages.size());
      ranks_.push_back(std::move(rank));
    }
  }

  Status run() {
    CGX_RETURN_IF_ERROR(check_inner());
    for (bool moved = true; moved;) {
      moved = false;
      for (int r = 0; r < size_; ++r) {
        Rank& rank = ranks_[static_cast<size_t>(r)];
        while (!rank.done()) {
          const Step& step = rank.plan->steps[rank.next];
          if (Status s = shape(rank, step); !s.ok()) return at(r, s);
          if (waits(rank, step)) break;
          if (Status s = execute(r, rank, step); !s.ok()) return at(r, s);
          ++rank.next;
          moved = true;
        }
      }
    }
    CGX_RETURN_IF_ERROR(check_all_done());
    for (int r = 0; r < size_; ++r) CGX_RETURN_IF_ERROR(check_left_over(r));
    for (int r = 0; r < size_; ++r) CGX_RETURN_IF_ERROR(check_output(r));
    return {};
  }

 private:
  using Op = Step::Op;

  template <typename... Args>
  static Status wrong(fmt::format_string<Args...> format, Args&&... args) {
    return Status(Code::kInternal, fmt::format(format, std::forward<Args>(args)...));
  }

  Status at(int r, const Status& problem) const {
    return at(r, ranks_[static_cast<size_t>(r)].next, problem.message());
  }
  Status at(int r, size_t step, const std::string& problem) const {
    return wrong("plan of rank {} of {}, step {} ({}): {}", r, size_, step,
                 to_text(ranks_[static_cast<size_t>(r)].plan->steps[step]), problem);
  }

  // All ranks' inner layouts are the same, of this tensor.
  Status check_inner() const {
    for (int r = 0; r < size_; ++r) {
      const Plan& plan = *ranks_[static_cast<size_t>(r)].plan;
      const bool any = std::any_of(plan.messages.begin(), plan.messages.end(),
                                   [](const Message& m) { return m.level == Level::kInner; });
      if (!any) continue;
      const bool fits = plan.inner.count() == layout_.count() && plan.inner.dtype() == layout_.dtype() &&
                        plan.inner.segments().size() == layout_.segments().size();
      if (!fits) return wrong("plan of rank {}: its inner layout is of another tensor", r);
      if (plan.inner == ranks_[0].plan->inner) continue;
      return wrong("plan of rank {}: its inner layout is not that of rank 0", r);
    }
    return {};
  }

  static bool fills(Op op) { return op == Op::kEncode || op == Op::kReduceEncode || op == Op::kForward; }

  // What can be said of a step alone.
  Status shape(const Rank& rank, const Step& step) const {
    if (step.begin >= step.end || step.end > layout_.count()) return wrong("not a range of the tensor");
    if (layout_.chunk_cut(step.begin) != step.begin || layout_.chunk_cut(step.end) != step.end) {
      return wrong("the tensor cannot be cut there");
    }
    if (step.op != Op::kReduce) CGX_RETURN_IF_ERROR(same_range(rank, step, step.message));
    for (uint32_t input : step.inputs) {
      if (input != kOwnInput) CGX_RETURN_IF_ERROR(same_range(rank, step, input));
    }
    if (step.last && step.op != Op::kReduceEncode) return wrong("only reduce_encode can be last");
    const bool sums = step.op == Op::kReduce || step.op == Op::kReduceEncode;
    if (sums ? step.inputs.empty() : step.inputs.size() != (step.op == Op::kForward ? 1 : 0)) {
      return wrong("it cannot have {} inputs", step.inputs.size());
    }
    if (step.op == Op::kForward && level(rank, step.message) != level(rank, step.inputs[0])) {
      return wrong("it changes the level");
    }
    const bool pair = step.op == Op::kPost || step.op == Op::kReceive;
    if (step.op == Op::kSend ? step.peers.empty() : step.peers.size() != (pair ? 1 : 0)) {
      return wrong("it cannot have {} peers", step.peers.size());
    }
    uint32_t seen = 1u << (&rank - ranks_.data());
    for (int peer : step.peers) {
      if (peer < 0 || peer >= size_) return wrong("there is no rank {}", peer);
      if ((seen & (1u << peer)) != 0) return wrong("rank {} is itself, or named twice", peer);
      seen |= 1u << peer;
    }
    return {};
  }

  static Level level(const Rank& rank, uint32_t message) { return rank.plan->messages[message].level; }

  Status same_range(const Rank& rank, const Step& step, uint32_t message) const {
    if (message >= rank.messages.size()) return wrong("there is no message {}", message);
    const Message& m = rank.plan->messages[message];
    if (m.begin != step.begin || m.end != step.end) {
      return wrong("message {} holds [{}, {})", message, m.begin, m.end);
    }
    const Layout& layout = rank.plan->layout(m.level, layout_);
    if (layout.chunk_cut(m.begin) != m.begin || layout.chunk_cut(m.end) != m.end) {
      return wrong("message {} cannot be cut there", message);
    }
    const uint64_t bytes = layout.wire_bytes(m.begin, m.end);
    if (m.bytes != bytes) return wrong("message {} should have {} bytes, not {}", message, bytes, m.bytes);
    return {};
  }

  bool waits(const Rank& rank, const Step& step) const {
    if (fills(step.op))
      return weight(rank, step.message) > 0 && rank.held + weight(rank, step.message) > capacity_;
    return step.op == Op::kReceive && rank.arriving[static_cast<size_t>(step.peers[0])].empty();
  }

  Status execute(int r, Rank& rank, const Step& step) {
    switch (step.op) {
      case Op::kEncode:
        return encode(r, rank, step);
      case Op::kSend:
        return send(r, rank, step);
      case Op::kPost:
        return post(rank, step);
      case Op::kReceive:
        return receive(rank, step);
      case Op::kReduceEncode:
      case Op::kReduce:
        return reduce(r, rank, step);
      case Op::kDecode:
        return decode(rank, step);
      case Op::kForward:
        return forward(r, rank, step);
      case Op::kRelease:
        return release(rank, step);
    }
    return wrong("there is no such operation");
  }

  // What a message takes of its sender's memory.
  uint64_t weight(const Rank& sender, uint32_t message) const {
    if (hosts_.empty()) return 1;
    const uint32_t send = sender.plan->first_send[message];
    if (send == kNoStep) return 0;
    const auto host = [&](int rank) { return hosts_[static_cast<size_t>(rank)]; };
    const int own = static_cast<int>(&sender - ranks_.data());
    const std::vector<int>& peers = sender.plan->steps[send].peers;
    const bool inside = std::any_of(peers.begin(), peers.end(), [&](int p) { return host(p) == host(own); });
    return inside ? sender.plan->messages[message].bytes : 0;
  }

  static Status readable(const Rank& rank, uint32_t message) {
    switch (rank.messages[message].state) {
      case Held::State::kReadable:
        return {};
      case Held::State::kReleased:
        return wrong("message {} was released before", message);
      default:
        return wrong("message {} was not written yet", message);
    }
  }

  Status fill(int r, Rank& rank, uint32_t message, uint32_t value) const {
    Held& held = rank.messages[message];
    if (held.state != Held::State::kUnused) return wrong("message {} is used twice", message);
    held.state = Held::State::kReadable;
    held.sender = r;
    held.origin = message;
    held.value = value;
    held.keepers = 1;
    rank.held += weight(rank, message);
    return {};
  }

  // x[range] is read as this rank's contribution, with its residual.
  static Status contribute(Rank& rank, const Step& step) {
    if (rank.written.overlaps(step.begin, step.end)) return wrong("reads x where y was written before");
    if (!rank.contributed.add(step.begin, step.end)) return wrong("contributes elements a second time");
    return {};
  }

  Status round(Rank& rank, const Step& step, uint32_t value) const {
    if (step.stage != values_[value].roundings) {
      return wrong("its stage should be {}: so often was it rounded before", values_[value].roundings);
    }
    if (!rank.rounded[step.stage].add(step.begin, step.end)) {
      return wrong("rounds elements a second time with the random numbers of stage {}", step.stage);
    }
    if (step.last && !rank.sum_rounded.add(step.begin, step.end)) {
      return wrong("uses the residual of a sum a second time");
    }
    if (!step.last && !rank.contribution_rounded.add(step.begin, step.end)) {
      return wrong("uses the residual of a contribution a second time");
    }
    return {};
  }

  static Status write(Rank& rank, const Step& step, uint32_t value) {
    if (!rank.written.add(step.begin, step.end)) return wrong("writes y a second time");
    rank.writes.push_back({step.begin, step.end, value, rank.next});
    return {};
  }

  Status encode(int r, Rank& rank, const Step& step) {
    CGX_RETURN_IF_ERROR(contribute(rank, step));
    CGX_RETURN_IF_ERROR(round(rank, step, Values::own(r)));
    return fill(r, rank, step.message, values_.encoding(Values::own(r)));
  }

  Status reduce(int r, Rank& rank, const Step& step) {
    std::vector<uint32_t> inputs;
    for (uint32_t input : step.inputs) {
      if (input == kOwnInput) {
        CGX_RETURN_IF_ERROR(contribute(rank, step));
        inputs.push_back(Values::own(r));
      } else {
        CGX_RETURN_IF_ERROR(readable(rank, input));
        inputs.push_back(rank.messages[input].value);
      }
    }
    for (size_t i = 0; i < inputs.size(); ++i) {
      if (values_[inputs[i]].scaled) return wrong("adds a sum that was scaled before");
      // Of two, either order gives the same bits.
      if (inputs.size() > 2 && i > 0 &&
          values_[inputs[i]].first_rank() < values_[inputs[i - 1]].first_rank()) {
        return wrong("does not add in the order of ranks");
      }
    }
    const uint32_t sum = values_.sum(inputs, step.op == Op::kReduce || step.last);
    for (int peer = 0; peer < size_; ++peer) {
      if (values_[sum].times[static_cast<size_t>(peer)] > 1)
        return wrong("adds elements of rank {} twice", peer);
    }
    if (step.op == Op::kReduce) return write(rank, step, sum);
    CGX_RETURN_IF_ERROR(round(rank, step, sum));
    const uint32_t encoding = values_.encoding(sum);
    CGX_RETURN_IF_ERROR(fill(r, rank, step.message, encoding));
    return step.last ? write(rank, step, encoding) : Status();
  }

  static Status decode(Rank& rank, const Step& step) {
    CGX_RETURN_IF_ERROR(readable(rank, step.message));
    return write(rank, step, rank.messages[step.message].value);
  }

  Status forward(int r, Rank& rank, const Step& step) const {
    CGX_RETURN_IF_ERROR(readable(rank, step.inputs[0]));
    return fill(r, rank, step.message, rank.messages[step.inputs[0]].value);
  }

  Status send(int r, Rank& rank, const Step& step) {
    CGX_RETURN_IF_ERROR(readable(rank, step.message));
    Held& held = rank.messages[step.message];
    if (held.sender != r) return wrong("message {} lies in another rank's memory: forward it", step.message);
    if (held.sent) return wrong("message {} was sent before", step.message);
    held.sent = true;
    for (int peer : step.peers) {
      ranks_[static_cast<size_t>(peer)].arriving[static_cast<size_t>(r)].push_back(step.message);
      ++held.keepers;
    }
    return {};
  }

  static Status post(Rank& rank, const Step& step) {
    Held& held = rank.messages[step.message];
    if (held.state != Held::State::kUnused) return wrong("message {} is used twice", step.message);
    held.state = Held::State::kPosted;
    rank.posted[static_cast<size_t>(step.peers[0])].push_back(step.message);
    return {};
  }

  Status receive(Rank& rank, const Step& step) {
    const size_t peer = static_cast<size_t>(step.peers[0]);
    if (rank.posted[peer].empty()) return wrong("nothing was posted");
    if (rank.posted[peer].front() != step.message)
      return wrong("message {} was posted before", rank.posted[peer].front());
    rank.posted[peer].pop_front();
    const uint32_t origin = rank.arriving[peer].front();
    rank.arriving[peer].pop_front();
    const Message& sent = ranks_[peer].plan->messages[origin];
    if (sent.begin != step.begin || sent.end != step.end) {
      return wrong("rank {} sends its message {}, [{}, {})", peer, origin, sent.begin, sent.end);
    }
    if (sent.level != level(rank, step.message)) {
      return wrong("rank {} sends its message {} by another level's codec", peer, origin);
    }
    Held& held = rank.messages[step.message];
    held.state = Held::State::kReadable;
    held.sender = static_cast<int>(peer);
    held.origin = origin;
    held.value = ranks_[peer].messages[origin].value;
    return {};
  }

  Status release(Rank& rank, const Step& step) {
    CGX_RETURN_IF_ERROR(readable(rank, step.message));
    Held& held = rank.messages[step.message];
    Rank& sender = ranks_[static_cast<size_t>(held.sender)];
    if (&sender == &rank && !held.sent) return wrong("message {} was never sent", step.message);
    held.state = Held::State::kReleased;
    if (--sender.messages[held.origin].keepers == 0) sender.held -= weight(sender, held.origin);
    return {};
  }

  Status check_all_done() const {
    std::string blocked;
    for (int r = 0; r < size_; ++r) {
      const Rank& rank = ranks_[static_cast<size_t>(r)];
      if (rank.done()) continue;
      const Step& step = rank.plan->steps[rank.next];
      blocked += fmt::format("{}rank {} at step {} ({}{})", blocked.empty() ? "" : ", ", r, rank.next,
                             to_text(step), fills(step.op) ? ", no memory" : "");
    }
    return blocked.empty() ? Status() : wrong("deadlock: {}", blocked);
  }

  Status check_left_over(int r) const {
    const Rank& rank = ranks_[static_cast<size_t>(r)];
    for (size_t m = 0; m < rank.messages.size(); ++m) {
      const Held::State state = rank.messages[m].state;
      if (state == Held::State::kPosted) return wrong("plan of rank {}: message {} is never received", r, m);
      if (state == Held::State::kReadable)
        return wrong("plan of rank {}: message {} is never released", r, m);
    }
    for (size_t peer = 0; peer < kMaxRanks; ++peer) {
      if (rank.arriving[peer].empty()) continue;
      return wrong("plan of rank {}: rank {}'s message {} is never received", r, peer,
                   rank.arriving[peer].front());
    }
    return {};
  }

  Status check_output(int r) {
    std::vector<Write>& writes = ranks_[static_cast<size_t>(r)].writes;
    std::sort(writes.begin(), writes.end(), [](const Write& a, const Write& b) { return a.begin < b.begin; });
    const std::vector<Write>& first = ranks_[0].writes;
    uint64_t end = 0;
    for (size_t i = 0; i < writes.size(); ++i) {
      const Write& w = writes[i];
      if (w.begin != end) return wrong("plan of rank {}: y[{}, {}) is never written", r, end, w.begin);
      end = w.end;
      const Value& value = values_[w.value];
      for (int peer = 0; peer < size_; ++peer) {
        if (value.times[static_cast<size_t>(peer)] != 1)
          return at(r, w.step, fmt::format("lacks the elements of rank {}", peer));
      }
      if (!value.scaled) return at(r, w.step, "the sum is never scaled");
      if (i >= first.size() || first[i].begin != w.begin || first[i].value != w.value) {
        return at(r, w.step, "rank 0 gets these elements from another encoding");
      }
    }
    if (end != layout_.count())
      return wrong("plan of rank {}: y[{}, {}) is never written", r, end, layout_.count());
    return {};
  }

  const Layout& layout_;
  int size_;
  const std::vector<int> hosts_;
  uint64_t capacity_;
  Values values_;
  std::vector<Rank> ranks_;
};

}  // namespace

Status check_plans(const Layout& layout, std::span<const Plan> plans, const CheckOptions& options) {
  if (plans.empty() || plans.size() > kMaxRanks) {
    return error(Code::kInvalidArgument, "the checker takes plans of 1 to {} ranks, not {}", kMaxRanks,
                 plans.size());
  }
  CGX_CHECK(options.hosts.empty() || options.hosts.size() == plans.size());
  return Checker(layout, plans, options).run();
}

Status check_algorithm(const Algorithm& algorithm, const PlanKey& key, const CheckOptions& options) {
  std::vector<Plan> plans;
  PlanKey of_rank = key;
  for (of_rank.rank = 0; of_rank.rank < key.size; ++of_rank.rank) plans.push_back(algorithm.plan(of_rank));
  return check_plans(key.layout, plans, options);
}

}  // namespace cgx
