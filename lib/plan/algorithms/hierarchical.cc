// One rank a host on the network. Inside each host everybody sends its elements to the host's lowest rank,
// its leader, by the inner codec (uncompressed unless asked); the leaders then do what scatter_gather does,
// each with the sum of its host: leader h owns chunk h, encodes its host's part of every other chunk by the
// tensor's codec, sums its own chunk over the hosts, encodes that once, and sends those bytes to the other
// leaders. Inside a host the leader forwards the bytes as they came. So whatever the number of ranks, two
// roundings by the tensor's codec and at most one by the inner one; an owner adds its own host's elements
// without the first of them.
//
// Slices go through a pipeline of depth d as in scatter_gather, which bounds what is in flight:
//
//   turn k:   gather(k)   sum(k - d)   collect(k - 2 d)
#include <algorithm>
#include <map>

#include "plan/algorithms/algorithms.h"
#include "plan/builder.h"
#include "plan/levels.h"

namespace cgx {

namespace {

class Hierarchical {
 public:
  Hierarchical(const PlanKey& key, const Layout& inner)
      : build_(key, inner), depth_(key.depth), groups_(groups_of(key)) {
    const auto is_mine = [&](const std::vector<int>& group) {
      return std::find(group.begin(), group.end(), key.rank) != group.end();
    };
    me_ = static_cast<size_t>(std::find_if(groups_.begin(), groups_.end(), is_mine) - groups_.begin());
    members_.assign(groups_[me_].begin() + 1, groups_[me_].end());
    const uint64_t slice_bytes = slice_among(key.size, key.slice_bytes);
    for (const Range& chunk : cut_chunks(key.layout, static_cast<int>(groups_.size()), &inner)) {
      slices_.push_back(cut_slices(key.layout, chunk, slice_bytes, &inner));
      turns_ = std::max(turns_, slices_.back().size());
    }
    contributions_.assign(groups_.size(), std::vector<uint32_t>(turns_, kNoMessage));
    sums_ = contributions_;
    gathered_.resize(turns_);
  }

  Plan plan() {
    const bool leads = build_.rank() == leader(me_);
    for (size_t turn = 0; turn < turns_ + 2 * depth_; ++turn) {
      if (turn < turns_) leads ? gather(turn) : contribute(turn);
      if (leads) {
        if (turn >= depth_ && turn - depth_ < turns_) sum(turn - depth_);
        if (turn >= 2 * depth_) collect(turn - 2 * depth_);
      } else {
        take(turn);
      }
    }
    return build_.take();
  }

 private:
  // The ranks of each host, in order, the hosts by their lowest ranks.
  static std::vector<std::vector<int>> groups_of(const PlanKey& key) {
    std::vector<std::vector<int>> groups;
    std::map<int, size_t> known;
    for (int rank = 0; rank < key.size; ++rank) {
      const int host = key.hosts.empty() ? 0 : key.hosts[static_cast<size_t>(rank)];
      const auto [place, is_new] = known.emplace(host, groups.size());
      if (is_new) groups.emplace_back();
      groups[place->second].push_back(rank);
    }
    return groups;
  }

  int leader(size_t host) const { return groups_[host][0]; }
  bool has(size_t owner, size_t k) const { return k < slices_[owner].size(); }
  Range slice(size_t owner, size_t k) const { return slices_[owner][k]; }
  // The other hosts whose chunk has a slice k, the next one first.
  std::vector<size_t> others(size_t k) const {
    std::vector<size_t> hosts;
    for (size_t d = 1; d < groups_.size(); ++d) {
      const size_t host = (me_ + d) % groups_.size();
      if (has(host, k)) hosts.push_back(host);
    }
    return hosts;
  }
  // The same and then this one: the order in which a host's ranks send to their leader.
  std::vector<size_t> owners(size_t k) const {
    std::vector<size_t> hosts = others(k);
    if (has(me_, k)) hosts.push_back(me_);
    return hosts;
  }
  // How often the elements of a host were rounded when its leader has summed them.
  int inner_roundings(size_t host) const { return groups_[host].size() > 1 ? 1 : 0; }

  // What ranks that do not lead do.
  void contribute(size_t k) {
    for (size_t owner : owners(k)) {
      const uint32_t message = build_.encode(slice(owner, k), 0, Level::kInner);
      build_.send(message, {leader(me_)});
      build_.release(message);
    }
  }
  void take(size_t turn) {
    std::vector<uint32_t> results;
    const auto post = [&](size_t owner, size_t k) {
      results.push_back(build_.post(leader(me_), slice(owner, k)));
    };
    if (turn >= depth_ && has(me_, turn - depth_)) post(me_, turn - depth_);
    if (turn >= 2 * depth_) {
      for (size_t owner : others(turn - 2 * depth_)) post(owner, turn - 2 * depth_);
    }
    for (uint32_t result : results) build_.take_result(leader(me_), result);
  }

  // What leaders do.
  void gather(size_t k) {
    if (has(me_, k)) {
      for (size_t host = 0; host < groups_.size(); ++host) {
        if (host != me_) contributions_[host][k] = build_.post(leader(host), slice(me_, k));
      }
    }
    std::vector<std::vector<uint32_t>> arriving;
    for (size_t owner : owners(k)) {
      arriving.emplace_back();
      for (int member : members_) {
        arriving.back().push_back(build_.post(member, slice(owner, k), Level::kInner));
      }
    }
    size_t next = 0;
    for (size_t owner : owners(k)) {
      const std::vector<uint32_t>& messages = arriving[next++];
      for (size_t i = 0; i < members_.size(); ++i) build_.receive(members_[i], messages[i]);
      if (owner == me_) {
        gathered_[k] = messages;
        continue;
      }
      std::vector<uint32_t> inputs = {kOwnInput};
      inputs.insert(inputs.end(), messages.begin(), messages.end());
      const uint32_t part = messages.empty() ? build_.encode(slice(owner, k), 0)
                                             : build_.reduce_encode(slice(owner, k), inputs, 1);
      build_.send(part, {leader(owner)});
      build_.release(part);
      for (uint32_t message : messages) build_.release(message);
    }
  }

  void sum(size_t k) {
    for (size_t host : others(k)) sums_[host][k] = build_.post(leader(host), slice(host, k));
    if (!has(me_, k)) return;
    std::map<int, uint32_t> by_rank = {{build_.rank(), kOwnInput}};
    for (size_t i = 0; i < members_.size(); ++i) by_rank[members_[i]] = gathered_[k][i];
    std::vector<int> receivers;
    int roundings = inner_roundings(me_);
    for (size_t d = 1; d < groups_.size(); ++d) {
      const size_t host = (me_ + groups_.size() - d) % groups_.size();
      build_.receive(leader(host), contributions_[host][k]);
      by_rank[leader(host)] = contributions_[host][k];
      roundings = std::max(roundings, inner_roundings(host) + 1);
    }
    for (size_t d = 1; d < groups_.size(); ++d) receivers.push_back(leader((me_ + d) % groups_.size()));
    receivers.insert(receivers.end(), members_.begin(), members_.end());
    std::vector<uint32_t> inputs;
    for (const auto& [rank, message] : by_rank) inputs.push_back(message);
    const uint32_t result = build_.reduce_encode_last(slice(me_, k), inputs, static_cast<uint8_t>(roundings));
    build_.send(result, receivers);
    build_.release(result);
    for (uint32_t input : inputs) {
      if (input != kOwnInput) build_.release(input);
    }
  }

  void collect(size_t k) {
    for (size_t host : others(k)) build_.take_result(leader(host), sums_[host][k], members_);
  }

  PlanBuilder build_;
  const size_t depth_;
  const std::vector<std::vector<int>> groups_;
  size_t me_ = 0;                           // this rank's host
  std::vector<int> members_;                // of this host, without its leader
  std::vector<std::vector<Range>> slices_;  // of each host's chunk
  size_t turns_ = 0;
  std::vector<std::vector<uint32_t>> contributions_;  // [host][slice], to this host's chunk
  std::vector<std::vector<uint32_t>> sums_;           // [host][slice], of that host's chunk
  std::vector<std::vector<uint32_t>> gathered_;       // [slice][member], of this host's chunk
};

}  // namespace

Plan plan_hierarchical(const PlanKey& key) {
  return Hierarchical(key, inner_layout(key.layout, key.inner_codec)).plan();
}

}  // namespace cgx
