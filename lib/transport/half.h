// One of the two transports that a mixed one (mixed.h) is made of: one for the ranks of this host, one for
// all others. A rank has one thread: while it waits in one half, that half keeps the other going, and sleeps
// where either can wake it. A failure of one half is one of both, told to the peers of both in the same
// words.
#pragma once

#include <poll.h>

#include <span>
#include <string>
#include <vector>

#include "base/status.h"
#include "transport/transport.h"

namespace cgx {

// What a rank is doing, for errors: made into words only when there is one. Refers to what it is made of.
class Words {
 public:
  template <typename Describe>
  Words(const Describe& describe)  // NOLINT(google-explicit-constructor): a lambda is passed as such
      : describe_(&describe),
        call_([](const void* made) { return (*static_cast<const Describe*>(made))(); }) {}
  std::string operator()() const { return call_(describe_); }

 private:
  const void* describe_;
  std::string (*call_)(const void*);
};

class Half : public Transport {
 public:
  // Before anything is sent. Neither is used once one of them is gone.
  void pair_with(Half* other) { other_ = other; }

  // The first failure stays, is told to the peers as `told`, with `words`, as one of rank `origin`, and fails
  // the other half. Any thread. Returns the failure that stayed.
  virtual Status fail(const Status& status, Code told, int origin, const std::string& words) = 0;

  // For the half that waits. Moves what can be moved without waiting, and looks whether the peers live.
  // *moved: a peer did something since the last call.
  virtual Status advance(const Words& words, bool* moved) = 0;
  // Appends what wakes this half, for poll(). False where something has come already.
  virtual bool prepare_sleep(std::vector<pollfd>* fds) = 0;
  // With what prepare_sleep() appended, as poll() left it.
  virtual void end_sleep(std::span<const pollfd> fds) = 0;

 protected:
  // Until either half is woken, or `milliseconds`, unless look() finds something first. Without time to sleep
  // the other half is not told to ring.
  template <typename Look>
  void sleep(int milliseconds, const Look& look) {
    fds_.clear();
    bool idle = prepare_sleep(&fds_);
    const size_t own = fds_.size();
    Half* other = milliseconds > 0 ? other_ : nullptr;
    if (other != nullptr) idle = other->prepare_sleep(&fds_) && idle;
    ::poll(fds_.data(), fds_.size(), idle && !look() ? milliseconds : 0);
    end_sleep({fds_.data(), own});
    if (other != nullptr) other->end_sleep({fds_.data() + own, fds_.size() - own});
  }
  Status advance_other(const Words& words, bool* moved) const {
    return other_ == nullptr ? Status() : other_->advance(words, moved);
  }
  void fail_other(const Status& status, Code told, int origin, const std::string& words) const {
    if (other_ != nullptr) static_cast<void>(other_->fail(status, told, origin, words));
  }
  bool is_paired() const { return other_ != nullptr; }

 private:
  Half* other_ = nullptr;
  std::vector<pollfd> fds_;
};

}  // namespace cgx
