// See reports.h.
#include "comm/reports.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <iterator>

#include "cgx/cgx.h"

namespace cgx {
namespace {

std::string in_bytes(uint64_t bytes) {
  constexpr const char* kUnits[] = {"B", "kB", "MB", "GB", "TB"};
  auto value = static_cast<double>(bytes);
  size_t unit = 0;
  for (; value >= 1000 && unit + 1 < std::size(kUnits); ++unit) value /= 1000;
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", value, kUnits[unit]);
}

double percent(double part, double whole) { return whole > 0 ? 100 * part / whole : 0; }

double percent(uint64_t part, uint64_t whole) {
  return percent(static_cast<double>(part), static_cast<double>(whole));
}

std::string by_codec(const Snapshot& s) {
  std::string text;
  for (const auto& [name, bytes] : s.codecs) {
    text += fmt::format("{}{}: {} of {}", text.empty() ? "" : ", ", name, in_bytes(bytes.wire),
                        in_bytes(bytes.raw));
  }
  return text;
}

// Prometheus' rules for the value of a label.
std::string escape(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '\\' || c == '"') out += '\\';
    out += c == '\n' ? std::string("\\n") : std::string(1, c);
  }
  return out;
}

class Families {
 public:
  explicit Families(const std::vector<Snapshot>& snapshots) : snapshots_(snapshots) {}

  // `samples` adds the lines of one snapshot by calling sample().
  void family(const char* name, const char* type, const char* help,
              const std::function<void(const Snapshot&)>& samples) {
    name_ = name;
    text_ += fmt::format("# HELP {} {}\n# TYPE {} {}\n", name, help, name, type);
    for (const Snapshot& s : snapshots_) {
      labels_ = fmt::format("job=\"{}\",rank=\"{}\"", escape(s.job), s.rank);
      samples(s);
    }
  }
  template <typename Number>
  void sample(Number value, const std::string& labels = "", const char* suffix = "") {
    text_ +=
        fmt::format("{}{}{{{}{}{}}} {}\n", name_, suffix, labels_, labels.empty() ? "" : ",", labels, value);
  }
  std::string take() { return std::move(text_); }

 private:
  const std::vector<Snapshot>& snapshots_;
  std::string text_;
  std::string labels_;
  const char* name_ = "";
};

void add_totals(Families* f) {
  f->family("cgx_info", "gauge", "What the communicator is: 1.", [f](const Snapshot& s) {
    f->sample(1, fmt::format("size=\"{}\",transport=\"{}\",version=\"{}\"", s.size, escape(s.transport),
                             cgx_version_string()));
  });
  f->family("cgx_collectives_total", "counter", "Collectives that ended well.",
            [f](const Snapshot& s) { f->sample(s.stats.collectives); });
  f->family("cgx_failures_total", "counter", "Collectives that ended with an error.",
            [f](const Snapshot& s) { f->sample(s.stats.failed); });
  f->family("cgx_bytes_total", "counter", "Bytes sent: as sent (wire), and had they been raw (raw).",
            [f](const Snapshot& s) {
              for (const auto& [name, bytes] : s.codecs) {
                f->sample(bytes.raw, fmt::format("kind=\"raw\",codec=\"{}\"", escape(name)));
                f->sample(bytes.wire, fmt::format("kind=\"wire\",codec=\"{}\"", escape(name)));
              }
            });
  f->family("cgx_elements_total", "counter", "Elements reduced, by what became of them.",
            [f](const Snapshot& s) {
              f->sample(s.stats.accounting.compressed, "state=\"compressed\"");
              f->sample(s.stats.accounting.raw, "state=\"raw\"");
              f->sample(s.stats.accounting.too_small, "state=\"too_small\"");
              f->sample(s.stats.accounting.not_float, "state=\"not_float\"");
              f->sample(s.stats.accounting.not_sum, "state=\"not_sum\"");
            });
  f->family("cgx_saturated_total", "counter", "Finite values clipped to a codec's range.",
            [f](const Snapshot& s) { f->sample(s.stats.run.counts.saturated); });
  f->family("cgx_non_finite_total", "counter", "NaN and Inf given to codecs.",
            [f](const Snapshot& s) { f->sample(s.stats.run.counts.non_finite); });
}

void add_times(Families* f) {
  f->family("cgx_phase_seconds_total", "counter", "Time inside collectives, by what it went into.",
            [f](const Snapshot& s) {
              f->sample(s.stats.run.encode_seconds, "phase=\"encode\"");
              f->sample(s.stats.run.decode_seconds, "phase=\"decode\"");
              f->sample(s.stats.run.wait_seconds, "phase=\"wait\"");
            });
  f->family("cgx_last_collective_timestamp_seconds", "gauge", "When the last collective ended, since 1970.",
            [f](const Snapshot& s) { f->sample(s.last_wall_seconds); });
  f->family("cgx_op_seconds", "histogram", "How long collectives took that ended well.",
            [f](const Snapshot& s) {
              uint64_t below = 0;
              for (size_t i = 0; i < Histogram::kBounds.size(); ++i) {
                below += s.times.counts[i];
                f->sample(below, fmt::format("le=\"{}\"", Histogram::kBounds[i]), "_bucket");
              }
              below += s.times.counts.back();
              f->sample(below, "le=\"+Inf\"", "_bucket");
              f->sample(s.times.seconds, "", "_sum");
              f->sample(below, "", "_count");
            });
}

}  // namespace

std::vector<std::string> summary_lines(const Snapshot& s) {
  const CommunicatorStats& t = s.stats;
  const Accounting& a = t.accounting;
  const RunStats& r = t.run;
  const double total = s.times.seconds;
  const double known = r.encode_seconds + r.decode_seconds + r.wait_seconds;
  std::vector<std::string> lines;
  lines.push_back(
      fmt::format("summary of rank {} of {}, job \"{}\", over {}: {} collectives in {:.1f} s, {} failed",
                  s.rank, s.size, s.job, s.transport, t.collectives, s.age_seconds, t.failed));
  if (t.collectives > 0) {
    lines.push_back(fmt::format(
        "  sent {} instead of {}, {:.1f} times smaller ({})", in_bytes(r.wire_bytes), in_bytes(r.raw_bytes),
        r.wire_bytes > 0 ? static_cast<double>(r.raw_bytes) / static_cast<double>(r.wire_bytes) : 1.0,
        by_codec(s)));
    lines.push_back(fmt::format(
        "  elements: {:.1f} % compressed, {:.1f} % asked for raw, {:.1f} % in segments too small to gain, "
        "{:.1f} % of a type that is never compressed",
        percent(a.compressed, a.elements), percent(a.raw, a.elements), percent(a.too_small, a.elements),
        percent(a.not_float, a.elements)));
    lines.push_back(fmt::format(
        "  {:.3f} s in collectives: {:.1f} % encoding, {:.1f} % decoding and summing, {:.1f} % waiting, "
        "{:.1f} % else",
        total, percent(r.encode_seconds, total), percent(r.decode_seconds, total),
        percent(r.wait_seconds, total), std::max(0.0, percent(total - known, total))));
    lines.push_back(fmt::format("  {} values clipped to a codec's range, {} NaN or Inf", r.counts.saturated,
                                r.counts.non_finite));
  }
  if (!s.last_failure.empty()) lines.push_back("  failed with: " + s.last_failure);
  return lines;
}

std::string prometheus_text(const std::vector<Snapshot>& snapshots) {
  Families families(snapshots);
  add_totals(&families);
  add_times(&families);
  return families.take();
}

}  // namespace cgx
