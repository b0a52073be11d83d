// A policy as JSON: the profile, from which every choice follows, and for people the choices at some sizes.
// Written by one run, a file of it pins another run's policy.
#pragma once

#include <string>
#include <vector>

#include "base/status.h"
#include "plan/cost.h"

namespace cgx {

struct Policy {
  Profile profile;
  std::string transport;
};

std::string to_json(const Policy& policy);
// kInvalidArgument says what in the text is missing or wrong; `source` names it.
Result<Policy> parse_policy(const std::string& text, const std::string& source);
// Where a policy is to serve.
struct Place {
  int size = 1;
  std::vector<int> hosts;  // of each rank
  std::string transport;
};
// Refuses one of another number of ranks or hosts or another transport.
Result<Profile> read_policy(const std::string& text, const Place& place);
// The text of a file, which parse_policy() accepts.
Result<std::string> load_policy(const std::string& path);

}  // namespace cgx
