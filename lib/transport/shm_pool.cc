// A sorted list of pieces. Messages of many sizes leave hundreds, and searching them all would take longer
// than a small message does; but nearly always a piece of the very size was freed a moment ago.
#include "transport/shm_pool.h"

#include <algorithm>

#include "base/status.h"

namespace cgx {
namespace {

constexpr size_t kMaxPieces = 256;  // more are slivers of many sizes: join them

}  // namespace

std::vector<ShmPool::Piece>::iterator ShmPool::at_or_after(uint64_t offset) {
  return std::lower_bound(pieces_.begin(), pieces_.end(), offset,
                          [](const Piece& p, uint64_t at) { return p.offset < at; });
}

// What find() would find, where that is one of the pieces freed last: none is tighter than one that fits to
// the byte.
std::optional<size_t> ShmPool::find_recent(uint64_t bytes) {
  const uint64_t kept = std::min<uint64_t>(frees_, recent_.size());
  for (uint64_t age = 0; age < kept; ++age) {
    const Freed& freed = recent_[(frees_ - age) % recent_.size()];
    if (freed.bytes != bytes) continue;
    const auto piece = at_or_after(freed.offset);
    if (piece == pieces_.end() || piece->offset != freed.offset) continue;
    if (piece->is_free && piece->bytes == bytes) return static_cast<size_t>(piece - pieces_.begin());
  }
  return std::nullopt;
}

std::optional<size_t> ShmPool::find(uint64_t bytes) const {
  std::optional<size_t> best;
  for (size_t i = 0; i < pieces_.size(); ++i) {
    const Piece& piece = pieces_[i];
    if (!piece.is_free || piece.bytes < bytes) continue;
    if (!best || piece.bytes < pieces_[*best].bytes ||
        (piece.bytes == pieces_[*best].bytes && piece.freed_at > pieces_[*best].freed_at)) {
      best = i;
    }
  }
  return best;
}

void ShmPool::join_free_neighbours() {
  size_t kept = 0;
  for (size_t i = 1; i < pieces_.size(); ++i) {
    const Piece piece = pieces_[i];
    if (piece.is_free && pieces_[kept].is_free) {
      pieces_[kept].bytes += piece.bytes;
      pieces_[kept].freed_at = std::max(pieces_[kept].freed_at, piece.freed_at);
    } else {
      pieces_[++kept] = piece;
    }
  }
  pieces_.resize(kept + 1);
}

std::optional<uint64_t> ShmPool::allocate(uint64_t bytes) {
  const uint64_t rounded = (bytes + 63) / 64 * 64;
  std::optional<size_t> found = find_recent(rounded);
  if (!found && pieces_.size() <= kMaxPieces) found = find(rounded);
  if (!found) {
    join_free_neighbours();
    found = find(rounded);
  }
  if (!found) return std::nullopt;
  Piece& piece = pieces_[*found];
  const Piece rest{piece.offset + rounded, piece.bytes - rounded, true, piece.freed_at};
  const uint64_t offset = piece.offset;
  piece.bytes = rounded;
  piece.is_free = false;
  used_bytes_ += rounded;
  if (rest.bytes > 0) pieces_.insert(pieces_.begin() + static_cast<std::ptrdiff_t>(*found) + 1, rest);
  return offset;
}

void ShmPool::free(uint64_t offset) {
  const auto piece = at_or_after(offset);
  CGX_CHECK(piece != pieces_.end() && piece->offset == offset && !piece->is_free);
  piece->is_free = true;
  piece->freed_at = ++frees_;
  recent_[frees_ % recent_.size()] = {offset, piece->bytes};
  used_bytes_ -= piece->bytes;
}

}  // namespace cgx
