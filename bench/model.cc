// Parses the lists in models/, which are compiled in, and fills buckets as DDP does.
#include "model.h"

#include <fmt/format.h>

#include <algorithm>
#include <fstream>
#include <sstream>

#include "model_lists.h"
#include "options.h"

namespace cgx::bench {
namespace {

struct Parameter {
  uint64_t count = 1;
  int dimensions = 0;
};

std::string text_of(const std::string& model) {
  if (model == "resnet50") return kResNet50;
  if (model == "gpt2") return kGpt2;
  std::ifstream file(model);
  std::stringstream text;
  if (!(text << file.rdbuf())) {
    throw UsageError(fmt::format("--model {}: neither resnet50 nor gpt2 nor a file that can be read", model));
  }
  return text.str();
}

Parameter parse_shape(const std::string& shape, const std::string& line) {
  Parameter out;
  std::istringstream in(shape);
  for (std::string extent; std::getline(in, extent, 'x'); ++out.dimensions) {
    const bool digits =
        !extent.empty() && extent.size() < 10 &&
        std::all_of(extent.begin(), extent.end(), [](char c) { return c >= '0' && c <= '9'; });
    out.count *= digits ? std::stoull(extent) : 0;
    if (out.count == 0 || out.count > uint64_t{1} << 34) {
      throw UsageError(
          fmt::format("--model: line \"{}\": expected a name and a shape such as 64x3x7x7", line));
    }
  }
  return out;
}

std::vector<Parameter> parse(const std::string& text) {
  std::vector<Parameter> out;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    if (line.empty() || line[0] == '#') continue;
    out.push_back(parse_shape(line.substr(line.find(' ') + 1), line));
  }
  if (out.empty()) throw UsageError("--model: the file lists no parameters");
  return out;
}

}  // namespace

std::vector<Bucket> model_buckets(const std::string& model) {
  constexpr uint64_t kLine = 32;  // elements, of 16 bits
  const std::vector<Parameter> parameters = parse(text_of(model));
  std::vector<Bucket> buckets;
  uint64_t first = 0;
  bool open = false;
  for (size_t k = parameters.size(); k-- > 0;) {
    const Parameter& parameter = parameters[k];
    // DDP's buckets are tensors of their own, which begin with a cache line.
    if (!open) first = (first + kLine - 1) / kLine * kLine;
    if (!open) buckets.push_back({first, 0, {}});
    Bucket& bucket = buckets.back();
    const bool compressed = parameter.dimensions > 1 && parameter.count >= 1024;
    bucket.layers.push_back({bucket.count, parameter.count, compressed, static_cast<uint32_t>(k)});
    bucket.count += parameter.count;
    first += parameter.count;
    const uint64_t limit = (buckets.size() == 1 ? 1 : 25) << 20;
    open = bucket.count * sizeof(float) < limit;
  }
  return buckets;
}

}  // namespace cgx::bench
