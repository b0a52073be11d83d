// See agreement.h. A card is a JSON object, so that another version can at least say which one it is.
#include "comm/agreement.h"

#include <nlohmann/json.hpp>
#include <vector>

#include "base/deadline.h"
#include "transport/rendezvous.h"

namespace cgx {
namespace {

std::string card_key(const std::string& job, int rank) { return fmt::format("{}/card/{}", job, rank); }

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

}  // namespace

std::string to_text(const Card& card) {
  return nlohmann::json{{"cgx", card.version},
                        {"size", card.size},
                        {"transport", card.transport},
                        {"algorithm", card.algorithm},
                        {"seed", card.seed},
                        {"slice_bytes", card.slice_bytes},
                        {"tune", card.tune ? 1 : 0},
                        {"policy", card.policy},
                        {"members", card.members},
                        {"heir", card.heir},
                        {"inner_codec", card.inner_codec}}
      .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

Result<Card> parse_card(const std::string& text, int rank) {
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, false);
  Card card;
  const auto number = [&json](const char* field, auto& value) {
    const bool there = json.is_object() && json.contains(field) && json[field].is_number_integer();
    if (there) value = json[field].get<std::decay_t<decltype(value)>>();
    return there;
  };
  const auto string = [&json](const char* field, std::string& value) {
    const bool there = json.is_object() && json.contains(field) && json[field].is_string();
    if (there) value = json[field].get<std::string>();
    return there;
  };
  int tune = 0;
  if (number("cgx", card.version) && number("size", card.size) && string("transport", card.transport) &&
      string("algorithm", card.algorithm) && number("seed", card.seed) &&
      number("slice_bytes", card.slice_bytes) && number("tune", tune) && number("policy", card.policy) &&
      string("members", card.members) && string("heir", card.heir) &&
      string("inner_codec", card.inner_codec)) {
    card.tune = tune != 0;
    return card;
  }
  return error(Code::kMismatch, "rank {} left a card that this version of cgx cannot read: \"{:.80}\"", rank,
               text);
}

Result<std::vector<std::string>> agree(Store* store, const Agreement& agreement, const Card& own) {
  const Deadline deadline(agreement.timeout_ms);
  CGX_RETURN_IF_ERROR(store->set(card_key(agreement.job, agreement.rank), to_text(own)));
  std::vector<std::string> heirs(static_cast<size_t>(own.size), own.heir);
  for (int r = 0; r < own.size; ++r) {
    if (r == agreement.rank) continue;
    Result<std::string> text = read_card(store, card_key(agreement.job, r), r, deadline.left_ms());
    if (!text.ok())
      return text.status().code() == Code::kTimeout ? missing(store, agreement, own.size) : text.status();
    CGX_ASSIGN_OR_RETURN(const Card card, parse_card(*text, r));
    CGX_RETURN_IF_ERROR(compare_cards(card, r, own, agreement.rank));
    heirs[static_cast<size_t>(r)] = card.heir;
  }
  return heirs;
}

}  // namespace cgx
