// See phases.h.
#include "plan/phases.h"

namespace cgx {

void name_phases(Plan* plan) {
  constexpr const char* kScatter = "scatter";
  constexpr const char* kGather = "gather";
  std::vector<const char*> next_use(plan->messages.size(), kScatter);
  plan->phases.assign(plan->steps.size(), kScatter);
  for (size_t i = plan->steps.size(); i-- > 0;) {
    const Step& step = plan->steps[i];
    const bool has_message = step.message != kNoMessage;
    if (has_message) plan->phases[i] = next_use[step.message];
    if (step.last || step.op == Step::Op::kForward) plan->phases[i] = kGather;
    if (has_message && step.op == Step::Op::kDecode) next_use[step.message] = kGather;
    if (has_message && step.op == Step::Op::kRelease) next_use[step.message] = kScatter;
    for (uint32_t input : step.inputs) {
      if (input == kOwnInput) continue;
      next_use[input] = step.op == Step::Op::kReduceEncode ? kScatter : kGather;
    }
  }
}

}  // namespace cgx
