// Every CGX_* environment variable there is, in one list. Warnings about unknown names, `python -m cgx env`
// and the table in docs/VARIABLES.md are made from it.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace cgx::config {

struct Variable {
  const char* name;
  const char* otherwise;  // what holds where it is not set
  const char* meaning;    // one sentence, values included
  const char* reader;     // "library", or the part that reads it
};
std::span<const Variable> variables();

// "" for a variable that exists or is not ours to judge; else a sentence that names what may have been meant.
std::string complaint_about(std::string_view name);

}  // namespace cgx::config
