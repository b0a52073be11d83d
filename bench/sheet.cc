// See sheet.h.
#include "sheet.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

namespace cgx::bench {
namespace {

using json = nlohmann::json;

void print_line(const std::string& line, FILE* to = stdout) {
  std::fputs((line + "\n").c_str(), to);
  std::fflush(to);
}

// A field of a row; "speedup_over.gloo" is one of an object's.
std::string csv_cell(const json& row, const std::string& field) {
  const size_t dot = field.find('.');
  const json* value = &row.at(field.substr(0, dot));
  if (dot != field.npos) value = &value->at(field.substr(dot + 1));
  if (value->is_null()) return "";
  if (!value->is_string()) return value->dump();
  std::string text = *value;
  if (text.find_first_of(",\"\n") == text.npos) return text;
  for (size_t at = 0; (at = text.find('"', at)) != text.npos; at += 2) text.insert(at, 1, '"');
  return "\"" + text + "\"";
}

std::string joined(const std::vector<std::string>& words) {
  std::string line;
  for (const std::string& word : words) {
    const bool quoted = word.find_first_of(",\"") != word.npos;
    line += (line.empty() ? "" : ",") + (quoted && word.front() != '"' ? "\"" + word + "\"" : word);
  }
  return line;
}

}  // namespace

Sheet::Sheet(Format format, std::vector<Column> columns, std::vector<std::string> fields)
    : format_(format), columns_(std::move(columns)), fields_(std::move(fields)) {}

void Sheet::note(const std::string& line) const {
  print_line("# " + line, format_ == Format::kTable || format_ == Format::kOsu ? stdout : stderr);
}

void Sheet::start() const {
  if (format_ == Format::kCsv) print_line(joined(fields_));
  if (format_ != Format::kTable) return;
  std::string titles = "#", units = "#";
  for (const Column& column : columns_) {
    titles += fmt::format(" {:>{}}", column.title, column.width);
    units += fmt::format(" {:>{}}", column.unit, column.width);
  }
  print_line("#");
  print_line(titles);
  print_line(units);
}

void Sheet::row(const json& row, const std::vector<std::string>& cells) {
  if (format_ == Format::kOsu) rows_.push_back(row);
  if (format_ == Format::kCsv) {
    std::string line;
    for (const std::string& field : fields_) line += (line.empty() ? "" : ",") + csv_cell(row, field);
    print_line(line);
  }
  if (format_ != Format::kTable) return;
  std::string line = " ";
  for (size_t c = 0; c < cells.size(); ++c) line += fmt::format(" {:>{}}", cells[c], columns_[c].width);
  print_line(line);
}

// A table for each contender, one after the other: sizes run down in each, as in the OSU benchmarks' own
// output.
void Sheet::print_osu() const {
  std::vector<std::string> names;
  for (const json& row : rows_) {
    const std::string name = row["name"];
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
  }
  for (const std::string& name : names) {
    print_line("");
    print_line(fmt::format("# Allreduce latency: {}", name));
    print_line(fmt::format("{:<12} {:>18} {:>18} {:>18} {:>12}", "# Size", "Avg Latency(us)",
                           "Min Latency(us)", "Max Latency(us)", "Iterations"));
    for (const json& row : rows_) {
      if (row["name"] != name) continue;
      print_line(fmt::format("{:<12} {:>18.2f} {:>18.2f} {:>18.2f} {:>12}", row["size_bytes"].get<uint64_t>(),
                             row["time_mean_us"].get<double>(), row["time_min_us"].get<double>(),
                             row["time_max_us"].get<double>(), row["calls"].get<uint64_t>()));
    }
  }
}

void Sheet::end(const json& document) const {
  if (format_ == Format::kOsu) print_osu();
  if (format_ == Format::kJson) print_line(document.dump(1));
}

}  // namespace cgx::bench
