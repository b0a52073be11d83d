#include "codec/topk_select.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <new>

#include "base/half.h"
#include "base/hd.h"
#include "codec/codecs/topk.h"
#include "codec/topk_kernels.h"

namespace cgx {
namespace {

constexpr size_t kTile = 2048;      // elements lifted to fp32 at a time, or that are it already
constexpr size_t kHalfTile = 4096;  // halves that are gone over as they are
constexpr uint32_t kMaxKey = 0x7fffffffu;
constexpr size_t kTogether = 4;  // neighbours in a sample: what a sample costs is fetching lines

// What is kept: every key above `key`, and the first `ties` elements that have it.
struct Threshold {
  uint32_t key;
  size_t ties;
};

Status reserve(SparseScratch& scratch, size_t size) {
  if (scratch.size >= size) return {};
  scratch = {};
  scratch.values.reset(new (std::nothrow) float[size]);
  scratch.indices.reset(new (std::nothrow) uint32_t[size]);
  if (!scratch.values || !scratch.indices) {
    scratch = {};
    return error(Code::kResource, "top-k: no memory for {} candidates ({} bytes)", size, size * 8);
  }
  scratch.size = size;
  return {};
}

// Elements whose keys reach a bound, in order of index, in the caller's scratch memory.
struct Candidates {
  float* values;
  uint32_t* indices;
  size_t room;  // more than this many are not wanted; there is memory for a tile of halves more
  size_t count = 0;

  bool fits() const { return count <= room; }

  // Drops what is below the threshold or a tie too many, from candidate `begin` on, and counts off the ties
  // that stay.
  void keep(size_t begin, Threshold& threshold) {
    size_t n = begin;
    for (size_t i = begin; i < count; ++i) {
      const uint32_t key = magnitude_key(float_bits(values[i]));
      const bool tie = key == threshold.key && threshold.ties > 0;
      threshold.ties -= tie;
      values[n] = values[i];
      indices[n] = indices[i];
      n += key > threshold.key || tie;
    }
    count = n;
  }

  // Drops the last `many` of those that have this key. REQUIRES: there are so many.
  void drop_last(uint32_t key, size_t many) {
    const auto has_it = [&](size_t i) { return magnitude_key(float_bits(values[i])) == key; };
    size_t n = count;
    while (many > 0) many -= has_it(--n);
    for (size_t i = n; i < count; ++i) {
      values[n] = values[i];
      indices[n] = indices[i];
      n += !has_it(i);
    }
    count = n;
  }
};

// The input as stretches: in place where it is fp32 already, or halves that nothing is added to; else lifted
// on first reading into `sum` or into a tile.
class Input {
 public:
  Input(const Elements& from, size_t count, float* sum) : from_(from), count_(count), sum_(sum) {}

  size_t count() const { return count_; }

  // x[kTogether g, ...) becomes the elements from place(g) on. Before the first pass only: that may overwrite
  // `before`.
  template <typename Place>
  void gather(Place place, float* x, size_t groups) const {
    uint16_t packed[kTile];
    for (size_t begin = 0; begin < groups; begin += kTile / kTogether) {
      const size_t n = std::min(kTile / kTogether, groups - begin);
      const auto each = [&](auto* out, auto element) {
        for (size_t g = 0; g < n; ++g) {
          const size_t at = place(begin + g);
          for (size_t j = 0; j < kTogether; ++j) out[kTogether * g + j] = element(at + j, kTogether * g + j);
        }
      };
      float* values = x + kTogether * begin;
      const float* before = from_.before;
      if (from_.dtype == DType::kF32) {
        const float* all = static_cast<const float*>(from_.x);
        before == nullptr ? each(values, [=](size_t i, size_t) { return all[i]; })
                          : each(values, [=](size_t i, size_t) { return fadd(all[i], before[i]); });
        continue;
      }
      const uint16_t* halves = static_cast<const uint16_t*>(from_.x);
      each(packed, [=](size_t i, size_t) { return halves[i]; });
      load_elements({from_.dtype, packed, nullptr}, 0, kTogether * n, values);
      if (before != nullptr) each(values, [=](size_t i, size_t j) { return fadd(values[j], before[i]); });
    }
  }

  // The share of the elements that will be collected, where it is known. Usual of 64: 1.5 standard deviations
  // above the mean, and fewer.
  void expect(double share) { usual_ = static_cast<size_t>(64 * share + 1.5 * std::sqrt(64 * share)); }

  // The first pass: completes `sum` and appends the elements with keys >= bound. False: they do not fit.
  bool collect(uint32_t bound, Candidates& out) {
    each_tile(is_lifted(bound), [&](Stretch tile) {
      tile.sum = sum_ ? sum_ + tile.first : nullptr;
      append(tile, out.fits() ? bound : kMaxKey + 1, out);  // once they do not fit, for the sum only
      return out.fits() || sum_;
    });
    if (sum_) from_ = {DType::kF32, sum_, nullptr};
    return out.fits();
  }

  // Replaces candidates by the first k of what `threshold` keeps.
  void collect_kept(Threshold threshold, size_t k, Candidates& out) const {
    out.count = 0;
    each_tile(is_lifted(threshold.key + 1), [&](const Stretch& tile) {
      const size_t before = out.count;
      append(tile, threshold.ties > 0 ? threshold.key : threshold.key + 1, out);
      if (threshold.ties > 0) out.keep(before, threshold);
      return out.count < k;
    });
  }

  // Calls f(key) for every element.
  template <typename F>
  void each_key(F f) const {
    float sum[kTile];
    each_tile(true, [&](const Stretch& tile) {
      const float* values = tile.floats();
      if (tile.before) {
        for (size_t i = 0; i < tile.count; ++i) sum[i] = fadd(values[i], tile.before[i]);
        values = sum;
      }
      for (size_t i = 0; i < tile.count; ++i) f(magnitude_key(float_bits(values[i])));
      return true;
    });
  }

 private:
  static void append(const Stretch& tile, uint32_t bound, Candidates& out) {
    out.count += topk_kernels().collect(tile, bound, out.values + out.count, out.indices + out.count);
  }

  // Whether halves must be lifted before they can be compared with `bound`.
  bool is_lifted(uint32_t bound) const { return from_.before || sum_ || bound > kLastHalfBound; }

  // Calls f(stretch) over the input in order, until it returns false. `lifted`: as fp32.
  template <typename F>
  void each_tile(bool lifted, F f) const {
    alignas(64) float tile[kTile];
    const size_t length = lifted || from_.dtype == DType::kF32 ? kTile : kHalfTile;
    for (size_t begin = 0; begin < count_; begin += length) {
      const size_t n = std::min(length, count_ - begin);
      const Elements there = from_.from(begin);
      Stretch stretch = {there.dtype, there.x, there.before, nullptr, n, static_cast<uint32_t>(begin),
                         usual_};
      if (lifted && from_.dtype != DType::kF32) {
        load_elements({from_.dtype, from_.x, nullptr}, begin, n, tile);
        stretch.dtype = DType::kF32;
        stretch.x = tile;
      }
      if (!f(stretch)) return;
    }
  }

  Elements from_;
  size_t count_;
  float* sum_;
  size_t usual_ = 0;
};

// How many elements have keys that are not below it.
struct Bound {
  uint32_t key;
  size_t reached;
};

// A float's bits are nearly a logarithm. Where none is left, half of one is.
double logarithm(size_t n) { return n == 0 ? float_bits(0.5f) : float_bits(static_cast<float>(n)); }

constexpr size_t kFew = 64;
constexpr int kPatience = 6;

// The largest bound in [low, high) that at least k of x[0, count) reach, by sorting the few in between.
// REQUIRES: high.reached < k <= low.reached <= high.reached + kFew.
Bound sorted(const float* x, size_t count, size_t k, Bound low, Bound high) {
  float there[kFew + kKernelSlack];
  uint32_t keys[kFew];
  const size_t few = topk_kernels().between(x, count, low.key, high.key, there);
  std::transform(there, there + few, keys, [](float v) { return magnitude_key(float_bits(v)); });
  std::sort(keys, keys + few, std::greater<>());
  const uint32_t key = keys[k - high.reached - 1];
  return {key, high.reached +
                   static_cast<size_t>(std::upper_bound(keys, keys + few, key, std::greater<>()) - keys)};
}

// The largest bound, from `low` up, that at least k of x[0, count) reach; ends early at one that k to
// k + spare reach. REQUIRES: `low` is reached by as many as it says, k or more.
// By interpolation, as fewer and fewer elements are larger; halving wherever that did not halve.
Bound search(const float* x, size_t count, size_t k, Bound low, size_t spare = 0) {
  constexpr uint32_t kHalfAnOctave = 1u << 22;
  const TopKKernels& kernels = topk_kernels();
  if (low.reached <= k + spare) return low;
  Bound high = {kernels.largest(x, count) + 1, 0};
  const auto look = [&](uint32_t key) {
    const Bound there = {key, kernels.count(x, count, key)};
    (there.reached < k ? high : low) = there;
    return low.reached <= k + spare;
  };
  // Most elements may lie many octaves below the largest: from there down first, by steps that double.
  for (uint32_t step = kHalfAnOctave; high.key - low.key > step; step *= 2) {
    const uint32_t before = low.key;
    if (look(high.key - step)) return low;
    if (low.key != before) break;
  }
  int looks = 0;
  for (bool halves = true; high.key - low.key > 1; ++looks) {
    // Equal values keep these bounds apart for long.
    if (looks >= kPatience && low.reached - high.reached <= kFew) return sorted(x, count, k, low, high);
    const uint32_t span = high.key - low.key;
    const double all = logarithm(low.reached);
    const double fall = std::max(all - logarithm(high.reached), 1.0);  // the same from 2^24 on, perhaps
    const double share = halves ? (all - logarithm(k)) / fall : 0.5;
    if (look(low.key + std::clamp(static_cast<uint32_t>(share * span), 1u, span - 1))) return low;
    halves = high.key - low.key <= span / 2;
  }
  return low;
}

// The same of candidates, of which `scratch` has room for more behind them. Of many, a sample says between
// which bounds it is nearly surely, and only the few there are gone through again and again.
Bound search(const Candidates& c, size_t k, uint32_t lowest, const SparseScratch& scratch) {
  constexpr size_t kSample = 4096;
  const TopKKernels& kernels = topk_kernels();
  const Bound low = {lowest, c.count};
  const size_t room = scratch.size - c.count;
  if (c.count < 8 * kSample || room < kSample) return search(c.values, c.count, k, low);
  float* there = c.values + c.count;
  for (size_t i = 0, stride = c.count / kSample; i < kSample; ++i) there[i] = c.values[i * stride];
  const double share = static_cast<double>(k) / static_cast<double>(c.count);
  const double expected = share * kSample;
  const double deviation = 4 * std::sqrt(expected * (1 - share)) + 4;
  const auto rank = [](double r) { return static_cast<size_t>(std::clamp<double>(r, 1, kSample)); };
  const Bound from = search(there, kSample, rank(expected + deviation), {lowest, kSample});
  const uint32_t end = search(there, kSample, rank(expected - deviation), from).key + 1;
  const size_t above = kernels.count(c.values, c.count, end);
  const size_t reached = kernels.count(c.values, c.count, from.key);
  if (above >= k || reached < k || reached - above + kKernelSlack > room) {
    return search(c.values, c.count, k, low);
  }
  const size_t few = kernels.between(c.values, c.count, from.key, end, there);
  Bound found = search(there, few, k - above, {from.key, few});
  found.reached += above;
  return found;
}

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

struct Bracket {
  uint32_t bound;  // collect keys >= bound
  size_t room;     // at least k, for the candidates
  double share;    // of the elements that reach it, about
};

// The bound is the sample's r-th largest key: r lies four standard deviations above the k-th's
// expected rank in the sample, so that fewer than k candidates are rare (and cost time, not truth). Where
// neighbours are alike it is two, and one input in fifty has too few.
Result<Bracket> sample_bracket(const Input& input, size_t k, SparseScratch& scratch) {
  constexpr size_t kMaxSample = 8192;
  const size_t count = input.count();
  const size_t groups = std::min(count / 64, kMaxSample) / kTogether;
  const size_t size = kTogether * groups;
  const double expected = static_cast<double>(k) / static_cast<double>(count) * static_cast<double>(size);
  size_t rank = static_cast<size_t>(expected + 4 * std::sqrt(expected)) + 4;
  if (rank >= size) return Bracket{0, count, 1};
  const size_t stride = count / groups;
  CGX_RETURN_IF_ERROR(reserve(scratch, size));
  float* sample = scratch.values.get();
  // Periodic inputs must not meet a periodic sample: the golden ratio's multiples leave fractions that are
  // spread evenly and never repeat.
  const auto place = [stride](size_t g) {
    const uint32_t fraction = static_cast<uint32_t>(g) * 0x9e3779b9u;
    const size_t at = g * stride + ((fraction >> 8) * (stride - kTogether + 1) >> 24);
    return at / kTogether * kTogether;
  };
  input.gather(place, sample, groups);
  Bound bound = search(sample, size, rank, {0, size}, rank / 16);
  // A value that fills much of the input (zeros of a sparse gradient): collect what is above it only.
  if (bound.reached > 2 * rank + 32)
    bound = {bound.key + 1, topk_kernels().count(sample, size, bound.key + 1)};
  const size_t enough = std::max(bound.reached, rank) * 5 / 4 + 16;
  const double each = static_cast<double>(count) / static_cast<double>(size);
  const size_t room = static_cast<size_t>(static_cast<double>(enough) * each);
  return Bracket{bound.key, std::clamp(room, k, count),
                 static_cast<double>(bound.reached) / static_cast<double>(size)};
}

}  // namespace

Result<Kept> select_topk(const Elements& from, size_t count, size_t k, float* sum, SparseScratch& scratch) {
  Input input(from, count, sum);
  CGX_ASSIGN_OR_RETURN(const Bracket bracket, sample_bracket(input, k, scratch));
  input.expect(bracket.share);
  CGX_RETURN_IF_ERROR(reserve(scratch, bracket.room + kHalfTile + kKernelSlack));
  Candidates c = {scratch.values.get(), scratch.indices.get(), bracket.room};
  const Kept kept = {c.values, c.indices};

  const bool fits = input.collect(bracket.bound, c);
  if (fits && c.count >= k) {
    const Bound bound = search(c, k, bracket.bound, scratch);
    c.count = topk_kernels().keep(c.values, c.indices, c.count, bound.key);
    c.drop_last(bound.key, c.count - k);
    return kept;
  }
  // All candidates are kept; it is likely that the value just below the bracket fills the rest.
  if (fits) input.collect_kept({bracket.bound - 1, k - c.count}, k, c);
  if (!fits || c.count < k) {
    const auto each = [&](auto f) { input.each_key(f); };
    input.collect_kept(find_threshold(each, k, 0), k, c);
  }
  return kept;
}

}  // namespace cgx
