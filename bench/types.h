// Element types and operations by the names that nccl-tests has for them, and sizes as people write them.
#pragma once

#include <cstdint>
#include <string>

#include "cgx/cgx.h"

namespace cgx::bench {

const char* dtype_name(cgx_dtype dtype);  // "float", "half", ...
uint64_t dtype_bytes(cgx_dtype dtype);
bool is_integer(cgx_dtype dtype);
bool is_sum(cgx_op op);  // or average: what is compressed
const char* op_name(cgx_op op);
// "double, bfloat16, ...", for --help and errors.
std::string dtype_names();
std::string op_names();
// All throw UsageError.
cgx_dtype parse_dtype(const std::string& name);
cgx_op parse_op(const std::string& name);
uint64_t parse_bytes(const std::string& text);  // "64M"; K, M, G are powers of 1024

}  // namespace cgx::bench
