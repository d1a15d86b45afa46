#include "launcher/identity/token.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

using Json = nlohmann::json;

constexpr double kSecondsMax = 253402300799;  // the end of the year 9999

absl::Status Malformed() {
  return absl::InvalidArgumentError("that is none: three parts in base64url, with dots between them");
}
absl::Status Denied(absl::string_view what) { return absl::PermissionDeniedError(what); }

// Of what a stranger claims, as far as it may stand in a log.
std::string Shown(absl::string_view text) { return absl::StrCat("\"", absl::CHexEscape(text.substr(0, 120)), "\""); }

// Base64url without padding (RFC 7515, section 2), and nothing but that: what is read leniently could be written in several ways.
std::optional<std::string> Unescaped(absl::string_view part) {
  std::string bytes;
  if (part.empty() || absl::StrContains(part, '=') || !absl::WebSafeBase64Unescape(part, &bytes)) return std::nullopt;
  std::string again;
  absl::WebSafeBase64Escape(bytes, &again);
  while (absl::EndsWith(again, "=")) again.pop_back();
  return again == part ? std::optional<std::string>(std::move(bytes)) : std::nullopt;
}

// Members that stand twice are read in two ways by two readers (RFC 8725, section 2.4, is about such).
std::optional<Json> ObjectOf(const std::string& text) {
  std::vector<std::vector<std::string>> names;
  bool twice = false;
  const Json::parser_callback_t see = [&](int, Json::parse_event_t event, Json& value) {
    if (event == Json::parse_event_t::object_start) names.emplace_back();
    if (event == Json::parse_event_t::object_end && !names.empty()) names.pop_back();
    if (event == Json::parse_event_t::key && !names.empty()) {
      std::string name = value.get<std::string>();
      twice = twice || std::find(names.back().begin(), names.back().end(), name) != names.back().end();
      names.back().push_back(std::move(name));
    }
    return true;
  };
  Json value = Json::parse(text, see, /*allow_exceptions=*/false);
  if (!value.is_object() || twice) return std::nullopt;
  return value;
}

std::string TextOf(const Json& object, const char* member) {
  const auto found = object.is_object() ? object.find(member) : object.end();
  return found != object.end() && found->is_string() ? found->get<std::string>() : "";
}

const Json* MemberOf(const Json& object, const char* member) {
  const auto found = object.is_object() ? object.find(member) : object.end();
  return object.is_object() && found != object.end() ? &*found : nullptr;
}

// RFC 7519, section 2, NumericDate. nullopt: it is not there, or no such.
std::optional<absl::Time> TimeOf(const Json& claims, const char* name) {
  const Json* const value = MemberOf(claims, name);
  if (value == nullptr || !value->is_number()) return std::nullopt;
  const double seconds = value->get<double>();
  if (!std::isfinite(seconds) || seconds < 0 || seconds > kSecondsMax) return std::nullopt;
  return absl::UnixEpoch() + absl::Seconds(seconds);
}

bool IsFor(const Json& claims, const std::string& audience) {
  const Json* const said = MemberOf(claims, "aud");
  if (said == nullptr) return false;
  if (said->is_string()) return said->get<std::string>() == audience;
  return said->is_array() && std::any_of(said->begin(), said->end(), [&](const Json& one) {
           return one.is_string() && one.get<std::string>() == audience;
         });
}

// How it was signed, before anything that it says is believed.
absl::Status CheckSignature(const KeySet& keys, absl::string_view token, const std::vector<absl::string_view>& parts) {
  const auto header = Unescaped(parts[0]), signature = Unescaped(parts[2]);
  const auto fields = header ? ObjectOf(*header) : std::nullopt;
  if (!fields || !signature) return Malformed();
  if (fields->contains("crit")) return absl::UnimplementedError("that wants extensions which are not known here (crit)");
  MUSTER_ASSIGN_OR_RETURN(const SignatureAlgorithm algorithm, SignatureAlgorithmFromText(TextOf(*fields, "alg")));
  return keys.Check(algorithm, TextOf(*fields, "kid"), token.substr(0, parts[0].size() + 1 + parts[1].size()), *signature);
}

absl::StatusOr<PodIdentity> CheckClaims(const TokenRules& rules, const Json& claims, absl::Time now) {
  if (const std::string issuer = TextOf(claims, "iss"); issuer != rules.issuer) {
    return Denied(absl::StrCat("of the issuer ", Shown(issuer), ", not ", rules.issuer));
  }
  if (!IsFor(claims, rules.audience)) return Denied(absl::StrCat("that was made for another audience than ", rules.audience));
  if (const std::string subject = TextOf(claims, "sub"); subject != rules.subject) {
    return Denied(absl::StrCat("of ", Shown(subject), ", not of ", rules.subject));
  }
  PodIdentity identity;
  const auto expires = TimeOf(claims, "exp");
  if (!expires) return Denied("that never expires");
  identity.expires = *expires;
  if (*expires + rules.leeway <= now)
    return Denied(absl::StrCat("that expired ", absl::FormatDuration(absl::Trunc(now - *expires, absl::Seconds(1))), " ago"));
  for (const char* name : {"nbf", "iat"}) {
    if (MemberOf(claims, name) == nullptr) continue;
    const auto begins = TimeOf(claims, name);
    if (!begins || *begins > now + rules.leeway)
      return Denied(absl::StrCat("that is not valid yet (", name, "): do the clocks differ?"));
  }
  const Json* const cluster = MemberOf(claims, "kubernetes.io");
  const Json* const pod = cluster != nullptr ? MemberOf(*cluster, "pod") : nullptr;
  if (pod != nullptr) {
    identity.pod = TextOf(*pod, "name");
    identity.pod_uid = TextOf(*pod, "uid");
  }
  if (identity.pod.empty() || identity.pod_uid.empty()) return Denied("that is bound to no pod");
  if (const Json* const node = MemberOf(*cluster, "node"); node != nullptr) identity.node = TextOf(*node, "name");
  return identity;
}

}  // namespace

absl::StatusOr<PodIdentity> CheckToken(const KeySet& keys, const TokenRules& rules, absl::string_view token, absl::Time now) {
  if (token.size() > kTokenBytesMax) return absl::InvalidArgumentError(absl::StrCat("of more than ", kTokenBytesMax, " bytes"));
  const std::vector<absl::string_view> parts = absl::StrSplit(token, '.');
  if (parts.size() != 3) return Malformed();
  MUSTER_RETURN_IF_ERROR(CheckSignature(keys, token, parts));
  const auto payload = Unescaped(parts[1]);
  const auto claims = payload ? ObjectOf(*payload) : std::nullopt;
  if (!claims) return Malformed();
  return CheckClaims(rules, *claims, now);
}

}  // namespace muster
