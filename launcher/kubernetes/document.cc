#include "launcher/kubernetes/document.h"

#include <algorithm>
#include <array>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace muster::kubernetes {
namespace {

bool IsComment(const std::string& name) { return absl::StartsWith(name, "#"); }

// Letters first, and nothing that could be a number, a date, a boolean, a null, an indicator or a comment.
// Source: YAML 1.2.2, sections 7.3.3 and 10.3; YAML 1.1's booleans (yaml.org/type/bool.html), which many readers still know.
bool IsPlain(const std::string& text) {
  static constexpr std::array<absl::string_view, 10> kWords = {"y",   "n",    "yes",   "no",   "on",
                                                               "off", "true", "false", "null", "~"};
  if (text.empty() || !absl::ascii_isalpha(static_cast<unsigned char>(text[0]))) return false;
  if (std::find(kWords.begin(), kWords.end(), absl::AsciiStrToLower(text)) != kWords.end()) return false;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    const bool colon = c == ':' && i + 1 < text.size() && text[i + 1] != ' ';
    if (!absl::ascii_isalnum(c) && !absl::StrContains("-_./@", text[i]) && !colon) return false;
  }
  return true;
}

std::string Scalar(const Json& value) {
  if (value.is_string()) {
    const std::string text = value.get<std::string>();
    return IsPlain(text) ? text : value.dump(-1, ' ', false, Json::error_handler_t::replace);  // JSON's strings are YAML's
  }
  return value.dump();
}

// On the line of its key or dash: scalars, and what is empty.
bool FitsLine(const Json& value) { return !value.is_structured() || value.empty(); }

void WriteComment(const std::string& comment, const std::string& indent, std::string* text) {
  for (const absl::string_view line : absl::StrSplit(comment, '\n')) absl::StrAppend(text, indent, "# ", line, "\n");
}

// `first`: what stands before the first line instead of `indent`, such as a dash.
void Write(const Json& value, const std::string& indent, std::string first, std::string* text) {
  if (FitsLine(value)) {
    absl::StrAppend(text, first, Scalar(value), "\n");
    return;
  }
  if (value.is_array()) {
    for (const Json& item : value) Write(item, indent + "  ", std::exchange(first, indent) + "- ", text);
    return;
  }
  for (const auto& [name, member] : value.items()) {
    if (IsComment(name)) {
      // A comment cannot follow a dash, so it goes above it.
      const size_t dash = first.find_last_not_of(' ');
      WriteComment(member.get<std::string>(), dash == std::string::npos ? indent : first.substr(0, dash), text);
      continue;
    }
    const std::string key = Scalar(Json(name));
    if (FitsLine(member)) {
      absl::StrAppend(text, first, key, ": ", Scalar(member), "\n");
    } else {
      absl::StrAppend(text, first, key, ":\n");
      // Items stand at the level of their key, as kubectl writes them.
      const std::string below = member.is_array() ? indent : indent + "  ";
      Write(member, below, below, text);
    }
    first = indent;
  }
}

}  // namespace

Json WithoutComments(const Json& value) {
  if (value.is_array()) {
    Json plain = Json::array();
    for (const Json& item : value) plain.push_back(WithoutComments(item));
    return plain;
  }
  if (!value.is_object()) return value;
  Json plain = Json::object();
  for (const auto& [name, member] : value.items()) {
    if (!IsComment(name)) plain[name] = WithoutComments(member);
  }
  return plain;
}

std::string ToYaml(const Json& value) {
  std::string text;
  Write(value, "", "", &text);
  return text;
}

std::string ToYamlStream(const std::vector<Json>& documents, absl::string_view header) {
  std::string text;
  if (!header.empty()) WriteComment(std::string(header), "", &text);
  for (const Json& document : documents) absl::StrAppend(&text, "---\n", ToYaml(document));
  return text;
}

}  // namespace muster::kubernetes
