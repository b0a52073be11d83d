// See gloo_connect.h.
#include "transport/gloo/gloo_connect.h"

#include <fcntl.h>
#include <gloo/transport/pair.h>
#include <gloo/transport/tcp/address.h>
#include <gloo/transport/tcp/device.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <system_error>
#include <utility>

#include "base/deadline.h"
#include "transport/network.h"
#include "transport/rendezvous.h"

namespace cgx {
namespace {

using gloo::transport::tcp::Address;

std::vector<int> open_descriptors() {
  std::vector<int> fds;
  std::error_code fault;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd", fault)) {
    fds.push_back(std::atoi(entry.path().filename().c_str()));
  }
  return fds;
}

// True if `fd` is the connection of that pair. Its own address says so, unless two connections share a
// local port, as those that a rank opened to two peers may: then the other end decides.
bool is_connection(int fd, const std::string& own, const std::string& listening_peer, bool opened_by_us) {
  sockaddr_storage peer = {};
  socklen_t bytes = sizeof peer;
  if (::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &bytes) != 0) return false;
  if (peer.ss_family != AF_INET && peer.ss_family != AF_INET6) return false;
  return Address::fromSockName(fd).str() == own &&
         (!opened_by_us || Address::fromPeerName(fd).str() == listening_peer);
}

// Gloo keeps its sockets to itself (and Debian does not install what its tcp/pair.h includes), so the
// one of a pair is found among the process's descriptors. -1 if it is not.
int duplicate_socket(gloo::transport::Pair& pair, const std::string& listening_self,
                     const std::string& listening_peer) {
  const std::string own = pair.address().str();
  const bool opened_by_us = own != listening_self;
  for (const int fd : open_descriptors()) {
    if (!is_connection(fd, own, listening_peer, opened_by_us)) continue;
    const int copy = ::fcntl(fd, F_DUPFD_CLOEXEC, 0);
    // Another thread may have closed and reused that number meanwhile.
    if (copy >= 0 && is_connection(copy, own, listening_peer, opened_by_us)) {
      ::fcntl(fd, F_SETFD, FD_CLOEXEC);  // a program that this rank starts must not keep the connection open
      return copy;
    }
    if (copy >= 0) ::close(copy);
  }
  return -1;
}

// The addresses at which a rank's pairs listen, one a peer, all of one size.
std::string join(const std::vector<std::vector<char>>& addresses) {
  std::string joined;
  for (const auto& address : addresses) joined.append(address.begin(), address.end());
  return joined;
}

// Of what rank `other` published, the address meant for `rank`.
Result<std::vector<char>> address_for(const std::string& joined, int rank, int other, int size) {
  const size_t bytes = Address().bytes().size();
  if (joined.size() != bytes * static_cast<size_t>(size - 1)) {
    return error(Code::kMismatch, "gloo: rank {} published {} bytes of addresses where {} were expected",
                 other, joined.size(), bytes * static_cast<size_t>(size - 1));
  }
  const char* begin = joined.data() + bytes * static_cast<size_t>(rank > other ? rank - 1 : rank);
  return std::vector<char>(begin, begin + bytes);
}

// Listens for every peer, tells the addresses, connects. Throws what Gloo throws; *at is the rank it was at.
Status connect_pairs(const TransportConfig& config, const std::string& address, const Deadline& deadline,
                     int* at, GlooMesh* mesh) {
  const SigpipeGuard guard;  // the device's thread is started with SIGPIPE blocked, too
  mesh->context = gloo::transport::tcp::CreateDevice(gloo::transport::tcp::attr(address.c_str()))
                      ->createContext(config.rank, config.size);
  // Gloo gives each connection five times this.
  mesh->context->setTimeout(
      std::chrono::milliseconds(std::clamp<int64_t>(deadline.left_ms() / 5, 1, INT32_MAX)));
  std::vector<std::vector<char>> own;
  for (int peer = 0; peer < config.size; ++peer) {
    if (peer != config.rank) own.push_back(mesh->context->createPair(peer)->address().bytes());
  }
  const std::string joined = join(own);
  const Meeting meeting = {config.rank, config.size, config.job, "gloo.addresses", deadline.left_ms()};
  CGX_ASSIGN_OR_RETURN(const std::vector<std::string> published, meet(config.store, meeting, joined));
  for (int peer = 0; peer < config.size; ++peer) {
    if (peer == config.rank) {
      mesh->sockets.push_back(-1);
      continue;
    }
    *at = peer;
    CGX_ASSIGN_OR_RETURN(const std::vector<char> theirs,
                         address_for(published[static_cast<size_t>(peer)], config.rank, peer, config.size));
    CGX_ASSIGN_OR_RETURN(const std::vector<char> ours, address_for(joined, peer, config.rank, config.size));
    gloo::transport::Pair& pair = *mesh->context->getPair(peer);
    pair.connect(theirs);
    mesh->sockets.push_back(duplicate_socket(pair, Address(ours).str(), Address(theirs).str()));
    if (mesh->sockets.back() < 0) {
      return error(Code::kResource,
                   "gloo: rank {} cannot duplicate its connection to rank {}: out of descriptors?",
                   config.rank, peer);
    }
  }
  // Nobody may go on, and perhaps end, while others still connect: its closing would look like a failure.
  const Meeting connected = {config.rank, config.size, config.job, "gloo.connected", deadline.left_ms()};
  return meet(config.store, connected, "").status();
}

Result<GlooMesh> connect_mesh(const TransportConfig& config, const std::string& address,
                              const Deadline& deadline) {
  int at = -1;
  GlooMesh mesh;
  Status status;
  try {
    status = connect_pairs(config, address, deadline, &at, &mesh);
  } catch (const std::exception& fault) {
    const std::string cause = find_failure(config.store, config.job, config.rank, config.size);
    status = error(
        deadline.over() ? Code::kTimeout : Code::kPeerFailed, "gloo: rank {} cannot connect{} from {}: {}",
        config.rank, at < 0 ? "" : fmt::format(" to rank {}", at), address,
        cause.empty() ? gloo_reason(fault.what()) + ". CGX_SOCKET_IFNAME names the interface to use" : cause);
  }
  if (status.ok()) return mesh;
  for (const int socket : mesh.sockets) {
    if (socket >= 0) ::close(socket);
  }
  return status;
}

sigset_t sigpipe_set() {
  sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, SIGPIPE);
  return set;
}

}  // namespace

SigpipeGuard::SigpipeGuard() {
  const sigset_t set = sigpipe_set();
  sigset_t old;
  ::pthread_sigmask(SIG_BLOCK, &set, &old);
  was_blocked_ = ::sigismember(&old, SIGPIPE) == 1;
}

SigpipeGuard::~SigpipeGuard() {
  if (was_blocked_) return;
  const sigset_t set = sigpipe_set();
  const timespec now = {};
  while (::sigtimedwait(&set, nullptr, &now) > 0) {
  }
  ::pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

std::string gloo_reason(const char* what) {
  const std::string_view text = what;
  const size_t end = text.starts_with('[') ? text.find("] ") : std::string_view::npos;
  return std::string(end == std::string_view::npos ? text : text.substr(end + 2));
}

Result<GlooMesh> connect_gloo(const TransportConfig& config) {
  const Deadline deadline(config.timeout_ms);
  const std::string card = network_card();
  CGX_ASSIGN_OR_RETURN(
      const std::vector<std::string> cards,
      meet(config.store, {config.rank, config.size, config.job, "gloo", config.timeout_ms}, card));
  const bool one_host =
      std::all_of(cards.begin(), cards.end(), [&](const std::string& c) { return c == card; });
  const Result<std::string> address = choose_address("gloo", config, one_host);
  Result<GlooMesh> mesh = address.ok() ? connect_mesh(config, *address, deadline) : address.status();
  if (!mesh.ok()) publish_failure(config.store, config.job, config.rank, mesh.status());
  return mesh;
}

}  // namespace cgx
