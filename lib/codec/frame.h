// A frame: a block that says what it is, for files, golden tests and debugging. Collectives do not use
// it: there both sides know the spec and the count.
//
//   offset  bytes
//        0      4  "CGXF"
//        4      1  version, 1
//        5      1  element type, as in dtype.h
//        6      2  bytes of the spec's text, t
//        8      8  count of elements
//       16      8  bytes of the block
//       24      4  CRC32C of the block
//       28      4  CRC32C of the bytes before this field, then of the spec's text
//       32      t  the spec, in the canonical text of to_string()
//     32+t         the block
//
// All little-endian. CRC32C is Castagnoli's polynomial as in iSCSI (RFC 3720) and ext4.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/dtype.h"
#include "base/status.h"
#include "codec/spec.h"

namespace cgx {

struct Frame {
  CodecSpec spec;
  DType dtype = DType::kF32;
  uint64_t count = 0;
  std::span<const uint8_t> block;  // encoded_bytes(spec, dtype, count) of them
};

std::vector<uint8_t> write_frame(const Frame& frame);
// Checks everything but the block's meaning; `block` points into `bytes`. A total function: any bytes
// give a frame or kCorrupt (kUnsupported: a later version's).
Result<Frame> read_frame(std::span<const uint8_t> bytes);

}  // namespace cgx
