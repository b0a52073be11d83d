// The word of each step is what its message is used for first, and each message's first sending is found,
// for every algorithm's plans.
#include "plan/phases.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "plan/algorithm_list.h"
#include "plan/layouts.h"

namespace cgx {
namespace {

// By looking at every later step, which a plan of many steps cannot afford.
std::string phase_by_search(const Plan& plan, size_t at) {
  const Step& step = plan.steps[at];
  if (step.last || step.op == Step::Op::kForward) return "gather";
  if (step.message == kNoMessage) return "scatter";
  for (size_t i = at + 1; i < plan.steps.size(); ++i) {
    const Step& use = plan.steps[i];
    if (use.op == Step::Op::kDecode && use.message == step.message) return "gather";
    if (use.op == Step::Op::kRelease && use.message == step.message) break;
    if (std::find(use.inputs.begin(), use.inputs.end(), step.message) == use.inputs.end()) continue;
    return use.op == Step::Op::kReduceEncode ? "scatter" : "gather";
  }
  return "scatter";
}

uint32_t send_by_search(const Plan& plan, uint32_t message) {
  const auto send = std::find_if(plan.steps.begin(), plan.steps.end(), [&](const Step& step) {
    return step.op == Step::Op::kSend && step.message == message;
  });
  return send == plan.steps.end() ? kNoStep : static_cast<uint32_t>(send - plan.steps.begin());
}

TEST(Phases, AreWhatASearchThroughThePlanFinds) {
  for (const Algorithm& algorithm : algorithms()) {
    for (const int size : {1, 2, 3, 5}) {
      const auto layout = Layout::uniform(DType::kF32, 5000, *parse_spec("maxmin:bits=4"), 1);
      ASSERT_TRUE(layout.ok());
      PlanKey key;
      key.rank = size / 2;
      key.size = size;
      key.layout = *layout;
      key.slice_bytes = 2048;
      const Plan plan = algorithm.plan(key);
      ASSERT_EQ(plan.phases.size(), plan.steps.size());
      for (size_t i = 0; i < plan.steps.size(); ++i) {
        ASSERT_EQ(plan.phases[i], phase_by_search(plan, i)) << algorithm.name << ", step " << i;
      }
      ASSERT_EQ(plan.first_send.size(), plan.messages.size());
      for (uint32_t m = 0; m < plan.messages.size(); ++m) {
        ASSERT_EQ(plan.first_send[m], send_by_search(plan, m)) << algorithm.name << ", message " << m;
      }
    }
  }
}

}  // namespace
}  // namespace cgx
