#include "codec/topk_select.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <new>

#include "base/hd.h"
#include "codec/codecs/topk.h"

namespace cgx {
namespace {

constexpr size_t kTile = 2048;  // elements lifted to fp32 at a time
constexpr size_t kBlock = 32;   // elements tested at once for a candidate
constexpr uint32_t kMaxKey = 0x7fffffffu;

// The input as tiles of fp32: in place where it is fp32 already, else lifted on first reading into
// `sum` or into a tile.
class Input {
 public:
  Input(const Elements& from, size_t count, float* sum) : from_(from), count_(count), sum_(sum) {
    if (from.dtype == DType::kF32 && from.before == nullptr && sum == nullptr) {
      ready_ = static_cast<const float*>(from.x);
    }
  }

  size_t count() const { return count_; }

  // Before the first read_all() only: that may overwrite `before`.
  uint32_t key_at(size_t i) const {
    float v;
    load_elements(from_, i, 1, &v);
    return magnitude_key(float_bits(v));
  }

  // Calls f(begin, values, n) over the input in order, until it returns false.
  template <typename F>
  void read_all(F f) {
    float tile[kTile];
    bool more = true;
    for (size_t begin = 0; begin < count_; begin += kTile) {
      const size_t n = std::min(kTile, count_ - begin);
      const float* values = ready_ ? ready_ + begin : lift(begin, n, tile);
      if (more) more = f(begin, values, n);
      if (!more && (ready_ || !sum_)) break;  // else `sum` is still to be completed
    }
    if (sum_) ready_ = sum_;
  }

 private:
  const float* lift(size_t begin, size_t n, float* tile) const {
    load_elements(from_, begin, n, tile);
    if (sum_) std::copy(tile, tile + n, sum_ + begin);
    return tile;
  }

  Elements from_;
  size_t count_;
  float* sum_;
  const float* ready_ = nullptr;
};

// What is kept: every key above `key`, and the first `ties` elements that have it.
struct Threshold {
  uint32_t key;
  size_t ties;
};

// The k-th largest of keys in [0, kMaxKey], by histograms over ever narrower ranges: at most three
// passes. for_each(f) calls f(key) for every key.
template <typename ForEach>
Threshold find_threshold(ForEach for_each, size_t k, uint32_t low) {
  constexpr int kBinBits = 11;
  uint32_t high = kMaxKey;
  while (low < high) {
    const int shift = std::max(0, static_cast<int>(std::bit_width(high - low)) - kBinBits);
    size_t bins[1u << kBinBits] = {};
    for_each([&](uint32_t key) {
      // Keys outside [low, high] wrap around or exceed it.
      if (key - low <= high - low) ++bins[(key - low) >> shift];
    });
    uint32_t b = (high - low) >> shift;
    while (bins[b] < k) k -= bins[b--];  // k: rank within what is left
    low += b << shift;
    high = std::min(high, low + ((1u << shift) - 1));
  }
  return {low, k};
}

// Elements whose keys reach a bound, in order of index.
struct Candidates {
  std::unique_ptr<float[]> values;
  std::unique_ptr<uint32_t[]> indices;
  size_t capacity = 0;
  size_t count = 0;

  Status reserve(size_t n) {
    capacity = n;
    values.reset(new (std::nothrow) float[n]);
    indices.reset(new (std::nothrow) uint32_t[n]);
    if (values && indices) return {};
    return error(Code::kResource, "top-k: no memory for {} candidates ({} bytes)", n, n * 8);
  }
};

bool any_reaches(const float* values, uint32_t bound) {
  uint32_t any = 0;
  for (size_t i = 0; i < kBlock; ++i) {
    any |= static_cast<uint32_t>(static_cast<int32_t>(magnitude_key(float_bits(values[i]))) >=
                                 static_cast<int32_t>(bound));
  }
  return any != 0;
}

// Appends the elements with keys >= bound. False: they do not fit.
bool collect(size_t begin, const float* values, size_t n, uint32_t bound, Candidates& out) {
  for (size_t b = 0; b < n; b += kBlock) {
    const size_t m = std::min(kBlock, n - b);
    if (m == kBlock && !any_reaches(values + b, bound)) continue;
    if (out.count + m > out.capacity) return false;
    for (size_t i = b; i < b + m; ++i) {  // without a branch: writes, and moves on if it was one
      out.values[out.count] = values[i];
      out.indices[out.count] = static_cast<uint32_t>(begin + i);
      out.count += magnitude_key(float_bits(values[i])) >= bound;
    }
  }
  return true;
}

// Reduces candidates to what `threshold` keeps. REQUIRES: all of these are among them.
void keep(Threshold threshold, Candidates& c) {
  size_t n = 0;
  for (size_t i = 0; i < c.count; ++i) {
    const uint32_t key = magnitude_key(float_bits(c.values[i]));
    const bool tie = key == threshold.key && threshold.ties > 0;
    threshold.ties -= tie;
    c.values[n] = c.values[i];
    c.indices[n] = c.indices[i];
    n += key > threshold.key || tie;
  }
  c.count = n;
}

// The same from the input itself; fills `out` up to k.
void keep_from(Threshold threshold, Input& input, size_t k, Candidates& out) {
  out.count = 0;
  input.read_all([&](size_t begin, const float* values, size_t n) {
    for (size_t i = 0; i < n && out.count < k; ++i) {
      const uint32_t key = magnitude_key(float_bits(values[i]));
      if (key < threshold.key) continue;
      if (key == threshold.key) {
        if (threshold.ties == 0) continue;
        --threshold.ties;
      }
      out.values[out.count] = values[i];
      out.indices[out.count++] = static_cast<uint32_t>(begin + i);
    }
    return out.count < k;
  });
}

struct Bracket {
  uint32_t bound;     // collect keys >= bound
  size_t candidates;  // room for as many
};

// The bound is the sample's r-th largest key: r lies four standard deviations above the k-th's
// expected rank in the sample, so that fewer than k candidates are rare (and cost time, not truth).
Bracket sample_bracket(const Input& input, size_t k) {
  constexpr size_t kMaxSample = 16384;
  const size_t count = input.count();
  const size_t size = std::min(count / 32, kMaxSample);
  const double expected = static_cast<double>(k) / static_cast<double>(count) * static_cast<double>(size);
  size_t rank = static_cast<size_t>(expected + 4 * std::sqrt(expected)) + 4;
  if (rank >= size) return {0, count};
  auto sample = std::unique_ptr<uint32_t[]>(new (std::nothrow) uint32_t[size]);
  if (!sample) return {0, count};
  const size_t stride = count / size;
  uint32_t jitter = 0x9e3779b9u;  // periodic inputs must not meet a periodic sample
  for (size_t i = 0; i < size; ++i) {
    jitter = jitter * 1664525u + 1013904223u;
    sample[i] = input.key_at(i * stride + (jitter >> 8) % stride);
  }
  std::nth_element(sample.get(), sample.get() + (rank - 1), sample.get() + size, std::greater<>());
  uint32_t bound = sample[rank - 1];
  const auto reached = [&] {
    return static_cast<size_t>(
        std::count_if(sample.get(), sample.get() + size, [&](uint32_t s) { return s >= bound; }));
  };
  // A value that fills much of the input (zeros of a sparse gradient): collect what is above it only.
  if (reached() > 2 * rank + 32) ++bound;
  const size_t enough = std::max(reached(), rank) * 5 / 4 + 16;
  const double share = static_cast<double>(enough) / static_cast<double>(size);
  const size_t room = static_cast<size_t>(share * static_cast<double>(count));
  return {bound, std::clamp(room, std::min(k + kBlock, count), count)};
}

}  // namespace

Result<Kept> select_topk(const Elements& from, size_t count, size_t k, float* sum) {
  Input input(from, count, sum);
  const Bracket bracket = sample_bracket(input, k);
  Candidates c;
  CGX_RETURN_IF_ERROR(c.reserve(std::max(k, bracket.candidates) + 1));

  bool fits = true;
  input.read_all([&](size_t begin, const float* values, size_t n) {
    return fits = collect(begin, values, n, bracket.bound, c);
  });
  if (fits && c.count >= k) {
    const auto each = [&](auto f) {
      for (size_t i = 0; i < c.count; ++i) f(magnitude_key(float_bits(c.values[i])));
    };
    keep(find_threshold(each, k, bracket.bound), c);
    return Kept{std::move(c.values), std::move(c.indices)};
  }
  // All candidates are kept; it is likely that the value just below the bracket fills the rest.
  if (fits) keep_from({bracket.bound - 1, k - c.count}, input, k, c);
  if (!fits || c.count < k) {
    const auto each = [&](auto f) {
      input.read_all([&](size_t, const float* values, size_t n) {
        for (size_t i = 0; i < n; ++i) f(magnitude_key(float_bits(values[i])));
        return true;
      });
    };
    keep_from(find_threshold(each, k, 0), input, k, c);
  }
  return Kept{std::move(c.values), std::move(c.indices)};
}

}  // namespace cgx
