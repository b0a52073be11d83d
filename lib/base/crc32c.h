// CRC-32C (Castagnoli, the polynomial of iSCSI and ext4): what guards frames on sockets. Folds with
// carry-less multiplication where the CPU has it, uses the CPU's own CRC instruction where it has that,
// and a table elsewhere: the same number from each.
#pragma once

#include <cstddef>
#include <cstdint>

namespace cgx {

// The CRC of what `crc` is the CRC of (0: of nothing), followed by `bytes` bytes at `data`.
uint32_t crc32c(uint32_t crc, const void* data, size_t bytes);

enum class Crc32cPath : uint8_t { kTable, kInstruction, kFold128, kFold256, kFold512 };

// The fastest that this CPU has.
Crc32cPath crc32c_path();
// For tests. REQUIRES: path <= crc32c_path()
uint32_t crc32c(Crc32cPath path, uint32_t crc, const void* data, size_t bytes);

}  // namespace cgx
