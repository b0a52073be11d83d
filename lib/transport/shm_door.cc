// See shm_door.h. Both ends are opened for reading and writing: so opening never waits, and writing to a
// dead rank's FIFO is no SIGPIPE.
#include "transport/shm_door.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string_view>
#include <system_error>

namespace cgx {
namespace {

constexpr std::string_view kSuffix = ".door";
constexpr int kFlags = O_RDWR | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC;

std::string cause(int number) { return std::system_category().message(number); }

std::string path_of(const std::string& directory, const std::string& segment) {
  return fmt::format("{}/{}{}", directory, segment, kSuffix);
}

bool is_own_fifo(const struct stat& status) {
  return S_ISFIFO(status.st_mode) && status.st_uid == ::geteuid();
}

}  // namespace

Result<ShmDoor> ShmDoor::create(const std::string& directory, const std::string& segment) {
  ShmDoor door;
  const std::string path = path_of(directory, segment);
  if (::mkfifo(path.c_str(), 0600) != 0) {
    return error(Code::kResource, "shared memory: cannot make the FIFO {}: {}", path, cause(errno));
  }
  door.path_ = path;
  door.fifo_ = TcpSocket(::open(path.c_str(), kFlags));
  if (door.fifo_) return door;
  return error(Code::kResource, "shared memory: cannot open the FIFO {}: {}", path, cause(errno));
}

Result<ShmDoor> ShmDoor::open(const std::string& directory, const std::string& segment, int rank) {
  ShmDoor door;
  const std::string path = path_of(directory, segment);
  door.fifo_ = TcpSocket(::open(path.c_str(), kFlags));
  if (!door.fifo_) {
    return error(Code::kPeerFailed, "shared memory: cannot open the FIFO {} of rank {}: {}", path, rank,
                 cause(errno));
  }
  struct stat status = {};
  if (::fstat(door.fd(), &status) == 0 && is_own_fifo(status)) return door;
  return error(Code::kCorrupt, "shared memory: {} of rank {} is not a FIFO of this user", path, rank);
}

void ShmDoor::unlink() {
  if (!path_.empty()) ::unlink(path_.c_str());
  path_.clear();
}

// One that is full wakes as well.
void ShmDoor::knock() const {
  if (fifo_) static_cast<void>(::write(fd(), "", 1));
}

void ShmDoor::clear() const {
  char bytes[64];
  while (::read(fd(), bytes, sizeof bytes) == sizeof bytes) {
  }
}

void remove_stale_door(int directory, const std::string& entry) {
  if (entry.size() <= kSuffix.size() || !std::string_view(entry).ends_with(kSuffix)) return;
  struct stat status = {};
  if (::fstatat(directory, entry.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0 || !is_own_fifo(status)) return;
  const std::string segment = entry.substr(0, entry.size() - kSuffix.size());
  const bool gone =
      ::fstatat(directory, segment.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0 && errno == ENOENT;
  if (gone) ::unlinkat(directory, entry.c_str(), 0);
}

}  // namespace cgx
