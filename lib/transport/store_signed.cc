// The store in which values are signed: under each key lie a mark, the HMAC-SHA256 of key and value, and the
// value. Whoever can write to the store below but does not know the secret can keep ranks from meeting, and
// cannot make them believe anything.
#include <cstring>
#include <utility>

#include "base/hmac.h"
#include "transport/store.h"

namespace cgx {
namespace {

constexpr std::string_view kLabel = "cgx store value";

class SignedStore final : public Store {
 public:
  SignedStore(Store* store, std::string secret) : store_(store), secret_(std::move(secret)) {}

  Status set(const std::string& key, const std::string& value) override {
    CGX_ASSIGN_OR_RETURN(const Mac mac, mac_of(key, value));
    std::string stored(kSignedMark);
    stored.append(reinterpret_cast<const char*>(mac.data()), mac.size());
    return store_->set(key, stored + value);
  }
  Result<std::string> get(const std::string& key, int64_t timeout_ms) override {
    return verified(key, store_->get(key, timeout_ms));
  }
  Result<std::string> try_get(const std::string& key) override { return verified(key, store_->try_get(key)); }
  std::string last_refusal() const override { return store_->last_refusal(); }

 private:
  Result<Mac> mac_of(std::string_view key, std::string_view value) const {
    return hmac_sha256(secret_, kLabel, {bytes_of(key), bytes_of(value)});
  }

  Result<std::string> verified(const std::string& key, Result<std::string> stored) const {
    if (!stored.ok()) return stored;
    Mac theirs = {};
    if (!is_signed_value(*stored)) {
      return error(Code::kMismatch,
                   "\"{}\" in the store is not signed: who set it has no secret, and this rank has one. "
                   "CGX_SECRET (or `secret`) must be the same on all ranks",
                   key);
    }
    static_assert(sizeof(Mac) == 32);
    std::memcpy(theirs.data(), stored->data() + kSignedMark.size(), theirs.size());
    std::string value = stored->substr(kSignedMark.size() + theirs.size());
    CGX_ASSIGN_OR_RETURN(const Mac mac, mac_of(key, value));
    if (equal_macs(mac, theirs)) return value;
    return error(
        Code::kMismatch,
        "\"{}\" in the store is signed with another secret, or was changed: CGX_SECRET (or `secret`) must "
        "be the same on all ranks",
        key);
  }

  Store* store_;
  const std::string secret_;
};

}  // namespace

std::unique_ptr<Store> make_signed_store(Store* store, std::string secret) {
  return std::make_unique<SignedStore>(store, std::move(secret));
}

}  // namespace cgx
