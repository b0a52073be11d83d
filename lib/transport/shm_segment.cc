// open, lock, reserve, map, link; and the same from a peer's side.
#include "transport/shm_segment.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <new>
#include <string_view>
#include <utility>

#include "transport/shm_door.h"

namespace cgx {
namespace {

constexpr const char* kPrefix = "cgx-";

std::string text_of(int errnum) {
  char buffer[128] = {};
  return strerror_r(errnum, buffer, sizeof buffer);
}

struct flock whole_file(short type) {
  struct flock lock = {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  return lock;
}

// Whether some open file description (of any process) holds the owner's lock. A kernel that cannot say
// makes nobody dead.
bool is_locked(int fd) {
  struct flock lock = whole_file(F_WRLCK);
  return fcntl(fd, F_OFD_GETLK, &lock) != 0 || lock.l_type != F_UNLCK;
}

uint64_t pid_namespace() {
  struct stat own = {};
  return stat("/proc/self/ns/pid", &own) == 0 ? own.st_ino : 0;
}

Result<uint8_t*> map(int fd, uint64_t bytes, int protection, const std::string& name) {
  void* base = mmap(nullptr, bytes, protection, MAP_SHARED | MAP_POPULATE, fd, 0);
  if (base == MAP_FAILED) {
    return error(Code::kResource, "shared memory: cannot map {} bytes of {}: {}", bytes, name,
                 text_of(errno));
  }
  return static_cast<uint8_t*>(base);
}

}  // namespace

ShmFile::~ShmFile() {
  if (base != nullptr) munmap(base, bytes);
  if (bell != nullptr) munmap(bell, kShmPage);
  if (fd >= 0) close(fd);
}

void ShmFile::swap(ShmFile& other) noexcept {
  std::swap(fd, other.fd);
  std::swap(base, other.base);
  std::swap(bytes, other.bytes);
  std::swap(bell, other.bell);
}

OwnSegment::OwnSegment(OwnSegment&& other) noexcept
    : geometry_(other.geometry_),
      file_(std::move(other.file_)),
      name_(std::move(other.name_)),
      path_(std::exchange(other.path_, std::string())) {}

Status OwnSegment::reserve(const std::string& directory) {
  const uint64_t bytes = geometry_.segment_bytes();
  int failure = 0;
  do {
    // Not ftruncate: that succeeds where memory is short, and the first write is then a SIGBUS.
    failure = posix_fallocate(file_.fd, 0, static_cast<off_t>(bytes));
  } while (failure == EINTR);
  if (failure == 0) return {};
  struct statvfs space = {};
  const uint64_t free = statvfs(directory.c_str(), &space) == 0 ? space.f_bavail * space.f_frsize : 0;
  return error(Code::kResource,
               "shared memory: {} cannot hold {} bytes for rank {} of {}: {} ({} bytes are free). Enlarge it "
               "(mount -o remount,size=1G {}; docker run --shm-size=1g) or use the gloo transport",
               directory, bytes, geometry_.rank, geometry_.size, text_of(failure), free, directory);
}

Status OwnSegment::link(const std::string& directory) {
  for (int attempt = 0; attempt < 8; ++attempt) {
    uint64_t nonce = 0;
    if (getrandom(&nonce, sizeof nonce, 0) != static_cast<ssize_t>(sizeof nonce)) {
      return error(Code::kResource, "shared memory: no random name: {}", text_of(errno));
    }
    name_ = fmt::format("{}{:016x}.{}", kPrefix, nonce, geometry_.rank);
    const std::string path = directory + "/" + name_;
    const std::string self = fmt::format("/proc/self/fd/{}", file_.fd);
    if (linkat(AT_FDCWD, self.c_str(), AT_FDCWD, path.c_str(), AT_SYMLINK_FOLLOW) == 0) {
      path_ = path;
      return {};
    }
    if (errno != EEXIST) {
      return error(Code::kResource, "shared memory: cannot name a segment {}: {}", path, text_of(errno));
    }
  }
  return error(Code::kInternal, "shared memory: eight random names in {} were all taken", directory);
}

Result<OwnSegment> OwnSegment::create(const std::string& directory, const ShmIdentity& identity,
                                      uint64_t pool_bytes) {
  OwnSegment segment;
  segment.geometry_ = {identity.rank, identity.size, ShmGeometry::round_up(pool_bytes)};
  ShmFile& file = segment.file_;
  file.fd = ::open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (file.fd < 0) {
    return error(Code::kResource, "shared memory: cannot make a segment in {}: {}", directory,
                 text_of(errno));
  }
  struct flock lock = whole_file(F_WRLCK);
  if (fcntl(file.fd, F_OFD_SETLK, &lock) != 0) {
    return error(Code::kResource, "shared memory: cannot lock a segment in {}: {}", directory,
                 text_of(errno));
  }
  CGX_RETURN_IF_ERROR(segment.reserve(directory));
  const uint64_t bytes = segment.geometry_.segment_bytes();
  CGX_ASSIGN_OR_RETURN(file.base, map(file.fd, bytes, PROT_READ | PROT_WRITE, directory));
  file.bytes = bytes;

  new (file.base) ShmBell{};
  ShmHeader& header = *new (file.base + segment.geometry_.header_at()) ShmHeader{};
  for (int peer = 0; peer < identity.size; ++peer) {
    new (file.base + segment.geometry_.channel_at(peer)) ShmChannel{};
  }
  header.magic = kShmMagic;
  header.version = kShmVersion;
  header.rank = static_cast<uint32_t>(identity.rank);
  header.size = static_cast<uint32_t>(identity.size);
  header.pid = getpid();
  header.pid_namespace = pid_namespace();
  header.job_hash = identity.job_hash;
  header.pool_bytes = segment.geometry_.pool_bytes;
  header.lane_slot_bytes = segment.geometry_.lane_slot_bytes();
  header.segment_bytes = bytes;
  header.cores = Cores::own();
  CGX_RETURN_IF_ERROR(segment.link(directory));
  return segment;
}

void OwnSegment::unlink() {
  if (!path_.empty()) ::unlink(path_.c_str());
  path_.clear();
}

PeerSegment::PeerSegment(PeerSegment&& other) noexcept
    : geometry_(other.geometry_), file_(std::move(other.file_)), pid_(other.pid_), pidfd_(other.pidfd_) {
  other.pidfd_ = -1;
}

PeerSegment::~PeerSegment() {
  if (pidfd_ >= 0) close(pidfd_);
}

// Reads each field once: the file may change under us.
Status PeerSegment::check(const ShmIdentity& identity, uint64_t file_bytes) {
  const ShmHeader& header = *reinterpret_cast<const ShmHeader*>(file_.base + kShmPage);
  if (header.magic != kShmMagic) {
    return error(Code::kCorrupt, "shared memory: the segment of rank {} is not one of cgx", identity.rank);
  }
  if (header.version != kShmVersion) {
    return error(Code::kMismatch, "shared memory: rank {} speaks version {}, this rank version {}",
                 identity.rank, header.version, kShmVersion);
  }
  if (header.rank != static_cast<uint32_t>(identity.rank) ||
      header.size != static_cast<uint32_t>(identity.size) || header.job_hash != identity.job_hash) {
    return error(Code::kMismatch,
                 "shared memory: the segment of rank {} of {} is of rank {} of {}, or another job",
                 identity.rank, identity.size, header.rank, header.size);
  }
  const uint64_t pool_bytes = *const_cast<const volatile uint64_t*>(&header.pool_bytes);
  geometry_ = {identity.rank, identity.size, pool_bytes};
  if (pool_bytes > file_bytes || pool_bytes % kShmPage != 0 || geometry_.segment_bytes() != file_bytes ||
      header.segment_bytes != file_bytes || header.lane_slot_bytes != geometry_.lane_slot_bytes()) {
    return error(Code::kCorrupt,
                 "shared memory: the segment of rank {} says {} bytes with a pool of {}, has {}",
                 identity.rank, header.segment_bytes, pool_bytes, file_bytes);
  }
  return {};
}

Result<PeerSegment> PeerSegment::open(const std::string& directory, const std::string& name,
                                      const ShmIdentity& identity) {
  if (name.rfind(kPrefix, 0) != 0 || name.find('/') != std::string::npos) {
    return error(Code::kCorrupt, "shared memory: rank {} names its segment \"{}\"", identity.rank, name);
  }
  PeerSegment segment;
  ShmFile& file = segment.file_;
  const std::string path = directory + "/" + name;
  file.fd = ::open(path.c_str(), O_RDWR | O_NOFOLLOW | O_CLOEXEC);
  if (file.fd < 0) {
    return error(Code::kPeerFailed, "shared memory: cannot open the segment {} of rank {}: {}", path,
                 identity.rank, text_of(errno));
  }
  struct stat status = {};
  if (fstat(file.fd, &status) != 0 || !S_ISREG(status.st_mode) || status.st_uid != geteuid() ||
      static_cast<uint64_t>(status.st_size) < 2 * kShmPage) {
    return error(Code::kCorrupt, "shared memory: {} of rank {} is not a segment of this user", path,
                 identity.rank);
  }
  const auto bytes = static_cast<uint64_t>(status.st_size);
  CGX_ASSIGN_OR_RETURN(file.base, map(file.fd, bytes, PROT_READ, path));
  file.bytes = bytes;
  CGX_RETURN_IF_ERROR(segment.check(identity, bytes));
  CGX_ASSIGN_OR_RETURN(file.bell, map(file.fd, kShmPage, PROT_READ | PROT_WRITE, path));
  segment.pid_ = segment.header().pid;
  // The lock outlives its owner in children that it forked; the process itself does not.
  if (segment.header().pid_namespace == pid_namespace() && segment.pid_ > 0 && segment.pid_ != getpid()) {
    segment.pidfd_ = static_cast<int>(syscall(SYS_pidfd_open, segment.pid_, 0));
  }
  return segment;
}

bool PeerSegment::alive() const {
  if (pidfd_ >= 0) {
    pollfd ended = {pidfd_, POLLIN, 0};
    if (poll(&ended, 1, 0) == 1 && (ended.revents & POLLIN) != 0) return false;
  }
  return is_locked(file_.fd);
}

void remove_stale_segments(const std::string& directory) {
  const auto close_it = [](DIR* d) { closedir(d); };
  const std::unique_ptr<DIR, decltype(close_it)> entries(opendir(directory.c_str()), close_it);
  if (entries == nullptr) return;
  while (const dirent* entry = readdir(entries.get())) {
    const std::string_view name = entry->d_name;
    if (name.rfind(kPrefix, 0) != 0) continue;
    remove_stale_door(dirfd(entries.get()), entry->d_name);
    const int fd = openat(dirfd(entries.get()), entry->d_name, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) continue;
    struct stat status = {};
    uint64_t magic = 0;
    const bool ours = fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_uid == geteuid() &&
                      pread(fd, &magic, sizeof magic, kShmPage) == static_cast<ssize_t>(sizeof magic) &&
                      magic == kShmMagic;
    if (ours && !is_locked(fd)) unlinkat(dirfd(entries.get()), entry->d_name, 0);
    close(fd);
  }
}

}  // namespace cgx
