// What the checker computes with in place of numbers: ranges of elements, and values of which only their
// making is known.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <iterator>
#include <map>
#include <utility>
#include <vector>

namespace cgx {

inline constexpr int kMaxRanks = 16;

// Ranges of which no two may overlap.
class Ranges {
 public:
  bool overlaps(uint64_t begin, uint64_t end) const {
    auto after = ranges_.lower_bound(end);
    return after != ranges_.begin() && std::prev(after)->second > begin;
  }
  // False if it overlaps one that is there.
  bool add(uint64_t begin, uint64_t end) {
    if (overlaps(begin, end)) return false;
    ranges_.emplace(begin, end);
    return true;
  }

 private:
  std::map<uint64_t, uint64_t> ranges_;
};

// What a message or a part of an output is. Equal values have equal ids, and only they.
struct Value {
  std::array<uint8_t, kMaxRanks> times{};  // how often each rank's elements are in it
  int roundings = 0;                       // on the longest way from an input
  bool scaled = false;

  int first_rank() const {
    return static_cast<int>(std::find_if(times.begin(), times.end(), [](uint8_t t) { return t != 0; }) -
                            times.begin());
  }
};

class Values {
 public:
  explicit Values(int size) {
    for (int r = 0; r < size; ++r) {
      Value own;
      own.times[static_cast<size_t>(r)] = 1;
      all_.push_back(own);
    }
  }

  const Value& operator[](uint32_t id) const { return all_[id]; }
  // x of rank r.
  static uint32_t own(int rank) { return static_cast<uint32_t>(rank); }
  // Sums in the same order are the same value.
  uint32_t sum(const std::vector<uint32_t>& ids, bool scaled) {
    std::vector<uint32_t> name = ids;
    name.push_back(scaled ? 1 : 0);
    auto [place, is_new] = sums_.emplace(std::move(name), static_cast<uint32_t>(all_.size()));
    if (!is_new) return place->second;
    Value value;
    for (uint32_t id : ids) {
      const Value& input = all_[id];
      for (size_t r = 0; r < kMaxRanks; ++r)
        value.times[r] = static_cast<uint8_t>(value.times[r] + input.times[r]);
      value.roundings = std::max(value.roundings, input.roundings);
    }
    value.scaled = scaled;
    all_.push_back(value);
    return place->second;
  }
  // Every encoding is another value, even of the same elements.
  uint32_t encoding(uint32_t id) {
    Value value = all_[id];
    ++value.roundings;
    all_.push_back(value);
    return static_cast<uint32_t>(all_.size() - 1);
  }

 private:
  std::vector<Value> all_;
  std::map<std::vector<uint32_t>, uint32_t> sums_;
};

}  // namespace cgx
