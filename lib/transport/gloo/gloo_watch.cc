// See gloo_watch.h.
#include "transport/gloo/gloo_watch.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "transport/rendezvous.h"

namespace cgx {
namespace {

constexpr int kTickMs = 50;       // how late a deadline may be noticed
constexpr int64_t kDrainMs = 50;  // for Gloo's thread to hand over what it has read

}  // namespace

GlooWatch::GlooWatch(int rank, const std::vector<int>& sockets, Store* store, std::string job)
    : rank_(rank), store_(store), job_(std::move(job)), wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  for (const int socket : sockets) links_.push_back({socket, false, {}});
  thread_ = std::thread([this] { run(); });
}

GlooWatch::~GlooWatch() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  const uint64_t one = 1;
  static_cast<void>(::write(wake_, &one, sizeof one));
  thread_.join();
  for (const Link& link : links_) {
    if (link.socket >= 0) ::close(link.socket);
  }
  if (wake_ >= 0) ::close(wake_);
}

Status GlooWatch::fail(Status status) {
  const std::lock_guard lock(mutex_);
  if (!failure_.ok()) return failure_;
  failure_ = std::move(status);
  stop_waiting(GlooVerdict::kFailed);
  const uint64_t one = 1;
  static_cast<void>(::write(wake_, &one, sizeof one));
  return failure_;
}

Status GlooWatch::failure() const {
  const std::lock_guard lock(mutex_);
  return failure_;
}

void GlooWatch::begin(const GlooWaiting& waiting) {
  const std::lock_guard lock(mutex_);
  waiting_ = waiting;
  seen_progress_.reset();
  deadline_ = Deadline(waiting.timeout_ms);
  verdict_ = GlooVerdict::kNone;
  if (!failure_.ok()) stop_waiting(GlooVerdict::kFailed);
}

GlooVerdict GlooWatch::end() {
  const std::lock_guard lock(mutex_);
  waiting_.reset();
  return verdict_;
}

// With the lock held.
void GlooWatch::stop_waiting(GlooVerdict verdict) {
  if (!waiting_ || verdict_ != GlooVerdict::kNone) return;
  verdict_ = verdict;
  if (waiting_->sending) {
    waiting_->buffer->abortWaitSend();
  } else {
    waiting_->buffer->abortWaitRecv();
  }
}

void GlooWatch::run() {
  for (;;) {
    if (tell()) return;
    std::vector<pollfd> fds = {{wake_, POLLIN, 0}};
    std::vector<int> peers = {-1};
    for (size_t i = 0; i < links_.size(); ++i) {
      if (links_[i].socket < 0 || links_[i].closed) continue;
      fds.push_back({links_[i].socket, POLLRDHUP, 0});
      peers.push_back(static_cast<int>(i));
    }
    ::poll(fds.data(), fds.size(), kTickMs);
    uint64_t ignored = 0;
    static_cast<void>(::read(wake_, &ignored, sizeof ignored));
    for (size_t i = 1; i < fds.size(); ++i) {
      if (fds[i].revents != 0) look_at_closed(peers[i]);
    }
    look_at_waiting();
  }
}

// Leaves word of a failure before it disconnects, so that whoever sees the end of the connection finds
// the reason. True when the thread is to end.
bool GlooWatch::tell() {
  std::unique_lock lock(mutex_);
  if (!failure_.ok() && !told_) {
    told_ = true;
    const Status failure = failure_;
    lock.unlock();
    publish_failure(store_, job_, rank_, failure);
    for (const Link& link : links_) {
      if (link.socket >= 0) ::shutdown(link.socket, SHUT_RDWR);
    }
    lock.lock();
  }
  return stopping_;
}

// A peer that closes may have ended well: then only those who still wait for it have a reason to fail.
void GlooWatch::look_at_closed(int peer) {
  links_[static_cast<size_t>(peer)].closed = true;
  const std::string reason = find_failure(store_, job_, peer);
  if (reason.empty()) return;
  std::string during;
  {
    const std::lock_guard lock(mutex_);
    if (waiting_) {
      during = fmt::format(" (this rank was waiting for rank {}, phase {})", waiting_->peer, waiting_->phase);
    }
  }
  static_cast<void>(fail(error(Code::kPeerFailed, "gloo: {}{}", reason, during)));
}

void GlooWatch::look_at_waiting() {
  const std::lock_guard lock(mutex_);
  if (!waiting_) return;
  if (is_drained(links_[static_cast<size_t>(waiting_->peer)])) return stop_waiting(GlooVerdict::kPeerClosed);
  const uint64_t now = progress();
  if (seen_progress_ && *seen_progress_ != now) deadline_ = Deadline(waiting_->timeout_ms);
  seen_progress_ = now;
  if (deadline_.over()) stop_waiting(GlooVerdict::kTimedOut);
}

// True when the peer has closed and Gloo has had its time to read what came before that.
bool GlooWatch::is_drained(Link& link) {
  if (!link.closed) return false;
  int unread = 0;
  if (::ioctl(link.socket, FIONREAD, &unread) == 0 && unread > 0) return false;
  if (!link.drained_by) link.drained_by = Deadline(kDrainMs);
  return link.drained_by->over();
}

// Moves with every byte that any peer sent or acknowledged.
uint64_t GlooWatch::progress() const {
  uint64_t bytes = 0;
  for (const Link& link : links_) {
    tcp_info info = {};
    socklen_t length = sizeof info;
    if (link.socket < 0 || ::getsockopt(link.socket, IPPROTO_TCP, TCP_INFO, &info, &length) != 0) continue;
    bytes += info.tcpi_bytes_received + info.tcpi_bytes_acked;
  }
  return bytes;
}

}  // namespace cgx
