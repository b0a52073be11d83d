// A queue that stops allocating once it has seen its longest (std::deque never does).
#pragma once

#include <cstddef>
#include <utility>
#include <vector>

namespace cgx {

template <typename T>
class Fifo {
 public:
  bool empty() const { return first_ == items_.size(); }
  size_t size() const { return items_.size() - first_; }
  T& front() { return items_[first_]; }
  T& operator[](size_t i) { return items_[first_ + i]; }
  const T& operator[](size_t i) const { return items_[first_ + i]; }
  void push(T item) {
    if (first_ > 64 && first_ > items_.size() / 2) {
      items_.erase(items_.begin(), items_.begin() + static_cast<std::ptrdiff_t>(first_));
      first_ = 0;
    }
    items_.push_back(std::move(item));
  }
  // REQUIRES: !empty()
  void pop() {
    if (++first_ == items_.size()) clear();
  }
  void clear() {
    items_.clear();
    first_ = 0;
  }

 private:
  std::vector<T> items_;
  size_t first_ = 0;
};

}  // namespace cgx
