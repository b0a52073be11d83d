// Specs as text: one grammar for all codecs, driven by the parameters in their rows.
#include "codec/spec.h"

#include <charconv>
#include <cmath>

#include "codec/codec_row.h"

namespace cgx {
namespace {

constexpr std::string_view kErrorFeedback = "+ef";
constexpr std::string_view kAutoName = "auto";
constexpr std::string_view kAutoError = ":error=";
// Of 4-bit max-min on normally distributed elements, rounded up: see candidates.h.
constexpr double kAutoDefaultError = 0.03;

Status invalid(std::string_view text, std::string_view what) {
  return error(Code::kInvalidArgument, "codec \"{}\": {}", text, what);
}

std::string codec_names() {
  std::string names;
  for (const CodecRow& row : codec_rows()) names += fmt::format("{}{}", names.empty() ? "" : ", ", row.name);
  return names + fmt::format(", {}", kAutoName);
}

std::string parameter_names(const CodecRow& row) {
  if (row.params.empty()) return fmt::format("{} takes none", row.name);
  std::string names = fmt::format("{} takes ", row.name);
  for (size_t i = 0; i < row.params.size(); ++i) {
    names += fmt::format("{}{} ({})", i == 0 ? "" : ", ", row.params[i].info.name, row.params[i].info.range);
  }
  return names;
}

// Takes what stands before the first `separator` off the text; false where nothing is left.
bool take(std::string_view& text, char separator, std::string_view& part, bool& more) {
  if (!more) return false;
  const size_t at = text.find(separator);
  part = text.substr(0, at);
  more = at != std::string_view::npos;
  text = more ? text.substr(at + 1) : std::string_view();
  return true;
}

// One "name=value", or a bare value.
Status set_parameter(std::string_view whole, const CodecRow& row, std::string_view item, uint64_t& seen,
                     CodecSpec& spec) {
  if (item.empty()) return invalid(whole, "a parameter is empty: write name=value, separated by commas");
  const size_t equals = item.find('=');
  const bool bare = equals == std::string_view::npos;
  for (size_t i = 0; i < row.params.size(); ++i) {
    const ParamRow& param = row.params[i];
    if (bare ? !param.bare : item.substr(0, equals) != param.info.name) continue;
    const std::string_view value = bare ? item : item.substr(equals + 1);
    if ((seen >> i & 1) != 0) return invalid(whole, fmt::format("{} is given twice", param.info.name));
    seen |= uint64_t{1} << i;
    if (value.empty())
      return invalid(whole, fmt::format("{} has no value: it must be {}", param.info.name, param.info.range));
    if (param.set(value, spec)) return {};
    return invalid(whole, fmt::format("{} must be {}, not {}", param.info.name, param.info.range, value));
  }
  if (bare) return invalid(whole, fmt::format("\"{}\" is not name=value; {}", item, parameter_names(row)));
  return invalid(whole,
                 fmt::format("unknown parameter \"{}\"; {}", item.substr(0, equals), parameter_names(row)));
}

// "name[:parameters]".
Result<CodecSpec> parse_codec(std::string_view whole, std::string_view text) {
  const size_t colon = text.find(':');
  const std::string_view name = text.substr(0, colon);
  for (const CodecRow& row : codec_rows()) {
    if (name != row.name) continue;
    CodecSpec spec = row.initial;
    uint64_t seen = 0;
    std::string_view rest = colon == std::string_view::npos ? std::string_view() : text.substr(colon + 1);
    std::string_view item;
    bool more = colon != std::string_view::npos;
    while (take(rest, ',', item, more)) CGX_RETURN_IF_ERROR(set_parameter(whole, row, item, seen, spec));
    for (size_t i = 0; i < row.params.size(); ++i) {
      const ParamInfo& info = row.params[i].info;
      if (info.initial[0] != '\0' || (seen >> i & 1) != 0) continue;
      return invalid(whole, fmt::format("{} needs {} ({})", row.name, info.name, info.range));
    }
    if (row.finish != nullptr) {
      if (Status status = row.finish(spec); !status.ok()) return invalid(whole, status.message());
    }
    return spec;
  }
  if (name.empty()) return invalid(whole, fmt::format("no codec is named; there are {}", codec_names()));
  return invalid(whole, fmt::format("unknown codec \"{}\"; there are {}", name, codec_names()));
}

// "auto" or "auto:error=0.05".
Result<CodecSpec> parse_auto(std::string_view whole, std::string_view text) {
  CodecSpec spec;
  spec.kind = CodecKind::kAuto;
  spec.error = kAutoDefaultError;
  text.remove_prefix(kAutoName.size());
  if (text.empty()) return spec;
  if (!text.starts_with(kAutoError)) {
    return invalid(whole, "auto takes error (0 to 1, the NMSE that one rounding may have) and nothing else");
  }
  const std::string_view value = text.substr(kAutoError.size());
  const std::optional<double> number = parse_number(value);
  if (!number || *number < 0 || *number > 1) {
    return invalid(whole, fmt::format("error must be 0 to 1, not {}", value));
  }
  spec.error = *number;
  return spec;
}

bool names_auto(std::string_view text) { return text.substr(0, text.find(':')) == kAutoName; }

std::string print_codec(const CodecRow& row, const CodecSpec& spec) {
  std::string text = row.name;
  char separator = ':';
  for (const ParamRow& param : row.params) {
    const std::string value = param.get(spec);
    if (value.empty()) continue;
    text += separator;
    if (!param.bare) text += fmt::format("{}=", param.info.name);
    text += value;
    separator = ',';
  }
  return text;
}

}  // namespace

Result<CodecSpec> parse_spec(std::string_view text) {
  std::string_view body = text;
  const bool error_feedback = body.ends_with(kErrorFeedback);
  if (error_feedback) body.remove_suffix(kErrorFeedback.size());
  const size_t bar = body.find('|');
  if (names_auto(body)) {
    CGX_ASSIGN_OR_RETURN(CodecSpec spec, parse_auto(text, body));
    spec.error_feedback = error_feedback;
    return spec;
  }
  CGX_ASSIGN_OR_RETURN(CodecSpec spec, parse_codec(text, body.substr(0, bar)));
  if (bar != std::string_view::npos) {
    if (!is_sparse(spec)) {
      return invalid(text,
                     fmt::format("{} keeps every element and takes no inner codec; only sparse codecs do",
                                 codec_row(spec.kind).name));
    }
    CGX_ASSIGN_OR_RETURN(const CodecSpec inner, parse_codec(text, body.substr(bar + 1)));
    if (is_sparse(inner)) {
      return invalid(text, fmt::format("the inner codec writes the kept values and cannot be {}",
                                       codec_row(inner.kind).name));
    }
    spec.values = inner.values;
  }
  spec.error_feedback = error_feedback;
  if (error_feedback) {
    if (Status status = check_error_feedback(spec); !status.ok()) return invalid(text, status.message());
  }
  return spec;
}

std::string to_string(const CodecSpec& spec) {
  if (is_auto(spec)) {
    return fmt::format("{}{}{}{}", kAutoName, kAutoError, print_number(spec.error),
                       spec.error_feedback ? kErrorFeedback : "");
  }
  std::string text = print_codec(codec_row(spec.kind), spec);
  if (is_sparse(spec) && spec.values.kind != CodecKind::kNone) {
    text += fmt::format("|{}", print_codec(codec_row(spec.values.kind), spec));
  }
  if (spec.error_feedback) text += kErrorFeedback;
  return text;
}

std::optional<int64_t> parse_integer(std::string_view text) {
  int64_t value = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failed != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<double> parse_number(std::string_view text) {
  double value = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failed != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

std::string print_number(double value) {
  char text[32];
  const auto [end, failed] = std::to_chars(text, text + sizeof(text), value);
  return failed == std::errc() ? std::string(text, end) : std::string();
}

}  // namespace cgx
