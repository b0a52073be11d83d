// What the algorithms must give, bit for bit, written without plans, slices, tiles or messages: whole
// chunks, one rank after the other. That run() agrees shows that neither slicing nor tiling nor the
// transport can change a bit.
#pragma once

#include <map>
#include <vector>

#include "plan/builder.h"
#include "plan/levels.h"
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

  // Where the ranks stand, and how they send inside a host.
  void stand_on(std::vector<int> hosts, const CodecSpec& inner) {
    hosts_ = std::move(hosts);
    inner_ = inner_layout(layout_, inner);
  }

  Floats run(const std::string& algorithm) {
    if (size_ == 1) {
      for (uint64_t i = 0; i < layout_.count(); ++i) y_[i] = x_[0][i] * scale_;
    } else if (algorithm == "allgather") {
      for (const Piece& piece : layout_.pieces(0, layout_.count())) allgather(piece);
    } else if (algorithm == "hierarchical") {
      hierarchical();
    } else if (algorithm == "tree") {
      for (const Piece& piece : layout_.pieces(0, layout_.count())) put(piece, tree(0, piece).sum, false);
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

  // The ranks of a host sum at the lowest, those of all hosts at the owner's, in the order of the lowest
  // ranks.
  void hierarchical() {
    if (hosts_.empty()) stand_on(std::vector<int>(static_cast<size_t>(size_), 0), CodecSpec());
    std::vector<std::vector<int>> groups;
    std::map<int, size_t> known;
    for (int r = 0; r < size_; ++r) {
      const auto [place, is_new] = known.emplace(hosts_[static_cast<size_t>(r)], groups.size());
      if (is_new) groups.emplace_back();
      groups[place->second].push_back(r);
    }
    const std::vector<Range> chunks = cut_chunks(layout_, static_cast<int>(groups.size()), &inner_);
    for (size_t owner = 0; owner < groups.size(); ++owner) {
      for (const Piece& piece : layout_.pieces(chunks[owner].begin, chunks[owner].end)) {
        put(piece, of_hosts(groups, owner, piece), false);
      }
    }
  }

  Floats of_hosts(const std::vector<std::vector<int>>& groups, size_t owner, const Piece& piece) {
    const CodecSpec& inner = inner_.segments()[piece.segment].spec;
    std::map<int, Floats> at_owner;  // by rank
    int roundings = 0;
    for (size_t h = 0; h < groups.size(); ++h) {
      const int leader = groups[h][0];
      Floats sum = h == owner ? exact(leader, piece) : part(x_, leader, piece);
      if (h == owner) at_owner[leader] = sum;
      for (size_t i = 1; i < groups[h].size(); ++i) {
        const int r = groups[h][i];
        const Floats sent = round(r, 0, piece, part(x_, r, piece), Keep::kContribution, &inner);
        if (h == owner) {
          at_owner[r] = sent;
        } else {
          add(sum, sent);
        }
      }
      const int before = groups[h].size() > 1 ? 1 : 0;
      roundings = std::max(roundings, before + (h == owner ? 0 : 1));
      if (h != owner) at_owner[leader] = round(leader, before, piece, sum, Keep::kContribution);
    }
    Floats total;
    for (const auto& [rank, values] : at_owner) add(total, values);
    scale(total);
    return round(groups[owner][0], roundings, piece, total, Keep::kSum);
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

  // What rank r sends: the sum of r and the ranks below it, which are those after it up to its lowest bit.
  struct Subtree {
    Floats sum;
    int height;
  };
  Subtree tree(int r, const Piece& piece) {
    Subtree all{r == 0 ? exact(0, piece) : part(x_, r, piece), 0};
    for (int bit = 1; r + bit < size_ && (r == 0 || bit < (r & -r)); bit *= 2) {
      const Subtree child = tree(r + bit, piece);
      add(all.sum, child.sum);
      all.height = std::max(all.height, child.height + 1);
    }
    if (r == 0) scale(all.sum);
    all.sum = round(r, all.height, piece, all.sum, r == 0 ? Keep::kSum : Keep::kContribution);
    return all;
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

  // `codec`: null for the tensor's own.
  Floats round(int r, int stage, const Piece& piece, const Floats& values, Keep keep,
               const CodecSpec* codec = nullptr) {
    const Segment& segment = layout_.segments()[piece.segment];
    const CodecSpec& spec = codec != nullptr ? *codec : segment.spec;
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
    std::vector<uint8_t> block(encoded_bytes(spec, DType::kF32, values.size()));
    Floats out(values.size());
    const Status encoded =
        encode(spec, DType::kF32, values.data(), values.size(), context, residual, block.data());
    EXPECT_TRUE(encoded.ok()) << encoded.message();
    const Status decoded = decode(spec, DType::kF32, block.data(), values.size(), Into::kAssign, out.data());
    EXPECT_TRUE(decoded.ok()) << decoded.message();
    return out;
  }

  const Layout& layout_;
  std::vector<Floats> x_;
  int size_;
  float scale_;
  Floats y_;
  std::vector<int> hosts_;
  Layout inner_;
  const Residuals* before_ = nullptr;
  Residuals* after_ = nullptr;
};

}  // namespace cgx::test
