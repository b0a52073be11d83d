// cgx_write_golden DIRECTORY: writes the golden frames that are not there yet, and never over one. The
// CRC32C of what each decodes to goes into DIRECTORY/decoded.txt.
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "base/crc32c.h"
#include "codec/frame.h"
#include "golden_cases.h"

namespace cgx {
namespace {

bool write_case(const golden::Case& c, const std::filesystem::path& directory) {
  const std::filesystem::path path = directory / golden::file_name(c);
  if (std::filesystem::exists(path)) return true;
  const auto spec = parse_spec(c.spec);
  if (!spec.ok()) return std::fprintf(stderr, "%s\n", spec.status().message().c_str()), false;
  const std::vector<uint8_t> x = golden::input(c);
  std::vector<uint8_t> block(encoded_bytes(*spec, c.dtype, c.count));
  std::vector<float> y(c.count);
  Status status = encode(*spec, c.dtype, x.data(), c.count, golden::context(), {}, block.data());
  if (status.ok()) status = decode(*spec, c.dtype, block.data(), c.count, Into::kAssign, y.data());
  if (!status.ok()) return std::fprintf(stderr, "%s: %s\n", c.spec, status.message().c_str()), false;

  const std::vector<uint8_t> frame = write_frame({*spec, c.dtype, c.count, block});
  std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(frame.data()), std::ssize(frame));
  const auto* decoded = reinterpret_cast<const uint8_t*>(y.data());
  std::ofstream(directory / "decoded.txt", std::ios::app)
      << fmt::format("{} {:08x}\n", golden::file_name(c), crc32c(0, decoded, 4 * c.count));
  std::printf("wrote %s (%zu bytes)\n", path.c_str(), frame.size());
  return true;
}

}  // namespace
}  // namespace cgx

int main(int argc, char** argv) {
  if (argc != 2) return std::fprintf(stderr, "usage: cgx_write_golden DIRECTORY\n"), 2;
  bool ok = true;
  for (const auto& c : cgx::golden::cases()) ok = cgx::write_case(c, argv[1]) && ok;
  return ok ? 0 : 1;
}
