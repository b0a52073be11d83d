// The specs that suites over the registry run: for every listed codec its defaults, and every value that
// its parameters' ranges name, one at a time. A codec is in here the moment it is listed.
#pragma once

#include <algorithm>
#include <cctype>
#include <string>
#include <string_view>
#include <vector>

#include "codec/codec_row.h"
#include "codec/spec.h"

namespace cgx {

// The choices of "a|b|c", or the numbers that a range's words contain.
inline std::vector<std::string> values_in(std::string_view range) {
  std::vector<std::string> values;
  const bool choice = range.find('|') != std::string_view::npos;
  std::string word;
  for (const char c : std::string(range) + " ") {
    const bool part = choice ? c != '|' && c != ' ' : std::isdigit(c) != 0 || (c == '-' && word.empty());
    if (part) {
      word += c;
    } else if (!word.empty()) {
      values.push_back(word);
      word.clear();
    }
  }
  return values;
}

inline std::vector<std::string> spread_of(const CodecRow& row) {
  std::string required;
  for (const ParamRow& param : row.params) {
    if (param.info.initial[0] == '\0') {
      required += (required.empty() ? ":" : ",") + std::string(param.info.name) + "=" +
                  values_in(param.info.range)[0];
    }
  }
  std::vector<std::string> specs = {row.name + required};
  for (const ParamRow& param : row.params) {
    for (const std::string& value : values_in(param.info.range)) {
      const std::string text = fmt::format("{}:{}={}", row.name, param.info.name, value);
      const bool taken = std::find(specs.begin(), specs.end(), text) != specs.end();
      if (!taken && parse_spec(text).ok()) specs.push_back(text);
    }
  }
  return specs;
}

// All of them; sparse ones also with every dense codec inside.
inline std::vector<std::string> all_specs() {
  std::vector<std::string> specs;
  for (const CodecRow& row : codec_rows()) {
    for (const std::string& spec : spread_of(row)) specs.push_back(spec);
    if (row.layout_bytes == nullptr) continue;
    for (const CodecRow& inner : codec_rows()) {
      if (inner.layout_bytes == nullptr) specs.push_back(spread_of(row)[0] + "|" + spread_of(inner)[0]);
    }
  }
  return specs;
}

inline std::vector<std::string> dense_specs() {
  std::vector<std::string> specs;
  for (const CodecRow& row : codec_rows()) {
    if (row.layout_bytes != nullptr) continue;
    for (const std::string& spec : spread_of(row)) specs.push_back(spec);
  }
  return specs;
}

}  // namespace cgx
