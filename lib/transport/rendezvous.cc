// See rendezvous.h.
#include "transport/rendezvous.h"

#include <algorithm>

#include "base/deadline.h"

namespace cgx {
namespace {

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
      "and this store?",
      name_ranks(ranks), meeting.size, meeting.timeout_ms, meeting.job, meeting.stage);
}

}  // namespace

std::string name_ranks(const std::vector<int>& ranks) {
  std::string text = ranks.size() == 1 ? "rank " : "ranks ";
  for (size_t i = 0; i < ranks.size(); ++i) {
    if (i > 0) text += i + 1 == ranks.size() ? " and " : ", ";
    text += std::to_string(ranks[i]);
  }
  return text;
}

Result<std::vector<std::string>> meet(Store* store, const Meeting& meeting, const std::string& card) {
  const Deadline deadline(meeting.timeout_ms);
  CGX_RETURN_IF_ERROR(store->set(card_key(meeting, meeting.rank), card));
  std::vector<std::string> cards;
  for (int r = 0; r < meeting.size; ++r) {
    if (r == meeting.rank) {
      cards.push_back(card);
      continue;
    }
    Result<std::string> other = store->get(card_key(meeting, r), deadline.left_ms());
    if (!other.ok())
      return other.status().code() == Code::kTimeout ? missing(store, meeting) : other.status();
    cards.push_back(std::move(other).value());
  }
  return cards;
}

Status meet(Store* store, int rank, int size, const std::string& job, int64_t timeout_ms) {
  return meet(store, {rank, size, job, "start", timeout_ms}, "").status();
}

void publish_failure(Store* store, const std::string& job, int rank, const Status& reason) {
  static_cast<void>(store->set(failure_key(job, rank), reason.message()));
}

std::string find_failure(Store* store, const std::string& job, int asking, int size) {
  for (int r = 0; r < size; ++r) {
    if (r == asking) continue;
    const Result<std::string> reason = store->try_get(failure_key(job, r));
    if (reason.ok()) return fmt::format("rank {} failed: {}", r, *reason);
    if (reason.status().code() != Code::kTimeout) return "";  // the store itself is gone
  }
  return "";
}

}  // namespace cgx
