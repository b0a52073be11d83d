// See select.h. Candidates are few (a handful of codecs and of algorithms, five slices), so all are tried.
#include "plan/select.h"

#include <algorithm>

#include "codec/candidates.h"
#include "plan/algorithm_list.h"

namespace cgx {

namespace {

// Slices that stay in the cache and are worth a message.
constexpr uint64_t kSlices[] = {kDefaultSliceBytes, 1 << 20, 512 << 10, 128 << 10, 64 << 10};

bool any_sparse(const Layout& layout) {
  return std::any_of(layout.segments().begin(), layout.segments().end(),
                     [](const Segment& s) { return is_sparse(s.spec); });
}

bool is_exact(const Layout& layout) {
  return std::all_of(layout.segments().begin(), layout.segments().end(), [&](const Segment& s) {
    return s.spec.kind == CodecKind::kNone || is_raw(s.spec, layout.dtype(), s.count);
  });
}

// A sparse codec keeps only the largest of what it is given, and scatter_gather would drop most of the sum's
// elements in its second rounding; so it takes allgather as long as that sends less than uncompressed
// scatter_gather would, its price for keeping every rank's choice.
bool sparse_prefers_allgather(const Layout& layout, int size) {
  const uint64_t ranks = static_cast<uint64_t>(size);
  const uint64_t raw = layout.count() * dtype_bytes(layout.dtype());
  return layout.wire_bytes(0, layout.count()) * ranks <= 2 * raw;
}

// No choice of ours rounds more often than scatter_gather does.
bool may_choose(const Algorithm& algorithm, const Layout& layout, const Profile& profile) {
  return algorithm.cost_ns != nullptr &&
         (algorithm.roundings(profile.size, profile.hosts) <= 2 || is_exact(layout));
}

// Another algorithm or slice than the first, or a lossier codec, must be worth it: neither a rounding nor the
// predictability of one choice is paid for a gain that is lost in the noise. Less than a tenth each, so
// that what one of them holds back stays within that.
constexpr double kWorthAnAlgorithm = 0.92, kWorthASlice = 0.95;
constexpr double kWorthALoss = 0.95, kWorthMoreLoss = 0.97;

struct Best {
  const Algorithm* algorithm = nullptr;
  uint64_t slice_bytes = 0;
  double ns = 0;
};

// No message is longer than a default slice of raw elements: transports have memory for some such messages,
// and stall where it is used up (raw slices of 1 MiB are 7 times slower among four ranks in shared memory).
bool fits_transports(uint64_t slice, uint64_t raw_bytes, uint64_t wire_bytes) {
  const double ratio =
      static_cast<double>(wire_bytes) / static_cast<double>(std::max<uint64_t>(1, raw_bytes));
  return static_cast<double>(std::min(slice, raw_bytes)) * ratio <= kDefaultSliceBytes;
}

Best of_slice(const Algorithm& row, uint64_t slice, Load load, const Profile& profile) {
  load.slice_bytes = slice;
  return {&row, slice, row.cost_ns == nullptr ? 0 : row.cost_ns(load, profile)};
}

Best best_slice(const Algorithm& row, const Wish& wish, const Layout& layout, const Load& load,
                const Profile& profile) {
  if (wish.slice_bytes != 0) return of_slice(row, wish.slice_bytes, load, profile);
  Best best = of_slice(row, long_slice_bytes(layout, wish.longest_usual), load, profile);
  for (const uint64_t slice : kSlices) {
    if (slice > kDefaultSliceBytes && !fits_transports(slice, load.raw_bytes, load.wire_bytes)) continue;
    const Best other = of_slice(row, slice, load, profile);
    if (other.ns < kWorthASlice * best.ns) best = other;
  }
  return best;
}

Best best_of(const Wish& wish, const Layout& layout, const Profile& profile) {
  Best best;
  const Algorithm* only = wish.algorithm;
  if (only == nullptr && any_sparse(layout)) {
    only = find_algorithm(sparse_prefers_allgather(layout, profile.size) ? "allgather" : "scatter_gather");
  }
  const Load load = load_of(layout, profile, 0, wish.inner_codec);
  for (const Algorithm& row : algorithms()) {
    if (only != nullptr ? &row != only : !may_choose(row, layout, profile)) continue;
    const Best found = best_slice(row, wish, layout, load, profile);
    if (best.algorithm == nullptr || found.ns < kWorthAnAlgorithm * best.ns) best = found;
  }
  return best;
}

// `layout` with `codec` wherever it says `open`.
Layout with_codec(const Layout& layout, const CodecSpec& open, CodecSpec codec) {
  codec.error_feedback = open.error_feedback && codec.kind != CodecKind::kNone;
  std::vector<Segment> segments = layout.segments();
  for (Segment& segment : segments) {
    if (segment.spec == open) segment.spec = codec;
  }
  Result<Layout> made = Layout::make(layout.dtype(), layout.count(), std::move(segments));
  CGX_CHECK(made.ok());
  return std::move(*made);
}

bool allows(const CodecSpec& open, CodecSpec codec) {
  if (!open.error_feedback || codec.kind == CodecKind::kNone) return true;
  codec.error_feedback = true;
  return check_error_feedback(codec).ok();
}

}  // namespace

Result<const Algorithm*> named_algorithm(std::string_view name) {
  if (name.empty() || name == "auto") return nullptr;
  if (const Algorithm* found = find_algorithm(name)) return found;
  std::string names = "auto";
  for (const Algorithm& algorithm : algorithms()) names += std::string(", ") + algorithm.name;
  return error(Code::kInvalidArgument, "there is no algorithm \"{}\"; there are {}", name, names);
}

uint64_t long_slice_bytes(const Layout& layout, uint64_t longest) {
  const uint64_t raw_bytes = layout.count() * dtype_bytes(layout.dtype());
  const uint64_t wire_bytes = layout.wire_bytes(0, layout.count());
  uint64_t best = kDefaultSliceBytes;
  for (const uint64_t slice : kSlices) {
    const bool is_better = slice > best && slice <= longest;
    if (is_better && fits_transports(slice, raw_bytes, wire_bytes)) best = slice;
  }
  return best;
}

std::string explain(const Selection& selection, const Wish& wish, const Profile& profile) {
  const Load load = load_of(selection.layout, profile, selection.slice_bytes, wish.inner_codec);
  std::string others;
  for (const Algorithm& row : algorithms()) {
    if (&row == selection.algorithm || row.cost_ns == nullptr) continue;
    others +=
        fmt::format("{}{} {:.1f}", others.empty() ? "" : ", ", row.name, row.cost_ns(load, profile) * 1e-3);
  }
  return fmt::format("{}{}: {} rank{} on {} host{}, predicted {:.1f} us ({})", selection.algorithm->name,
                     wish.algorithm != nullptr ? ", as asked" : "", profile.size,
                     profile.size == 1 ? "" : "s", profile.hosts, profile.hosts == 1 ? "" : "s",
                     selection.seconds * 1e6, others);
}

// Where several segments leave different choices, they are made one after another, those to come as raw.
Selection select(const Wish& wish, const Layout& layout, const Profile& profile) {
  Selection chosen{layout, nullptr, 0, 0};
  for (size_t i = 0; i < chosen.layout.segments().size(); ++i) {
    const CodecSpec open = chosen.layout.segments()[i].spec;
    if (!is_auto(open)) continue;
    const Layout before = chosen.layout;
    Best best;
    bool is_lossy = false;
    for (const Candidate& candidate : candidates_within(open.error)) {
      if (!allows(open, candidate.spec)) continue;
      Layout tried = with_codec(before, open, candidate.spec);
      const Best found = best_of(wish, tried, profile);
      const double worth = is_lossy ? kWorthMoreLoss : kWorthALoss;
      if (best.algorithm != nullptr && found.ns >= worth * best.ns) continue;
      best = found;
      is_lossy = candidate.spec.kind != CodecKind::kNone;
      chosen.layout = std::move(tried);
    }
  }
  const Best best = best_of(wish, chosen.layout, profile);
  chosen.algorithm = best.algorithm;
  chosen.slice_bytes = best.slice_bytes;
  chosen.seconds = best.ns * 1e-9;
  return chosen;
}

}  // namespace cgx
