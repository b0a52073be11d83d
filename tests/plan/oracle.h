// What the algorithms must give, bit for bit, written without plans, slices, tiles or messages: whole
// chunks, one rank after the other. That run() agrees shows that neither slicing nor tiling nor the
// transport can change a bit.
#pragma once

#include <vector>

#include "plan/builder.h"
#include "plan/ranks_run.h"

namespace cgx::test {

using Floats = std::vector<float>;

// By rank, a value for each element of the tensor.
struct Residuals {
  std::vector<Floats> contribution, sum;
};

class Oracle {
 public:
  Oracle(const Layout& layout, std::vector<Floats> x, float scale)
      : layout_(layout),
        x_(std::move(x)),
        size_(static_cast<int>(x_.size())),
        scale_(scale),
        y_(layout.count()) {}

  // With error feedback: `before` is added, `after` written where something is encoded.
  void feed_back(const Residuals* before, Residuals* after) {
    before_ = before;
    after_ = after;
  }

  Floats run(const std::string& algorithm) {
    if (size_ == 1) {
      for (uint64_t i = 0; i < layout_.count(); ++i) y_[i] = x_[0][i] * scale_;
    } else if (algorithm == "allgather") {
      for (const Piece& piece : layout_.pieces(0, layout_.count())) allgather(piece);
    } else {
      const std::vector<Range> chunks = cut_chunks(layout_, size_);
      for (int c = 0; c < size_; ++c) {
        const Range& chunk = chunks[static_cast<size_t>(c)];
        for (const Piece& piece : layout_.pieces(chunk.begin, chunk.end)) {
          algorithm == "ring" ? ring(c, piece) : scatter_gather(c, piece);
        }
      }
    }
    return y_;
  }

 private:
  enum class Keep { kContribution, kSum };

  void allgather(const Piece& piece) {
    Floats sum;
    for (int r = 0; r < size_; ++r) add(sum, round(r, 0, piece, part(x_, r, piece), Keep::kContribution));
    put(piece, sum, true);
  }

  void scatter_gather(int owner, const Piece& piece) {
    Floats sum;
    for (int r = 0; r < size_; ++r) {
      add(sum, r == owner ? exact(r, piece) : round(r, 0, piece, part(x_, r, piece), Keep::kContribution));
    }
    scale(sum);
    put(piece, round(owner, 1, piece, sum, Keep::kSum), false);
  }

  void ring(int first, const Piece& piece) {
    Floats sum;
    for (int hop = 0; hop < size_; ++hop) {
      const int r = (first + hop) % size_;
      const bool last = hop == size_ - 1;
      add(sum, last ? exact(r, piece) : part(x_, r, piece));
      if (last) scale(sum);
      sum = round(r, hop, piece, sum, last ? Keep::kSum : Keep::kContribution);
    }
    put(piece, sum, false);
  }

  static Floats part(const std::vector<Floats>& of, int rank, const Piece& piece) {
    const Floats& all = of[static_cast<size_t>(rank)];
    return {all.begin() + static_cast<std::ptrdiff_t>(piece.begin),
            all.begin() + static_cast<std::ptrdiff_t>(piece.end)};
  }
  static void add(Floats& sum, const Floats& values) {
    if (sum.empty()) {
      sum = values;
    } else {
      for (size_t i = 0; i < sum.size(); ++i) sum[i] += values[i];
    }
  }
  void scale(Floats& sum) const {
    for (float& e : sum) e *= scale_;
  }
  void put(const Piece& piece, Floats sum, bool scaled) {
    if (scaled) scale(sum);
    std::copy(sum.begin(), sum.end(), y_.begin() + static_cast<std::ptrdiff_t>(piece.begin));
  }
  bool feeds_back(const Piece& piece) const {
    return before_ != nullptr && layout_.segments()[piece.segment].spec.error_feedback;
  }

  // A rank's own elements that go into a sum unrounded: nothing of them is lost.
  Floats exact(int r, const Piece& piece) {
    Floats own = part(x_, r, piece);
    if (!feeds_back(piece)) return own;
    add(own, part(before_->contribution, r, piece));
    float* after = after_->contribution[static_cast<size_t>(r)].data() + piece.begin;
    std::fill_n(after, own.size(), 0.0f);
    return own;
  }

  Floats round(int r, int stage, const Piece& piece, const Floats& values, Keep keep) {
    const Segment& segment = layout_.segments()[piece.segment];
    BlockContext context;
    context.key = key_of(r);
    context.key.tensor = segment.tensor_id;
    context.key.stage = static_cast<uint8_t>(stage);
    context.first = piece.in_segment;
    Residual residual;
    if (feeds_back(piece)) {
      const size_t at = static_cast<size_t>(r);
      const bool sum = keep == Keep::kSum;
      residual.before = (sum ? before_->sum : before_->contribution)[at].data() + piece.begin;
      residual.after = (sum ? after_->sum : after_->contribution)[at].data() + piece.begin;
    }
    std::vector<uint8_t> block(encoded_bytes(segment.spec, DType::kF32, values.size()));
    Floats out(values.size());
    const Status encoded =
        encode(segment.spec, DType::kF32, values.data(), values.size(), context, residual, block.data());
    EXPECT_TRUE(encoded.ok()) << encoded.message();
    const Status decoded =
        decode(segment.spec, DType::kF32, block.data(), values.size(), Into::kAssign, out.data());
    EXPECT_TRUE(decoded.ok()) << decoded.message();
    return out;
  }

  const Layout& layout_;
  std::vector<Floats> x_;
  int size_;
  float scale_;
  Floats y_;
  const Residuals* before_ = nullptr;
  Residuals* after_ = nullptr;
};

}  // namespace cgx::test
