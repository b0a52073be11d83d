// See hmac.h.
#include "base/hmac.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include <memory>

namespace cgx {
namespace {

struct Free {
  void operator()(EVP_MAC* mac) const { EVP_MAC_free(mac); }
  void operator()(EVP_MAC_CTX* context) const { EVP_MAC_CTX_free(context); }
};

}  // namespace

Result<Mac> hmac_sha256(std::string_view secret, std::string_view label,
                        std::initializer_list<std::span<const uint8_t>> parts) {
  const std::unique_ptr<EVP_MAC, Free> algorithm(EVP_MAC_fetch(nullptr, OSSL_MAC_NAME_HMAC, nullptr));
  const std::unique_ptr<EVP_MAC_CTX, Free> context(algorithm ? EVP_MAC_CTX_new(algorithm.get()) : nullptr);
  char digest[] = "SHA256";
  const OSSL_PARAM settings[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
                                 OSSL_PARAM_construct_end()};
  bool sound = context && EVP_MAC_init(context.get(), reinterpret_cast<const uint8_t*>(secret.data()),
                                       secret.size(), settings) == 1;
  // The label's length goes first, so that no label and what follows are another label.
  const auto label_bytes = static_cast<uint8_t>(label.size());
  sound = sound && EVP_MAC_update(context.get(), &label_bytes, 1) == 1;
  sound = sound && EVP_MAC_update(context.get(), bytes_of(label).data(), label.size()) == 1;
  for (const std::span<const uint8_t> part : parts) {
    const uint64_t bytes = part.size();
    sound = sound && EVP_MAC_update(context.get(), bytes_of(bytes).data(), sizeof bytes) == 1;
    sound = sound && EVP_MAC_update(context.get(), part.data(), part.size()) == 1;
  }
  Mac mac = {};
  size_t made = 0;
  sound = sound && EVP_MAC_final(context.get(), mac.data(), &made, mac.size()) == 1 && made == mac.size();
  if (!sound) return error(Code::kResource, "libcrypto cannot compute an HMAC-SHA256: memory exhausted?");
  return mac;
}

bool equal_macs(std::span<const uint8_t, 32> a, std::span<const uint8_t, 32> b) {
  return CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

}  // namespace cgx
