// Standard output in the format that was asked for. What is not a row is a note: a line with # in tables,
// which parsers of nccl-tests and OSU output skip; on standard error beside csv and json, which stay clean.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "options.h"

namespace cgx::bench {

struct Column {
  std::string title;
  std::string unit;  // "" or "(us)"
  size_t width;
};

class Sheet {
 public:
  // `fields` are the columns of csv, by their names in rows.
  Sheet(Format format, std::vector<Column> columns, std::vector<std::string> fields);

  void note(const std::string& line) const;  // "# " is put before it
  void start() const;                        // after the first notes
  // `cells` are those of the table.
  void row(const nlohmann::json& row, const std::vector<std::string>& cells);
  void end(const nlohmann::json& document) const;

 private:
  void print_osu() const;

  Format format_;
  std::vector<Column> columns_;
  std::vector<std::string> fields_;
  std::vector<nlohmann::json> rows_;
};

}  // namespace cgx::bench
