// See types.h.
#include "types.h"

#include <fmt/format.h>

#include "options.h"

namespace cgx::bench {
namespace {

struct DTypeRow {
  const char* name;
  cgx_dtype dtype;
  uint32_t bytes;
  bool integer;
};
constexpr DTypeRow kDTypes[] = {
    {"float", CGX_FLOAT32, 4, false},  {"half", CGX_FLOAT16, 2, false}, {"bfloat16", CGX_BFLOAT16, 2, false},
    {"double", CGX_FLOAT64, 8, false}, {"int8", CGX_INT8, 1, true},     {"uint8", CGX_UINT8, 1, true},
    {"int16", CGX_INT16, 2, true},     {"int32", CGX_INT32, 4, true},   {"int64", CGX_INT64, 8, true}};

struct OpRow {
  cgx_op op;
  const char* name;
};
constexpr OpRow kOps[] = {
    {CGX_SUM, "sum"}, {CGX_PROD, "prod"}, {CGX_MIN, "min"}, {CGX_MAX, "max"}, {CGX_AVG, "avg"}};

const DTypeRow& row_of(cgx_dtype dtype) {
  for (const DTypeRow& row : kDTypes) {
    if (row.dtype == dtype) return row;
  }
  throw UsageError(fmt::format("dtype {} is not offered here", static_cast<int>(dtype)));
}

template <typename Rows>
std::string names_of(const Rows& rows) {
  std::string names;
  for (const auto& row : rows) names += (names.empty() ? "" : ", ") + std::string(row.name);
  return names;
}

}  // namespace

const char* dtype_name(cgx_dtype dtype) { return row_of(dtype).name; }
uint64_t dtype_bytes(cgx_dtype dtype) { return row_of(dtype).bytes; }
bool is_integer(cgx_dtype dtype) { return row_of(dtype).integer; }
std::string dtype_names() { return names_of(kDTypes); }
std::string op_names() { return names_of(kOps); }

bool is_sum(cgx_op op) { return op == CGX_SUM || op == CGX_AVG; }

const char* op_name(cgx_op op) {
  for (const OpRow& row : kOps) {
    if (row.op == op) return row.name;
  }
  return "?";
}

cgx_dtype parse_dtype(const std::string& name) {
  for (const DTypeRow& row : kDTypes) {
    if (row.name == name) return row.dtype;
  }
  throw UsageError(fmt::format("--datatype {}: expected one of {}", name, dtype_names()));
}

cgx_op parse_op(const std::string& name) {
  for (const OpRow& row : kOps) {
    if (row.name == name) return row.op;
  }
  throw UsageError(fmt::format("--op {}: expected one of {}", name, op_names()));
}

uint64_t parse_bytes(const std::string& text) {
  size_t used = 0;
  uint64_t value = 0;
  try {
    if (!text.empty() && text[0] != '-') value = std::stoull(text, &used);
  } catch (const std::exception&) {
    used = 0;
  }
  const std::string suffix = text.substr(used);
  const size_t power = suffix.empty() ? 0 : std::string("KMG").find(suffix) + 1;
  if (used == 0 || value == 0 || suffix.size() > 1 || (!suffix.empty() && power == 0) ||
      value > (uint64_t{1} << 40) >> (10 * power)) {
    throw UsageError(fmt::format("\"{}\": expected a size such as 4096, 64K or 1G, at most 1024G", text));
  }
  return value << (10 * power);
}

}  // namespace cgx::bench
