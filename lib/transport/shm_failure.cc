// See shm_failure.h.
#include "transport/shm_failure.h"

#include <cstring>

namespace cgx {

bool ShmFailure::set(ShmHeader& header, const Status& status, Code told, int origin,
                     const std::string& words) {
  const std::lock_guard lock(mutex_);
  if (failed_.load(std::memory_order_relaxed)) return false;
  status_ = status;
  header.failure_code = static_cast<int32_t>(told);
  header.failure_rank = origin;
  const size_t bytes = std::min(words.size(), kShmTextBytes - 1);
  std::memcpy(header.failure_text, words.data(), bytes);
  header.failure_text[bytes] = '\0';
  header.failed.store(1, std::memory_order_seq_cst);
  failed_.store(true, std::memory_order_release);
  return true;
}

Status told_failure(const ShmHeader& header, int peer, int size, int* origin, std::string* words) {
  if (header.failed.load(std::memory_order_acquire) == 0) return {};
  // Peers are believed in their words only.
  const int rank = header.failure_rank;
  *origin = rank >= 0 && rank < size ? rank : peer;
  words->assign(header.failure_text, strnlen(header.failure_text, kShmTextBytes));
  const bool mismatch = header.failure_code == static_cast<int32_t>(Code::kMismatch);
  return error(mismatch ? Code::kMismatch : Code::kPeerFailed, "rank {} reported: {}", *origin, *words);
}

}  // namespace cgx
