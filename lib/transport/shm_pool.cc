// A sorted list of pieces: some tens of them in practice, so that searching it all is cheap.
#include "transport/shm_pool.h"

#include <algorithm>

#include "base/status.h"

namespace cgx {
namespace {

constexpr size_t kMaxPieces = 256;  // more are slivers of many sizes: join them

}  // namespace

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
  std::optional<size_t> found = pieces_.size() <= kMaxPieces ? find(rounded) : std::nullopt;
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
  const auto piece = std::lower_bound(pieces_.begin(), pieces_.end(), offset,
                                      [](const Piece& p, uint64_t at) { return p.offset < at; });
  CGX_CHECK(piece != pieces_.end() && piece->offset == offset && !piece->is_free);
  piece->is_free = true;
  piece->freed_at = ++frees_;
  used_bytes_ -= piece->bytes;
}

}  // namespace cgx
