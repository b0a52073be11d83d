// See gloo_pool.h.
#include "transport/gloo/gloo_pool.h"

#include <algorithm>
#include <bit>
#include <cstddef>

#include "base/status.h"

namespace cgx {
namespace {

constexpr int kLeastClass = 12;                      // 4 KiB
constexpr int kLargestClass = 46;                    // 64 TiB: larger counts are no sizes of memory
constexpr size_t kMaxFreeBytes = size_t{128} << 20;  // kept for reuse

}  // namespace

int GlooBlock::class_of(size_t bytes) {
  return std::max(kLeastClass, static_cast<int>(std::bit_width(bytes - 1)));
}

std::unique_ptr<GlooBlock> GlooBlock::make(int size_class, gloo::transport::Context* context) {
  if (size_class > kLargestClass) return nullptr;
  std::unique_ptr<GlooBlock> block(new GlooBlock);
  block->size_class_ = size_class;
  block->context_ = context;
  block->memory_.reset(static_cast<uint8_t*>(std::aligned_alloc(64, block->wire_capacity())));
  return block->memory_ == nullptr ? nullptr : std::move(block);
}

gloo::transport::UnboundBuffer& GlooBlock::buffer(int peer) {
  const auto i = static_cast<size_t>(peer);
  if (buffers_.size() <= i) buffers_.resize(i + 1);
  if (buffers_[i] == nullptr) buffers_[i] = context_->createUnboundBuffer(memory_.get(), wire_capacity());
  return *buffers_[i];
}

GlooBlock* GlooPool::take(size_t bytes) {
  const int size_class = GlooBlock::class_of(bytes);
  const auto fits = [&](const auto& block) { return block->size_class() == size_class; };
  const auto found = std::find_if(free_.rbegin(), free_.rend(), fits);
  if (found != free_.rend()) {
    taken_.push_back(std::move(*found));
    free_.erase(std::next(found).base());
    free_bytes_ -= taken_.back()->wire_capacity();
  } else {
    // NOLINTNEXTLINE(clang-analyzer-cplusplus.NewDeleteLeaks): it does not see that the list owns it.
    std::unique_ptr<GlooBlock> block = GlooBlock::make(size_class, context_);
    if (block == nullptr) return nullptr;
    taken_.push_back(std::move(block));
  }
  return taken_.back().get();
}

GlooBlock* GlooPool::find(const uint8_t* payload) {
  const auto found =
      std::find_if(taken_.begin(), taken_.end(), [&](const auto& b) { return b->payload() == payload; });
  return found == taken_.end() ? nullptr : found->get();
}

void GlooPool::give_if_idle(GlooBlock* block) {
  if (block->held || block->unsent > 0) return;
  const auto found =
      std::find_if(taken_.begin(), taken_.end(), [&](const auto& b) { return b.get() == block; });
  CGX_CHECK(found != taken_.end());
  free_bytes_ += block->wire_capacity();
  free_.push_back(std::move(*found));
  taken_.erase(found);
  while (free_bytes_ > kMaxFreeBytes) {
    free_bytes_ -= free_.front()->wire_capacity();
    free_.erase(free_.begin());
  }
}

}  // namespace cgx
