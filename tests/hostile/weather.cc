// See weather.h. Only the calls that move messages and handshakes are disturbed; others go through.
#include "weather.h"

#include <dlfcn.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <random>
#include <vector>

namespace cgx::test {

Weather& weather() {
  static Weather the_weather;
  return the_weather;
}

namespace {

uint32_t draw() {
  static std::atomic<uint32_t> seeds{1};
  thread_local std::minstd_rand random(seeds.fetch_add(1));
  return static_cast<uint32_t>(random());
}

template <typename Function>
Function* real(const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

// True: this call is not to happen, and errno says why.
bool is_disturbed() {
  Weather& w = weather();
  w.calls.fetch_add(1, std::memory_order_relaxed);
  if (draw() % 100 >= w.storm.load(std::memory_order_relaxed)) return false;
  w.disturbed.fetch_add(1, std::memory_order_relaxed);
  errno = draw() % 2 == 0 ? EINTR : EAGAIN;
  return true;
}

size_t shortened(size_t bytes) {
  Weather& w = weather();
  if (bytes == 0 || draw() % 100 >= w.storm.load(std::memory_order_relaxed)) return bytes;
  w.disturbed.fetch_add(1, std::memory_order_relaxed);
  return 1 + draw() % bytes;
}

// The same vectors, cut to `bytes` bytes.
std::vector<iovec> cut(const msghdr& call, size_t bytes) {
  std::vector<iovec> vectors(call.msg_iov, call.msg_iov + call.msg_iovlen);
  for (iovec& v : vectors) {
    v.iov_len = std::min(v.iov_len, bytes);
    bytes -= v.iov_len;
  }
  while (!vectors.empty() && vectors.back().iov_len == 0) vectors.pop_back();
  return vectors;
}

size_t total(const msghdr& call) {
  size_t bytes = 0;
  for (size_t i = 0; i < call.msg_iovlen; ++i) bytes += call.msg_iov[i].iov_len;
  return bytes;
}

// Counts `bytes` off; true for the call in which the count ends, with what was left before it.
bool strikes(std::atomic<int64_t>& after, size_t bytes, size_t* left) {
  int64_t now = after.load();
  while (now >= 0) {
    const bool ends = now < static_cast<int64_t>(bytes);
    if (after.compare_exchange_weak(now, ends ? -1 : now - static_cast<int64_t>(bytes))) {
      *left = static_cast<size_t>(now);
      return ends;
    }
  }
  return false;
}

void flip(const msghdr& call, size_t at) {
  for (size_t i = 0; i < call.msg_iovlen; ++i) {
    if (at < call.msg_iov[i].iov_len) {
      static_cast<uint8_t*>(call.msg_iov[i].iov_base)[at] ^= static_cast<uint8_t>(1u << draw() % 8);
      weather().struck = true;
      return;
    }
    at -= call.msg_iov[i].iov_len;
  }
}

void end_connection(int fd) {
  if (weather().break_by_reset) {
    sockaddr nobody = {};
    nobody.sa_family = AF_UNSPEC;  // disconnects, with an RST to the peer
    ::connect(fd, &nobody, sizeof nobody);
  } else {
    ::shutdown(fd, SHUT_RDWR);
  }
  weather().struck = true;
}

}  // namespace
}  // namespace cgx::test

extern "C" {

ssize_t recvmsg(int fd, msghdr* message, int flags) {
  using namespace cgx::test;  // NOLINT(google-build-using-namespace)
  static const auto next = real<ssize_t(int, msghdr*, int)>("recvmsg");
  if (is_disturbed()) return -1;
  std::vector<iovec> vectors = cut(*message, shortened(total(*message)));
  msghdr call = *message;
  call.msg_iov = vectors.data();
  call.msg_iovlen = vectors.size();
  const ssize_t n = next(fd, &call, flags);
  size_t at = 0;
  if (n > 0 && strikes(weather().flip_after, static_cast<size_t>(n), &at)) flip(call, at);
  return n;
}

ssize_t sendmsg(int fd, const msghdr* message, int flags) {
  using namespace cgx::test;  // NOLINT(google-build-using-namespace)
  static const auto next = real<ssize_t(int, const msghdr*, int)>("sendmsg");
  if (is_disturbed()) return -1;
  size_t bytes = shortened(total(*message));
  size_t left = 0;
  const bool ends = strikes(weather().break_after, bytes, &left);
  if (ends) bytes = left;
  std::vector<iovec> vectors = cut(*message, bytes);
  msghdr call = *message;
  call.msg_iov = vectors.data();
  call.msg_iovlen = vectors.size();
  const ssize_t n = vectors.empty() ? 0 : next(fd, &call, flags);
  if (!ends) return n;
  end_connection(fd);
  errno = EPIPE;
  return n > 0 ? n : -1;
}

ssize_t recv(int fd, void* memory, size_t bytes, int flags) {
  using namespace cgx::test;  // NOLINT(google-build-using-namespace)
  static const auto next = real<ssize_t(int, void*, size_t, int)>("recv");
  if (is_disturbed()) return -1;
  return next(fd, memory, shortened(bytes), flags);
}

int poll(pollfd* fds, nfds_t count, int timeout) {
  using namespace cgx::test;  // NOLINT(google-build-using-namespace)
  static const auto next = real<int(pollfd*, nfds_t, int)>("poll");
  if (is_disturbed()) {
    errno = EINTR;
    return -1;
  }
  return next(fds, count, timeout);
}

}  // extern "C"
