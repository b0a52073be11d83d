// The first meeting of a communicator's ranks: each leaves a card with everything that must be equal and
// compares the others' with its own, so that a wrong launch is an error on all ranks that names both sides.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "comm/processors.h"
#include "transport/store.h"

namespace cgx {

struct Card {
  int size = 1;
  int version = 0;
  std::string transport;  // as asked for: "auto" too
  std::string algorithm;
  uint64_t seed = 0;
  uint64_t slice_bytes = 0;
  bool tune = false;
  uint64_t policy = 0;  // a hash of the pinned policy's text
  std::string members;  // of a shrunk communicator: the ranks that they had before
  std::string heir;     // where this rank will serve a store, should the present one end; not compared
  std::string inner_codec;
  Processors processors;  // not compared
};

std::string to_text(const Card& card);
// kMismatch where the text is no card of this version.
Result<Card> parse_card(const std::string& text, int rank);

// Compares all ranks' cards with this one's. kMismatch names the first field that differs, with both values;
// kTimeout names the ranks that did not come.
struct Agreement {
  int rank = 0;
  std::string job;
  int64_t timeout_ms = 0;
};
// Gives all cards, by rank.
Result<std::vector<Card>> agree(Store* store, const Agreement& agreement, const Card& own);

}  // namespace cgx
