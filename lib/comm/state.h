// What a communicator's later results depend on, as bytes for a run that is started again: residuals, the
// random numbers' seed and counter, the policy. docs/WIRE.md describes the format.
//
// Bytes are hostile: nothing is allocated beyond what they themselves take, and what is not exactly a state
// of this rank is an error.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "comm/error_feedback.h"
#include "plan/cost.h"

namespace cgx {

struct StateView {
  int rank = 0;
  int size = 1;
  uint64_t seed = 0;
  uint64_t operation = 0;  // collectives ended well
  bool policy_for_all = false;
  std::string policy;  // as JSON; "" where there is none
  std::vector<ErrorFeedback::Owed> owed;
};

struct State {
  uint64_t seed = 0;
  uint64_t operation = 0;
  bool policy_for_all = false;
  std::optional<Profile> profile;
  ErrorFeedback feedback;
};

uint64_t state_bytes(const StateView& view);
// kInvalidArgument where `out` is smaller than state_bytes(); what is beyond stays as it is.
Status write_state(const StateView& view, std::span<uint8_t> out);
// Refuses (kInvalidArgument) a state of another rank or of another number of ranks.
Result<State> read_state(std::span<const uint8_t> bytes, int rank, int size);

}  // namespace cgx
