// See agreement.h. A card is a JSON object, so that another version can at least say which one it is.
#include "comm/agreement.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/deadline.h"
#include "transport/rendezvous.h"

namespace cgx {
namespace {

std::string card_key(const std::string& job, int rank) { return fmt::format("{}/card/{}", job, rank); }

// The fields of one flat object. Not a tree of JSON values: those allocate in their destructors, which ends
// the process where memory is short.
class CardReader final : public nlohmann::json_sax<nlohmann::json> {
 public:
  bool take(const char* field, uint64_t* value) {
    const auto found = numbers_.find(field);
    if (found != numbers_.end()) *value = found->second;
    return found != numbers_.end();
  }
  bool take(const char* field, std::string* value) {
    const auto found = texts_.find(field);
    if (found != texts_.end()) *value = found->second;
    return found != texts_.end();
  }

  bool key(string_t& name) override {
    key_ = name;
    return true;
  }
  bool number_unsigned(number_unsigned_t value) override {
    numbers_[key_] = value;
    return true;
  }
  bool string(string_t& value) override {
    texts_[key_] = value;
    return true;
  }
  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(std::size_t) override { return depth_++ == 0; }  // deeper is no card
  bool end_object() override { return true; }
  bool start_array(std::size_t) override { return false; }
  bool end_array() override { return false; }
  bool parse_error(std::size_t, const std::string&, const nlohmann::json::exception&) override {
    return false;
  }

 private:
  int depth_ = 0;
  std::string key_;
  std::map<std::string, uint64_t> numbers_;
  std::map<std::string, std::string> texts_;
};

template <typename T>
Status compare_field(const char* field, const T& theirs, const T& own, int their_rank, int own_rank) {
  if (theirs == own) return Status();
  return error(Code::kMismatch,
               "rank {} created the communicator with {}={}, but rank {} (this one) with {}={}", their_rank,
               field, theirs, own_rank, field, own);
}

Status compare_cards(const Card& theirs, int their_rank, const Card& own, int own_rank) {
  CGX_RETURN_IF_ERROR(compare_field("library version", theirs.version, own.version, their_rank, own_rank));
  CGX_RETURN_IF_ERROR(compare_field("size", theirs.size, own.size, their_rank, own_rank));
  CGX_RETURN_IF_ERROR(compare_field("members", theirs.members, own.members, their_rank, own_rank));
  CGX_RETURN_IF_ERROR(compare_field("transport", theirs.transport, own.transport, their_rank, own_rank));
  CGX_RETURN_IF_ERROR(compare_field("algorithm", theirs.algorithm, own.algorithm, their_rank, own_rank));
  CGX_RETURN_IF_ERROR(compare_field("seed", theirs.seed, own.seed, their_rank, own_rank));
  CGX_RETURN_IF_ERROR(
      compare_field("slice_bytes", theirs.slice_bytes, own.slice_bytes, their_rank, own_rank));
  CGX_RETURN_IF_ERROR(compare_field("tune", theirs.tune ? 1 : 0, own.tune ? 1 : 0, their_rank, own_rank));
  CGX_RETURN_IF_ERROR(
      compare_field("policy (hash of the file's text)", theirs.policy, own.policy, their_rank, own_rank));
  return compare_field("inner_codec", theirs.inner_codec, own.inner_codec, their_rank, own_rank);
}

// Without what would need escapes: no spec of a codec has such.
std::string in_json(std::string text) {
  std::erase_if(text, [](char c) { return c == '"' || c == '\\' || static_cast<unsigned char>(c) < 0x20; });
  return text;
}

Status missing(Store* store, const Agreement& agreement, int size) {
  std::vector<int> ranks;
  for (int r = 0; r < size; ++r) {
    if (r != agreement.rank && !store->try_get(card_key(agreement.job, r)).ok()) ranks.push_back(r);
  }
  if (ranks.empty()) {
    return error(Code::kTimeout, "all {} ranks of job \"{}\" came, but the last of them only after {} ms",
                 size, agreement.job, agreement.timeout_ms);
  }
  return error(
      Code::kTimeout,
      "{} of {} did not come within {} ms: are all ranks running, with the job name \"{}\" and this store?{}",
      name_ranks(ranks), size, agreement.timeout_ms, agreement.job, refusal_of(*store));
}

// Looks now and then whether a rank has left word that it gave up.
Result<std::string> await_card(Store* store, const Agreement& agreement, int size, int peer,
                               const Deadline& deadline) {
  constexpr int64_t kLookMs = 200;
  for (;;) {
    const int64_t left_ms = deadline.left_ms();
    Result<std::string> text =
        read_card(store, card_key(agreement.job, peer), peer, std::min(left_ms, kLookMs));
    if (text.ok() || text.status().code() != Code::kTimeout) return text;
    const std::string failure = find_failure(store, agreement.job, agreement.rank, size);
    if (!failure.empty()) return error(Code::kPeerFailed, "while all ranks meet: {}", failure);
    if (left_ms == 0) return missing(store, agreement, size);
  }
}

}  // namespace

// What is put in are names that were checked, addresses and numbers, which JSON does not escape, and one
// text.
std::string to_text(const Card& c) {
  return fmt::format(
      R"({{"cgx":{},"size":{},"transport":"{}","algorithm":"{}","seed":{},"slice_bytes":{},"tune":{},"policy":{},)"
      R"("members":"{}","heir":"{}","inner_codec":"{}","host":{},"cores":{}}})",
      c.version, c.size, c.transport, c.algorithm, c.seed, c.slice_bytes, c.tune ? 1 : 0, c.policy, c.members,
      c.heir, in_json(c.inner_codec), c.processors.host, c.processors.cores);
}

Result<Card> parse_card(const std::string& text, int rank) {
  CardReader reader;
  const bool is_json = nlohmann::json::sax_parse(text, &reader);
  Card card;
  uint64_t version = 0, size = 0, tune = 0;
  const bool whole = is_json && reader.take("cgx", &version) && reader.take("size", &size) &&
                     reader.take("transport", &card.transport) && reader.take("algorithm", &card.algorithm) &&
                     reader.take("seed", &card.seed) && reader.take("slice_bytes", &card.slice_bytes) &&
                     reader.take("tune", &tune) && reader.take("policy", &card.policy) &&
                     reader.take("members", &card.members) && reader.take("heir", &card.heir) &&
                     reader.take("inner_codec", &card.inner_codec) &&
                     reader.take("host", &card.processors.host) &&
                     reader.take("cores", &card.processors.cores);
  if (!whole) {
    return error(Code::kMismatch, "rank {} left a card that this version of cgx cannot read: \"{:.80}\"",
                 rank, text);
  }
  card.version = static_cast<int>(version);
  card.size = static_cast<int>(size);
  card.tune = tune != 0;
  return card;
}

Result<std::vector<Card>> agree(Store* store, const Agreement& agreement, const Card& own) {
  const Deadline deadline(agreement.timeout_ms);
  CGX_RETURN_IF_ERROR(store->set(card_key(agreement.job, agreement.rank), to_text(own)));
  std::vector<Card> cards(static_cast<size_t>(own.size), own);
  for (int r = 0; r < own.size; ++r) {
    if (r == agreement.rank) continue;
    CGX_ASSIGN_OR_RETURN(const std::string text, await_card(store, agreement, own.size, r, deadline));
    CGX_ASSIGN_OR_RETURN(Card card, parse_card(text, r));
    CGX_RETURN_IF_ERROR(compare_cards(card, r, own, agreement.rank));
    cards[static_cast<size_t>(r)] = std::move(card);
  }
  return cards;
}

}  // namespace cgx
