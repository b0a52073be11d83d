// What the checker is worth: plans with one seeded mistake each. A mistake that it lets pass must change
// nothing: such plans are run, and must give the bits of the right plan on every rank.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "plan/check.h"
#include "plan/layouts.h"
#include "plan/ranks_run.h"
#include "plan/text.h"

namespace cgx {
namespace {

using Op = Step::Op;

struct Mutator {
  std::mt19937 random;

  size_t below(size_t n) { return random() % n; }

  Step& any_step(Plan& plan) { return plan.steps[below(plan.steps.size())]; }
  Step& step_with(Plan& plan, auto condition) {
    for (;;) {
      Step& step = any_step(plan);
      if (condition(step)) return step;
    }
  }
  uint32_t any_message(const Plan& plan) { return static_cast<uint32_t>(below(plan.messages.size())); }
  uint32_t any_input(const Plan& plan) { return below(4) == 0 ? kOwnInput : any_message(plan); }
  static bool is_sum(const Step& s) { return s.op == Op::kReduceEncode || s.op == Op::kReduce; }
  static bool sums(const Plan& plan) { return std::any_of(plan.steps.begin(), plan.steps.end(), is_sum); }
  static bool changes_a_sum(int kind) { return kind >= 11 && kind <= 13; }
  // REQUIRES: sums(plan)
  Step& sum(Plan& plan) { return step_with(plan, is_sum); }
  Step& with_peers(Plan& plan) {
    return step_with(plan, [](const Step& s) { return !s.peers.empty(); });
  }
  Step& with_message(Plan& plan) {
    return step_with(plan, [](const Step& s) { return s.message != kNoMessage; });
  }

  static constexpr int kKinds = 16;
  static constexpr const char* kNames[kKinds] = {"drop a step",      "double a step",
                                                 "swap neighbours",  "swap any two steps",
                                                 "move a step",      "change a peer",
                                                 "drop a peer",      "change a message",
                                                 "shift a range",    "shift a message's range",
                                                 "change its bytes", "change an input",
                                                 "drop an input",    "swap inputs",
                                                 "change the stage", "change the operation"};

  void mutate(int kind, int size, Plan& plan) {
    const auto at = [&](size_t i) { return plan.steps.begin() + static_cast<std::ptrdiff_t>(i); };
    const size_t i = below(plan.steps.size());
    const size_t j = below(plan.steps.size());
    switch (kind) {
      case 0:
        plan.steps.erase(at(i));
        break;
      case 1:
        plan.steps.insert(at(i), Step(plan.steps[j]));
        break;
      case 2:
        std::swap(plan.steps[i], plan.steps[i + 1 < plan.steps.size() ? i + 1 : 0]);
        break;
      case 3:
        std::swap(plan.steps[i], plan.steps[j]);
        break;
      case 4: {
        const Step step = plan.steps[i];
        plan.steps.erase(at(i));
        plan.steps.insert(at(std::min(j, plan.steps.size())), step);
        break;
      }
      case 5: {
        Step& step = with_peers(plan);
        step.peers[below(step.peers.size())] = static_cast<int>(below(static_cast<size_t>(size)));
        break;
      }
      case 6:
        with_peers(plan).peers.pop_back();
        break;
      case 7:
        with_message(plan).message = any_message(plan);
        break;
      case 8:
        shift(any_step(plan));
        break;
      case 9:
        shift(plan.messages[any_message(plan)]);
        break;
      case 10:
        ++plan.messages[any_message(plan)].bytes;
        break;
      case 11: {
        Step& step = sum(plan);
        step.inputs[below(step.inputs.size())] = any_input(plan);
        break;
      }
      case 12:
        sum(plan).inputs.pop_back();
        break;
      case 13: {
        Step& step = sum(plan);
        std::swap(step.inputs[below(step.inputs.size())], step.inputs[below(step.inputs.size())]);
        break;
      }
      case 14: {
        const auto rounds = [](const Step& s) { return s.op == Op::kEncode || s.op == Op::kReduceEncode; };
        step_with(plan, rounds).stage ^= static_cast<uint8_t>(1 + below(3));
        break;
      }
      case 15: {
        Step& step = any_step(plan);
        if (step.op == Op::kReduceEncode && below(2) == 0) {
          step.last = !step.last;
        } else {
          step.op = static_cast<Op>(below(9));
        }
        break;
      }
    }
  }

  void shift(auto& range) {
    const uint64_t by = below(2) == 0 ? 64 : 1;
    if (below(2) == 0)
      range.begin += by;
    else
      range.end -= by;
  }
};

class MutationTest : public testing::TestWithParam<const Algorithm*> {};

INSTANTIATE_TEST_SUITE_P(List, MutationTest, testing::ValuesIn([] {
                           std::vector<const Algorithm*> all;
                           for (const Algorithm& a : algorithms()) all.push_back(&a);
                           return all;
                         }()),
                         [](const auto& test) { return std::string(test.param->name); });

TEST_P(MutationTest, EveryMistakeIsCaughtOrChangesNothing) {
  constexpr int kMutantsAKind = 25;
  int caught = 0;
  int harmless = 0;
  for (int size : {2, 3, 5}) {
    const PlanKey key{0, size, test::uniform(4097, "maxmin:bits=4,bucket=64"), 2048,
                      test::groupings(size)[2]};
    const std::vector<Plan> right = test::plans_of(*GetParam(), key);
    const test::Outcome expected = test::run_plans(key.layout, right);
    for (int kind = 0; kind < Mutator::kKinds; ++kind) {
      for (int seed = 0; seed < kMutantsAKind; ++seed) {
        Mutator mutator{std::mt19937(static_cast<uint32_t>(seed * 1000 + kind * 10 + size))};
        std::vector<Plan> plans = right;
        size_t rank = mutator.below(plans.size());
        // Leaves of a tree sum nothing.
        while (Mutator::changes_a_sum(kind) && !Mutator::sums(plans[rank])) rank = (rank + 1) % plans.size();
        mutator.mutate(kind, size, plans[rank]);
        if (!check_plans(key.layout, plans).ok()) {
          ++caught;
          continue;
        }
        ++harmless;
        const test::Outcome outcome = test::run_plans(key.layout, plans);
        ASSERT_EQ(outcome.errors, expected.errors)
            << Mutator::kNames[kind] << " seed " << seed << " size " << size;
        ASSERT_EQ(outcome.y, expected.y)
            << Mutator::kNames[kind] << " seed " << seed << " size " << size << " of rank " << rank << "\n"
            << to_text(plans[rank]);
      }
    }
  }
  RecordProperty("caught", caught);
  RecordProperty("harmless", harmless);
  // Swaps of steps or inputs that are the same or do not depend on each other are what is harmless; if
  // they were the rule, the mutants would be too tame to show anything.
  EXPECT_GT(caught, 3 * harmless);
  EXPECT_GT(caught, 500);
}

}  // namespace
}  // namespace cgx
