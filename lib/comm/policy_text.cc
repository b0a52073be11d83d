// See policy_text.h. Numbers are written so that reading them gives the same bits.
#include "comm/policy_text.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>

#include "codec/candidates.h"
#include "plan/select.h"

namespace cgx {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kFormat = 2;
constexpr uint64_t kFirstSize = 4 << 10, kLastSize = 64 << 20;  // of the table for people

// Which older versions did not measure.
constexpr char kColdLinks[] = "cold_links", kOneShot[] = "one_shot", kShortByte[] = "short_ns_per_byte";
constexpr const char* kLater[] = {kColdLinks, kOneShot, kShortByte};

struct Field {
  const char* name;
  double Profile::*at;
};
constexpr Field kFields[] = {{"call_ns", &Profile::call},
                             {"latency_ns", &Profile::latency},
                             {"message_ns", &Profile::message},
                             {"pair_ns_per_byte", &Profile::pair_byte},
                             {"all_ns_per_byte", &Profile::all_byte},
                             {kShortByte, &Profile::short_byte},
                             {"cpu_ns_per_byte", &Profile::cpu_byte},
                             {"ranks_per_core", &Profile::crowding},
                             {"inside_latency_ns", &Profile::inside_latency},
                             {"inside_ns_per_byte", &Profile::inside_byte},
                             {"leader_ns_per_byte", &Profile::leader_byte},
                             {kColdLinks, &Profile::cold_links},
                             {kOneShot, &Profile::one_shot}};

struct CodecField {
  const char* name;
  Scale scale;
  double ElementCost::*at;
};
constexpr CodecField kCodecFields[] = {{"encode_small_ns", Scale::kSmall, &ElementCost::encode},
                                       {"decode_small_ns", Scale::kSmall, &ElementCost::decode},
                                       {"encode_hot_ns", Scale::kCached, &ElementCost::encode},
                                       {"decode_hot_ns", Scale::kCached, &ElementCost::decode},
                                       {"encode_cold_ns", Scale::kMemory, &ElementCost::encode},
                                       {"decode_cold_ns", Scale::kMemory, &ElementCost::decode}};
double& number_of(CodecCost& cost, const CodecField& field) {
  return cost.at[static_cast<size_t>(field.scale)].*field.at;
}

Json choices(const Profile& profile) {
  Json list = Json::array();
  const Result<CodecSpec> open = parse_spec("auto");
  CGX_CHECK(open.ok());
  for (uint64_t bytes = kFirstSize; bytes <= kLastSize; bytes *= 4) {
    for (const CodecSpec& spec : {CodecSpec(), *open}) {
      const Result<Layout> layout = Layout::uniform(DType::kF32, bytes / sizeof(float), spec, 0);
      CGX_CHECK(layout.ok());
      const Selection s = select({}, *layout, profile);
      list.push_back({{"bytes", bytes},
                      {"asked", to_string(spec)},
                      {"codec", to_string(s.layout.segments()[0].spec)},
                      {"algorithm", s.algorithm->name},
                      {"slice_bytes", s.slice_bytes},
                      {"predicted_us", std::round(s.seconds * 1e7) / 10}});
    }
  }
  return list;
}

Status invalid(const std::string& source, const std::string& what) {
  return error(Code::kInvalidArgument, "policy {}: {}; write it anew from cgx_comm_policy()", source, what);
}

// A time or a share: finite and not negative.
Status read_number(const Json& from, const char* name, const std::string& source, double* to) {
  if (!from.contains(name) || !from[name].is_number()) {
    return invalid(source, fmt::format("it has no number \"{}\"", name));
  }
  *to = from[name].get<double>();
  if (std::isfinite(*to) && *to >= 0) return Status();
  return invalid(source, fmt::format("{} is {}, which it cannot be", name, *to));
}

Result<CodecCost> read_codec(const Json& from, const std::string& source) {
  CodecCost cost;
  if (!from.is_object() || !from.contains("codec") || !from["codec"].is_string()) {
    return invalid(source, "an entry of \"codecs\" names no codec");
  }
  const Result<CodecSpec> spec = parse_spec(from["codec"].get<std::string>());
  if (!spec.ok()) return invalid(source, spec.status().message());
  cost.spec = *spec;
  const bool has_small =
      std::any_of(std::begin(kCodecFields), std::end(kCodecFields), [&](const auto& field) {
        return field.scale == Scale::kSmall && from.contains(field.name);
      });  // versions that did not measure it have none
  for (const CodecField& field : kCodecFields) {
    if (field.scale == Scale::kSmall && !has_small) continue;
    CGX_RETURN_IF_ERROR(read_number(from, field.name, source, &number_of(cost, field)));
  }
  if (!has_small) cost.at[static_cast<size_t>(Scale::kSmall)] = cost.at[static_cast<size_t>(Scale::kCached)];
  return cost;
}

}  // namespace

std::string to_json(const Policy& policy) {
  Json codecs = Json::array();
  for (CodecCost cost : policy.profile.codecs) {
    Json row = {{"codec", to_string(cost.spec)}};
    for (const CodecField& field : kCodecFields) row[field.name] = number_of(cost, field);
    codecs.push_back(row);
  }
  Json json = {{"cgx_policy", kFormat},
               {"ranks", policy.profile.size},
               {"hosts", policy.profile.hosts},
               {"ranks_on_largest_host", policy.profile.largest_host},
               {"transport", policy.transport}};
  for (const Field& field : kFields) json[field.name] = policy.profile.*field.at;
  json["codecs"] = codecs;
  json["choices"] = choices(policy.profile);
  return json.dump(1);
}

Result<Policy> parse_policy(const std::string& text, const std::string& source) {
  const Json json = Json::parse(text, nullptr, false);
  if (!json.is_object()) return invalid(source, "it is no JSON object");
  double format = 0;
  double ranks = 0, hosts = 0, largest = 0;
  CGX_RETURN_IF_ERROR(read_number(json, "cgx_policy", source, &format));
  if (format != kFormat) return invalid(source, fmt::format("its format is {}, not {}", format, kFormat));
  CGX_RETURN_IF_ERROR(read_number(json, "ranks", source, &ranks));
  CGX_RETURN_IF_ERROR(read_number(json, "hosts", source, &hosts));
  CGX_RETURN_IF_ERROR(read_number(json, "ranks_on_largest_host", source, &largest));
  const auto count = [](double number) { return number <= 1e6 ? static_cast<int>(number) : 0; };
  Policy policy;
  policy.profile.size = count(ranks);
  policy.profile.hosts = count(hosts);
  policy.profile.largest_host = count(largest);
  if (!json.contains("transport") || !json["transport"].is_string())
    return invalid(source, "it names no transport");
  policy.transport = json["transport"].get<std::string>();
  for (const Field& field : kFields) {
    const bool may_lack = std::find(std::begin(kLater), std::end(kLater), field.name) != std::end(kLater);
    if (may_lack && !json.contains(field.name)) continue;
    CGX_RETURN_IF_ERROR(read_number(json, field.name, source, &(policy.profile.*field.at)));
  }
  if (!json.contains("codecs") || !json["codecs"].is_array())
    return invalid(source, "it has no list \"codecs\"");
  for (const Json& row : json["codecs"]) {
    CGX_ASSIGN_OR_RETURN(const CodecCost cost, read_codec(row, source));
    policy.profile.codecs.push_back(cost);
  }
  // Without the figures of a candidate it would be guessed at, which nobody asked for.
  for (const Candidate& candidate : candidates()) {
    const auto& list = policy.profile.codecs;
    if (std::any_of(list.begin(), list.end(), [&](const CodecCost& c) { return c.spec == candidate.spec; }))
      continue;
    return invalid(source, fmt::format("\"codecs\" lacks {}", to_string(candidate.spec)));
  }
  return policy;
}

Result<Profile> read_policy(const std::string& text, const Place& place) {
  CGX_ASSIGN_OR_RETURN(const Policy policy, parse_policy(text, "given"));
  Profile here;
  here.size = place.size;
  set_hosts(place.hosts, &here);
  const Profile& there = policy.profile;
  if (there.size == here.size && there.hosts == here.hosts && there.largest_host == here.largest_host &&
      policy.transport == place.transport) {
    return there;
  }
  return error(Code::kInvalidArgument,
               "the policy given was measured by {} ranks on {} hosts (at most {} on one) over {}, but this "
               "communicator has {} ranks on {} hosts (at most {} on one) over {}",
               there.size, there.hosts, there.largest_host, policy.transport, here.size, here.hosts,
               here.largest_host, place.transport);
}

Result<std::string> load_policy(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  if (file) text << file.rdbuf();
  if (!file) {
    return error(
        Code::kInvalidArgument,
        "the policy file {} cannot be read: write into it what cgx_comm_policy() gives, or do without", path);
  }
  CGX_RETURN_IF_ERROR(parse_policy(text.str(), path).status());
  return text.str();
}

}  // namespace cgx
