// Files of shared memory: making one's own, mapping those of peers, telling the living from the dead.
//
// A segment's owner holds an open-file-description lock on it, which the kernel drops when the owner
// dies, however it dies. The file gets its name only when it is locked and complete (O_TMPFILE, then a
// link), so that a named segment without a lock is always one that a crash left behind.
#pragma once

#include <cstdint>
#include <string>

#include "base/status.h"
#include "transport/shm_layout.h"

namespace cgx {

// Owns a file descriptor and up to two mappings.
class ShmFile {
 public:
  ShmFile() = default;
  ~ShmFile();
  ShmFile(ShmFile&& other) noexcept { swap(other); }
  ShmFile& operator=(ShmFile&& other) noexcept {
    swap(other);
    return *this;
  }

  int fd = -1;
  uint8_t* base = nullptr;  // the whole segment; read-only if it is a peer's
  uint64_t bytes = 0;
  uint8_t* bell = nullptr;  // a peer's first page, writable

 private:
  void swap(ShmFile& other) noexcept;
};

struct ShmIdentity {
  int rank = 0;
  int size = 1;
  uint64_t job_hash = 0;
};

class OwnSegment {
 public:
  // Reserves every byte (kResource says how many, and how many are free) and leaves the file under
  // name() until unlink().
  static Result<OwnSegment> create(const std::string& directory, const ShmIdentity& identity,
                                   uint64_t pool_bytes);
  ~OwnSegment() { unlink(); }
  OwnSegment(OwnSegment&& other) noexcept;
  OwnSegment& operator=(OwnSegment&&) = delete;

  const std::string& name() const { return name_; }
  void unlink();

  const ShmGeometry& geometry() const { return geometry_; }
  ShmBell& bell() const { return *reinterpret_cast<ShmBell*>(file_.base); }
  ShmHeader& header() const { return *reinterpret_cast<ShmHeader*>(file_.base + geometry_.header_at()); }
  ShmChannel& channel(int peer) const {
    return *reinterpret_cast<ShmChannel*>(file_.base + geometry_.channel_at(peer));
  }
  uint8_t* lane(int peer, uint32_t slot) const { return file_.base + geometry_.lane_at(peer, slot); }
  uint8_t* pool() const { return file_.base + geometry_.pool_at(); }

 private:
  OwnSegment() = default;
  Status reserve(const std::string& directory);
  Status link(const std::string& directory);

  ShmGeometry geometry_;
  ShmFile file_;
  std::string name_;
  std::string path_;  // empty: has no name
};

class PeerSegment {
 public:
  // Trusts nothing in the file: kMismatch, kCorrupt or kPeerFailed say what is wrong with it.
  static Result<PeerSegment> open(const std::string& directory, const std::string& name,
                                  const ShmIdentity& identity);
  ~PeerSegment();
  PeerSegment(PeerSegment&& other) noexcept;
  PeerSegment& operator=(PeerSegment&&) = delete;

  // False once the owner has died (or has closed the file).
  bool alive() const;

  const ShmGeometry& geometry() const { return geometry_; }
  ShmBell& bell() const { return *reinterpret_cast<ShmBell*>(file_.bell); }
  const ShmHeader& header() const {
    return *reinterpret_cast<const ShmHeader*>(file_.base + geometry_.header_at());
  }
  const ShmChannel& channel(int peer) const {
    return *reinterpret_cast<const ShmChannel*>(file_.base + geometry_.channel_at(peer));
  }
  const uint8_t* lane(int peer, uint32_t slot) const { return file_.base + geometry_.lane_at(peer, slot); }
  const uint8_t* pool() const { return file_.base + geometry_.pool_at(); }
  int pid() const { return pid_; }

 private:
  PeerSegment() = default;
  Status check(const ShmIdentity& identity, uint64_t file_bytes);

  ShmGeometry geometry_;
  ShmFile file_;
  int pid_ = 0;
  int pidfd_ = -1;  // readable once the process has ended; -1 where that cannot be asked
};

// Removes this user's segments whose owners are dead. Never touches one that has an owner.
void remove_stale_segments(const std::string& directory);

}  // namespace cgx
