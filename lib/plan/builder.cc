#include "plan/builder.h"

#include <algorithm>
#include <utility>

#include "plan/phases.h"

namespace cgx {

namespace {

// count * i / parts without overflow.
uint64_t share(uint64_t count, uint64_t i, uint64_t parts) {
  return count / parts * i + count % parts * i / parts;
}

// A segment's granules are all a group times a power of two, so where one layout may be cut at or after
// another's cut, both may.
uint64_t chunk_cut(const Layout& layout, const Layout* also, uint64_t at) {
  const uint64_t cut = layout.chunk_cut(at);
  return also == nullptr ? cut : std::max(cut, also->chunk_cut(at));
}

uint64_t slice_cut(const Layout& layout, const Layout* also, uint64_t at, Range chunk) {
  const uint64_t cut = layout.slice_cut(at, chunk.begin, chunk.end);
  return also == nullptr ? cut : std::max(cut, also->slice_cut(at, chunk.begin, chunk.end));
}

}  // namespace

std::vector<Range> cut_chunks(const Layout& layout, int parts, const Layout* also) {
  std::vector<Range> chunks;
  uint64_t begin = 0;
  for (int i = 1; i <= parts; ++i) {
    const uint64_t at = share(layout.count(), static_cast<uint64_t>(i), static_cast<uint64_t>(parts));
    const uint64_t end = chunk_cut(layout, also, at);
    chunks.push_back({begin, end});
    begin = end;
  }
  return chunks;
}

std::vector<Range> cut_slices(const Layout& layout, Range chunk, uint64_t slice_bytes, const Layout* also) {
  std::vector<Range> slices;
  if (chunk.empty()) return slices;
  const uint64_t count = chunk.end - chunk.begin;
  const uint64_t per_slice = std::max<uint64_t>(1, slice_bytes / dtype_bytes(layout.dtype()));
  const uint64_t parts = (count + per_slice - 1) / per_slice;
  uint64_t begin = chunk.begin;
  for (uint64_t i = 1; i <= parts && begin < chunk.end; ++i) {
    const uint64_t at = chunk.begin + share(count, i, parts);
    if (at <= begin) continue;
    const uint64_t end = slice_cut(layout, also, at, chunk);
    slices.push_back({begin, end});
    begin = end;
  }
  return slices;
}

std::vector<int> PlanBuilder::others() const {
  std::vector<int> ranks;
  for (int distance = 1; distance < size(); ++distance) ranks.push_back(after(distance));
  return ranks;
}

Plan PlanBuilder::take() {
  name_phases(&plan_);
  plan_.first_send.assign(plan_.messages.size(), kNoStep);
  for (size_t i = plan_.steps.size(); i-- > 0;) {
    const Step& step = plan_.steps[i];
    if (step.op == Step::Op::kSend) plan_.first_send[step.message] = static_cast<uint32_t>(i);
  }
  return std::move(plan_);
}

uint32_t PlanBuilder::make_message(Range range, Level level) {
  const Layout& layout = plan_.layout(level, key_.layout);
  plan_.messages.push_back({range.begin, range.end, layout.wire_bytes(range.begin, range.end), level});
  return static_cast<uint32_t>(plan_.messages.size() - 1);
}

Range PlanBuilder::range_of(uint32_t message) const {
  const Message& m = plan_.messages[message];
  return {m.begin, m.end};
}

Step& PlanBuilder::add(Step::Op op, uint32_t message, Range range) {
  Step step{};
  step.op = op;
  step.message = message;
  step.begin = range.begin;
  step.end = range.end;
  plan_.steps.push_back(std::move(step));
  return plan_.steps.back();
}

uint32_t PlanBuilder::encode(Range range, uint8_t stage, Level level) {
  const uint32_t message = make_message(range, level);
  add(Step::Op::kEncode, message, range).stage = stage;
  return message;
}

uint32_t PlanBuilder::reduce_encode(Range range, std::vector<uint32_t> inputs, uint8_t stage) {
  const uint32_t message = make_message(range);
  Step& step = add(Step::Op::kReduceEncode, message, range);
  step.stage = stage;
  step.inputs = std::move(inputs);
  return message;
}

uint32_t PlanBuilder::reduce_encode_last(Range range, std::vector<uint32_t> inputs, uint8_t stage) {
  const uint32_t message = reduce_encode(range, std::move(inputs), stage);
  plan_.steps.back().last = true;
  return message;
}

uint32_t PlanBuilder::forward(uint32_t message) {
  const Range range = range_of(message);
  const uint32_t copy = make_message(range, plan_.messages[message].level);
  add(Step::Op::kForward, copy, range).inputs = {message};
  return copy;
}

void PlanBuilder::reduce(Range range, std::vector<uint32_t> inputs) {
  add(Step::Op::kReduce, kNoMessage, range).inputs = std::move(inputs);
}

void PlanBuilder::decode(uint32_t message) { add(Step::Op::kDecode, message, range_of(message)); }

uint32_t PlanBuilder::post(int peer, Range range, Level level) {
  const uint32_t message = make_message(range, level);
  add(Step::Op::kPost, message, range).peers = {peer};
  return message;
}

void PlanBuilder::receive(int peer, uint32_t message) {
  add(Step::Op::kReceive, message, range_of(message)).peers = {peer};
}

void PlanBuilder::send(uint32_t message, std::vector<int> peers) {
  add(Step::Op::kSend, message, range_of(message)).peers = std::move(peers);
}

void PlanBuilder::release(uint32_t message) { add(Step::Op::kRelease, message, range_of(message)); }

void PlanBuilder::take_result(int peer, uint32_t message, const std::vector<int>& onward) {
  receive(peer, message);
  if (!onward.empty()) {
    const uint32_t copy = forward(message);
    send(copy, onward);
    release(copy);
  }
  decode(message);
  release(message);
}

}  // namespace cgx
