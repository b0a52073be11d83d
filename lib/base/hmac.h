// HMAC-SHA256 of OpenSSL's libcrypto: what ranks that share a secret prove it with. We do not write
// cryptography ourselves.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string_view>

#include "base/status.h"

namespace cgx {

using Mac = std::array<uint8_t, 32>;

// Of the parts one after another. `label` says what is proven: a proof of one thing is none of another.
// kResource where libcrypto cannot.
Result<Mac> hmac_sha256(std::string_view secret, std::string_view label,
                        std::initializer_list<std::span<const uint8_t>> parts);

// Takes as long whether they differ early, late or not at all.
bool equal_macs(std::span<const uint8_t, 32> a, std::span<const uint8_t, 32> b);

template <typename T>
std::span<const uint8_t> bytes_of(const T& object) {
  return {reinterpret_cast<const uint8_t*>(&object), sizeof object};
}
inline std::span<const uint8_t> bytes_of(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

}  // namespace cgx
