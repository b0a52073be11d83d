// How ranks find out who is there and who failed, through a store. Both are shared by all transports.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "transport/store.h"

namespace cgx {

// Leaves `card` (any bytes) for the other ranks and waits for theirs: returns one card a rank, in rank
// order. kTimeout names every missing rank: "ranks 2 and 3 of 4 did not come within 5000 ms". Collective,
// once for each (store, job, stage).
struct Meeting {
  int rank = 0;
  int size = 1;
  std::string job;    // a name that other communicators of the store do not use
  std::string stage;  // what they meet for, "start": part of the key, and of errors
  int64_t timeout_ms = 0;
};
Result<std::vector<std::string>> meet(Store* store, const Meeting& meeting, const std::string& card);

// What rank `peer` left under `key`, waiting for it. kMismatch names the rank where one of the two has a
// secret and the other none, or another.
Result<std::string> read_card(Store* store, const std::string& key, int peer, int64_t timeout_ms);

// "; <whom the store has turned away>", to end a sentence about ranks that did not come; or "".
std::string refusal_of(const Store& store);

// As the other meet(), without cards.
Status meet(Store* store, int rank, int size, const std::string& job, int64_t timeout_ms);

// Leaves word that `rank` failed, so that the others can name the cause and not only its consequence.
// The first failure of a rank stays. Errors of the store are ignored: this is a courtesy.
void publish_failure(Store* store, const std::string& job, int rank, const Status& reason);

// "rank 2 failed: ..." of the lowest rank but `asking` that left word, "" if none did. Does not wait.
std::string find_failure(Store* store, const std::string& job, int asking, int size);

// The same of one rank.
std::string find_failure(Store* store, const std::string& job, int rank);

// "rank 2", "ranks 2 and 3", "ranks 1, 2 and 3".
std::string name_ranks(const std::vector<int>& ranks);

}  // namespace cgx
