// See hello.h.
#include "comm/hello.h"

#include <algorithm>
#include <cstring>

namespace cgx {
namespace {

std::string mismatch_key(const std::string& job, int rank) {
  return fmt::format("{}/mismatch/{}", job, rank);
}

Wait hello_wait(int64_t timeout_ms) { return {timeout_ms, "the start of the collective"}; }

}  // namespace

void Hello::set_text(const std::string& words) {
  const size_t bytes = std::min(words.size(), sizeof(text) - 1);
  std::memcpy(text, words.data(), bytes);
  text[bytes] = '\0';
  if (bytes < words.size()) std::memcpy(text + bytes - 3, "...", 3);
}

std::string Hello::call() const {
  return fmt::format("allreduce #{} ({})", operation, std::string(text, strnlen(text, sizeof(text))));
}

Status compare_hellos(const Hello& own, int own_rank, const Hello& theirs, int their_rank) {
  if (theirs.magic != Hello::kMagic) {
    return error(Code::kMismatch,
                 "rank {} began a collective with bytes that are no hello of cgx (0x{:08x}): it runs another "
                 "version of cgx or another byte order than rank {} (this one)",
                 their_rank, theirs.magic, own_rank);
  }
  if (theirs.version != own.version) {
    return error(Code::kMismatch, "rank {} runs version {} of cgx, but rank {} (this one) runs version {}",
                 their_rank, theirs.version, own_rank, own.version);
  }
  if (theirs.operation == own.operation && theirs.fingerprint == own.fingerprint) return Status();
  const std::string their_call = theirs.call();
  const std::string own_call = own.call();
  return error(
      Code::kMismatch, "rank {} called {}, but rank {} (this one) called {}{}", their_rank, their_call,
      own_rank, own_call,
      their_call == own_call ? ": their segments differ in an offset, a count, a codec or a tensor id" : "");
}

void publish_mismatch(Store* store, const std::string& job, int rank, const Status& mismatch) {
  // A courtesy: where the store is gone the peers still learn that this rank failed.
  static_cast<void>(store->set(mismatch_key(job, rank), mismatch.message()));
}

Status find_mismatch(Store* store, const std::string& job, int rank, int size) {
  for (int peer = 0; peer < size; ++peer) {
    if (peer == rank) continue;
    const Result<std::string> words = store->try_get(mismatch_key(job, peer));
    if (words.ok()) return error(Code::kMismatch, "rank {} reported: {}", peer, *words);
    if (words.status().code() != Code::kTimeout) break;  // the store itself is gone
  }
  return Status();
}

Status HelloTransport::begin(const Hello& own, int64_t timeout_ms) {
  own_ = own;
  timeout_ms_ = timeout_ms;
  held_.clear();
  verified_ = size() == 1;
  if (verified_) return Status();
  std::vector<int> peers;
  for (int peer = 0; peer < size(); ++peer) {
    if (peer != rank()) peers.push_back(peer);
  }
  CGX_ASSIGN_OR_RETURN(uint8_t * message, inner_->acquire(sizeof(Hello), hello_wait(timeout_ms)));
  std::memcpy(message, &own_, sizeof(Hello));
  Status sent = inner_->send(message, sizeof(Hello), peers);
  inner_->release(message);
  CGX_RETURN_IF_ERROR(std::move(sent));
  for (int peer : peers) CGX_RETURN_IF_ERROR(inner_->post(peer, sizeof(Hello)));
  return Status();
}

Status HelloTransport::verify() {
  if (verified_) return Status();
  for (int peer = 0; peer < size(); ++peer) {
    if (peer == rank()) continue;
    CGX_ASSIGN_OR_RETURN(const uint8_t* message,
                         inner_->receive(peer, sizeof(Hello), hello_wait(timeout_ms_)));
    Hello theirs;
    std::memcpy(&theirs, message, sizeof(Hello));
    inner_->release(message);
    CGX_RETURN_IF_ERROR(compare_hellos(own_, rank(), theirs, peer));
  }
  verified_ = true;
  for (const Posted& posted : held_) CGX_RETURN_IF_ERROR(inner_->post(posted.peer, posted.bytes));
  held_.clear();
  return Status();
}

Status HelloTransport::post(int peer, size_t bytes) {
  if (verified_) return inner_->post(peer, bytes);
  held_.push_back({peer, bytes});
  return Status();
}

Result<const uint8_t*> HelloTransport::receive(int peer, size_t bytes, const Wait& wait) {
  CGX_RETURN_IF_ERROR(verify());
  return inner_->receive(peer, bytes, wait);
}

}  // namespace cgx
