#include "plan/text.h"

#include <fmt/format.h>

#include <iterator>

namespace cgx {

namespace {

constexpr const char* kOpNames[] = {"encode", "send",   "post",    "receive", "reduce_encode",
                                    "reduce", "decode", "forward", "release"};

void add_message(std::string& text, uint32_t message) {
  if (message == kOwnInput) {
    text += " own";
  } else {
    fmt::format_to(std::back_inserter(text), " m{}", message);
  }
}

}  // namespace

std::string to_text(const Step& step) {
  using Op = Step::Op;
  std::string text = kOpNames[static_cast<int>(step.op)];
  if (step.message != kNoMessage) add_message(text, step.message);
  text += fmt::format(" [{}, {})", step.begin, step.end);
  if (!step.inputs.empty()) text += " of";
  for (uint32_t input : step.inputs) add_message(text, input);
  if (step.op == Op::kEncode || step.op == Op::kReduceEncode) text += fmt::format(" stage {}", step.stage);
  if (step.last) text += " last";
  if (!step.peers.empty()) text += step.op == Op::kSend ? " to" : " from";
  for (int peer : step.peers) text += fmt::format(" {}", peer);
  return text;
}

std::string to_text(const Plan& plan) {
  std::string text;
  for (size_t i = 0; i < plan.steps.size(); ++i) text += fmt::format("{} {}\n", i, to_text(plan.steps[i]));
  return text;
}

}  // namespace cgx
