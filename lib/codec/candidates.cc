// See candidates.h.
#include "codec/candidates.h"

#include "base/status.h"

namespace cgx {
namespace {

struct Row {
  const char* spec;
  double error;
};

constexpr Row kRows[] = {
    {"none", 0},
    {"cast:bf16", 0x1p-18},
    {"maxmin:bits=8,bucket=512", 37.4 / (6 * 255 * 255)},
    {"maxmin:bits=6,bucket=512", 37.4 / (6 * 63 * 63)},
    {"maxmin:bits=4,bucket=512", 37.4 / (6 * 15 * 15)},
    {"natural", 0.0817},
    {"maxmin:bits=2,bucket=512", 37.4 / (6 * 3 * 3)},
};

}  // namespace

std::vector<Candidate> candidates_within(double error) {
  std::vector<Candidate> list;
  for (const Row& row : kRows) {
    if (row.error > error) continue;
    Result<CodecSpec> spec = parse_spec(row.spec);
    CGX_CHECK(spec.ok());
    list.push_back({*spec, row.error});
  }
  return list;
}

std::vector<Candidate> candidates() { return candidates_within(1); }

}  // namespace cgx
