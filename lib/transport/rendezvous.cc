// See rendezvous.h.
#include "transport/rendezvous.h"

#include <algorithm>

#include "base/deadline.h"

namespace cgx {
namespace {

// How often a rank that waits for others looks whether one of them has failed.
constexpr int64_t kSliceMs = 200;

std::string card_key(const Meeting& meeting, int rank) {
  return fmt::format("{}/{}/{}", meeting.job, meeting.stage, rank);
}

std::string failure_key(const std::string& job, int rank) { return fmt::format("{}/failed/{}", job, rank); }

// Long after a timeout one look at each key tells who is missing: not only the first one waited for.
Status missing(Store* store, const Meeting& meeting) {
  std::vector<int> ranks;
  for (int r = 0; r < meeting.size; ++r) {
    if (!store->try_get(card_key(meeting, r)).ok()) ranks.push_back(r);
  }
  if (ranks.empty()) {
    return error(Code::kTimeout, "all {} ranks came (job \"{}\", {}), but the last of them only after {} ms",
                 meeting.size, meeting.job, meeting.stage, meeting.timeout_ms);
  }
  return error(
      Code::kTimeout,
      "{} of {} did not come within {} ms (job \"{}\", {}): are all ranks running, with this job name "
      "and this store?{}",
      name_ranks(ranks), meeting.size, meeting.timeout_ms, meeting.job, meeting.stage, refusal_of(*store));
}

}  // namespace

std::string refusal_of(const Store& store) {
  const std::string refusal = store.last_refusal();
  return refusal.empty() ? "" : "; " + refusal;
}

std::string name_ranks(const std::vector<int>& ranks) {
  std::string text = ranks.size() == 1 ? "rank " : "ranks ";
  for (size_t i = 0; i < ranks.size(); ++i) {
    if (i > 0) text += i + 1 == ranks.size() ? " and " : ", ";
    text += std::to_string(ranks[i]);
  }
  return text;
}

Result<std::string> read_card(Store* store, const std::string& key, int peer, int64_t timeout_ms) {
  Result<std::string> card = store->get(key, timeout_ms);
  if (!card.ok() && card.status().code() == Code::kMismatch) {
    return error(Code::kMismatch, "rank {}: {}", peer, card.status().message());
  }
  if (card.ok() && is_signed_value(*card)) {
    return error(
        Code::kMismatch,
        "rank {} has a secret and this rank has none: CGX_SECRET (or `secret`) must be the same on all ranks",
        peer);
  }
  return card;
}

Result<std::vector<std::string>> meet(Store* store, const Meeting& meeting, const std::string& card) {
  const Deadline deadline(meeting.timeout_ms);
  CGX_RETURN_IF_ERROR(store->set(card_key(meeting, meeting.rank), card));
  std::vector<std::string> cards;
  while (cards.size() < static_cast<size_t>(meeting.size)) {
    const int r = static_cast<int>(cards.size());
    const int64_t left_ms = deadline.left_ms();
    Result<std::string> other = r == meeting.rank
                                    ? Result<std::string>(card)
                                    : read_card(store, card_key(meeting, r), r, std::min(left_ms, kSliceMs));
    if (other.ok()) {
      cards.push_back(std::move(other).value());
      continue;
    }
    if (other.status().code() != Code::kTimeout) return other.status();
    const std::string failure = find_failure(store, meeting.job, meeting.rank, meeting.size);
    if (!failure.empty()) return error(Code::kPeerFailed, "while all ranks meet: {}", failure);
    if (left_ms == 0) return missing(store, meeting);
  }
  return cards;
}

Status meet(Store* store, int rank, int size, const std::string& job, int64_t timeout_ms) {
  return meet(store, {rank, size, job, "start", timeout_ms}, "").status();
}

void publish_failure(Store* store, const std::string& job, int rank, const Status& reason) {
  static_cast<void>(store->set(failure_key(job, rank), reason.message()));
}

std::string find_failure(Store* store, const std::string& job, int rank) {
  const Result<std::string> reason = store->try_get(failure_key(job, rank));
  return reason.ok() ? fmt::format("rank {} failed: {}", rank, *reason) : "";
}

std::string find_failure(Store* store, const std::string& job, int asking, int size) {
  for (int r = 0; r < size; ++r) {
    std::string reason = r == asking ? "" : find_failure(store, job, r);
    if (!reason.empty()) return reason;
  }
  return "";
}

}  // namespace cgx
