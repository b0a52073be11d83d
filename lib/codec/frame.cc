// See frame.h. The order of checks is that of trust: magic, version, lengths, checksum, then what the fields
// mean.
#include "codec/frame.h"

#include <algorithm>
#include <string_view>

#include "base/crc32c.h"
#include "codec/codec.h"
#include "codec/wire.h"

namespace cgx {
namespace {

constexpr uint32_t kMagic = 0x46584743u;  // "CGXF" as little-endian bytes
constexpr uint8_t kVersion = 1;

// The first 32 bytes, byte for byte.
struct FrameHeader {
  uint32_t magic;
  uint8_t version;
  uint8_t dtype;
  uint16_t spec_bytes;
  uint64_t count;
  uint64_t block_bytes;
  uint32_t block_crc;
  uint32_t header_crc;
};
static_assert(sizeof(FrameHeader) == 32);

uint32_t header_crc(const FrameHeader& header, std::span<const uint8_t> spec) {
  return crc32c(crc32c(0, &header, sizeof(header) - sizeof(header.header_crc)), spec.data(), spec.size());
}

Status check_header(const FrameHeader& header, std::span<const uint8_t> bytes) {
  if (header.magic != kMagic) {
    return error(Code::kCorrupt, "not a frame: it begins with {:08x}, not with \"CGXF\"", header.magic);
  }
  if (header.version != kVersion) {
    return error(Code::kUnsupported, "frame version {}; this library reads version {}", header.version,
                 kVersion);
  }
  if (header.spec_bytes > bytes.size() - sizeof(header)) {
    return error(Code::kCorrupt, "frame of {} bytes is cut short: its header and spec take {}", bytes.size(),
                 sizeof(header) + header.spec_bytes);
  }
  const uint32_t crc = header_crc(header, bytes.subspan(sizeof(header), header.spec_bytes));
  if (crc != header.header_crc) {
    return error(Code::kCorrupt, "frame header is damaged: CRC32C {:08x}, not {:08x} as written", crc,
                 header.header_crc);
  }
  if (header.dtype >= kDTypeCount) {
    return error(Code::kCorrupt, "frame holds element type {}; there are {}", header.dtype, kDTypeCount);
  }
  return {};
}

Status check_block(const FrameHeader& header, const CodecSpec& spec, std::span<const uint8_t> block) {
  if (block.size() != header.block_bytes) {
    return error(Code::kCorrupt, "frame says its block has {} bytes, {} are there", header.block_bytes,
                 block.size());
  }
  const DType dtype = static_cast<DType>(header.dtype);
  if (is_auto(spec)) return error(Code::kCorrupt, "frame names no codec but \"{}\"", to_string(spec));
  if (spec.kind != CodecKind::kNone && !is_encodable(dtype)) {
    return error(Code::kCorrupt, "frame says that codec \"{}\" encoded {}, which it cannot", to_string(spec),
                 dtype_name(dtype));
  }
  // Sizes of more elements than these would overflow.
  const bool plausible = header.count / (uint64_t{1} << 48) == 0;
  if (!plausible || encoded_bytes(spec, dtype, header.count) != header.block_bytes) {
    return error(Code::kCorrupt,
                 "frame says that {} elements in codec \"{}\" took {} bytes, which they do not", header.count,
                 to_string(spec), header.block_bytes);
  }
  const uint32_t crc = crc32c(0, block.data(), block.size());
  if (crc == header.block_crc) return {};
  return error(Code::kCorrupt, "frame's block is damaged: CRC32C {:08x}, not {:08x} as written", crc,
               header.block_crc);
}

}  // namespace

std::vector<uint8_t> write_frame(const Frame& frame) {
  const std::string spec = to_string(frame.spec);
  const std::span<const uint8_t> spec_bytes(reinterpret_cast<const uint8_t*>(spec.data()), spec.size());
  CGX_CHECK(spec.size() <= UINT16_MAX);
  FrameHeader header = {kMagic,
                        kVersion,
                        static_cast<uint8_t>(frame.dtype),
                        static_cast<uint16_t>(spec.size()),
                        frame.count,
                        frame.block.size(),
                        crc32c(0, frame.block.data(), frame.block.size()),
                        0};
  header.header_crc = header_crc(header, spec_bytes);
  std::vector<uint8_t> out(sizeof(header) + spec.size() + frame.block.size());
  memcpy(out.data(), &header, sizeof(header));
  std::copy(spec_bytes.begin(), spec_bytes.end(), out.begin() + sizeof(header));
  std::copy(frame.block.begin(), frame.block.end(), out.begin() + sizeof(header) + spec.size());
  return out;
}

Result<Frame> read_frame(std::span<const uint8_t> bytes) {
  FrameHeader header;
  if (bytes.size() < sizeof(header)) {
    return error(Code::kCorrupt, "not a frame: {} bytes, its header alone takes {}", bytes.size(),
                 sizeof(header));
  }
  memcpy(&header, bytes.data(), sizeof(header));
  CGX_RETURN_IF_ERROR(check_header(header, bytes));
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + sizeof(header),
                              header.spec_bytes);
  auto spec = parse_spec(text);
  if (!spec.ok()) return error(Code::kCorrupt, "frame of an unknown codec: {}", spec.status().message());
  const auto block = bytes.subspan(sizeof(header) + header.spec_bytes);
  CGX_RETURN_IF_ERROR(check_block(header, *spec, block));
  return Frame{*spec, static_cast<DType>(header.dtype), header.count, block};
}

}  // namespace cgx
