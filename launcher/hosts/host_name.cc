#include "launcher/hosts/host_name.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "launcher/hosts/host.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

constexpr size_t kNameBytesMax = 255;  // a domain name's
constexpr size_t kDigitsMax = 9;       // of a number in a range

absl::Status Wrong(const std::string& what) { return absl::InvalidArgumentError(what); }

bool IsNameLetter(char c) { return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '-' || c == '.'; }

absl::Status CheckName(absl::string_view name) {
  if (name.empty()) return Wrong("the host has no name");
  if (name.size() > kNameBytesMax) return Wrong(absl::StrCat("a host's name has at most ", kNameBytesMax, " letters"));
  if (name[0] == '-' || name[0] == '.') return Wrong("a host's name begins with a letter or a digit");
  for (const char c : name) {
    if (IsNameLetter(c)) continue;
    const bool printable = absl::ascii_isprint(static_cast<unsigned char>(c));
    return Wrong(absl::StrCat(
        "a host's name holds letters, digits, '-', '.' and '_', and no ",
        printable ? absl::StrCat("'", std::string(1, c), "'") : absl::StrFormat("byte 0x%02x", static_cast<unsigned char>(c))));
  }
  return absl::OkStatus();
}

absl::Status CheckUser(absl::string_view user) {
  if (user.empty() || user.size() > kNameBytesMax || user[0] == '-') return Wrong("before the '@' stands a user's name");
  for (const char c : user) {
    if (!IsNameLetter(c) && c != '+' && c != '$') {
      return Wrong("a user's name holds letters, digits, '-', '.', '_', '+' and '$'");
    }
  }
  return absl::OkStatus();
}

// Hexadecimal groups and a zone ("fe80::1%eth0"); whether there is such an address is for whoever connects.
bool LooksLikeIpv6(absl::string_view text) {
  const absl::string_view address = text.substr(0, text.find('%'));
  if (text.size() > kNameBytesMax) return false;
  if (!absl::StrContains(address, "::") && std::count(address.begin(), address.end(), ':') != 7) return false;
  for (const char c : address) {
    if (!absl::ascii_isxdigit(static_cast<unsigned char>(c)) && c != ':' && c != '.') return false;
  }
  if (address.size() == text.size()) return true;
  const absl::string_view zone = text.substr(address.size() + 1);
  return !zone.empty() && std::all_of(zone.begin(), zone.end(), IsNameLetter);
}

bool IsNumber(absl::string_view text) {
  return !text.empty() && text.size() <= kDigitsMax &&
         std::all_of(text.begin(), text.end(), [](char c) { return absl::ascii_isdigit(static_cast<unsigned char>(c)); });
}

// "1,3,05-07" -> 1 3 05 06 07.
absl::Status ExpandRange(absl::string_view range, std::vector<std::string>* numbers) {
  for (const absl::string_view part : absl::StrSplit(range, ',')) {
    const std::pair<absl::string_view, absl::string_view> ends = absl::StrSplit(part, absl::MaxSplits('-', 1));
    const bool single = !absl::StrContains(part, '-');
    const absl::string_view last_text = single ? ends.first : ends.second;
    if (!IsNumber(ends.first) || !IsNumber(last_text)) {
      return Wrong(absl::StrCat("in [", range, "] the part \"", part, "\" is no number and no range; write node[1,3,05-07]"));
    }
    int64_t first = 0, last = 0;
    if (!absl::SimpleAtoi(ends.first, &first) || !absl::SimpleAtoi(last_text, &last)) return Wrong("the range has no numbers");
    if (first > last) return Wrong(absl::StrCat("the range ", part, " runs backwards; write ", last_text, "-", ends.first));
    if (static_cast<uint64_t>(last - first) >= kHostsMax - std::min(numbers->size(), kHostsMax)) {
      return Wrong(absl::StrCat("[", range, "] names more than ", kHostsMax, " hosts; a job has at most that many"));
    }
    for (int64_t number = first; number <= last; ++number) {
      numbers->push_back(absl::StrFormat("%0*d", static_cast<int>(ends.first.size()), number));
    }
  }
  return absl::OkStatus();
}

// "rack[1-2]-node[1-2]" -> rack1-node1 rack1-node2 rack2-node1 rack2-node2.
absl::Status ExpandName(absl::string_view pattern, std::vector<std::string>* names) {
  *names = {""};
  while (!pattern.empty()) {
    const size_t open = pattern.find('[');
    const absl::string_view plain = pattern.substr(0, open);
    if (absl::StrContains(plain, ']')) return Wrong("there is a ']' without its '['");
    for (std::string& name : *names) absl::StrAppend(&name, plain);
    if (open == absl::string_view::npos) return absl::OkStatus();
    const size_t close = pattern.find(']', open);
    if (close == absl::string_view::npos) return Wrong("there is a '[' without its ']'");
    std::vector<std::string> numbers;
    MUSTER_RETURN_IF_ERROR(ExpandRange(pattern.substr(open + 1, close - open - 1), &numbers));
    if (numbers.size() * names->size() > kHostsMax || names->front().size() > kNameBytesMax) {
      return Wrong(absl::StrCat("its ranges name more than ", kHostsMax, " hosts; a job has at most that many"));
    }
    std::vector<std::string> longer;
    for (const std::string& name : *names) {
      for (const std::string& number : numbers) longer.push_back(name + number);
    }
    *names = std::move(longer);
    pattern.remove_prefix(close + 1);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<HostWord> ParseHostWord(absl::string_view word) {
  HostWord parsed;
  if (const size_t at = word.find('@'); at != absl::string_view::npos) {
    MUSTER_RETURN_IF_ERROR(CheckUser(word.substr(0, at)));
    parsed.user = std::string(word.substr(0, at));
    word.remove_prefix(at + 1);
  }
  if (LooksLikeIpv6(word)) {
    parsed.names = {std::string(word)};
    return parsed;
  }
  size_t colon = word.rfind(':');
  const size_t close = word.rfind(']');
  if (colon != absl::string_view::npos && close != absl::string_view::npos && colon < close) colon = absl::string_view::npos;
  absl::string_view name = word.substr(0, colon);
  if (colon != absl::string_view::npos) {
    parsed.has_suffix = true;
    parsed.suffix = std::string(word.substr(colon + 1));
  }
  if (!name.empty() && name.front() == '[' && name.back() == ']' && absl::StrContains(name, ':')) {
    name = name.substr(1, name.size() - 2);
    if (!LooksLikeIpv6(name)) return Wrong(absl::StrCat("\"", name, "\" is no IPv6 address"));
    parsed.names = {std::string(name)};
    return parsed;
  }
  if (std::count(name.begin(), name.end(), ':') > 0) {
    return Wrong("it has several ':'; an IPv6 address with slots is written [::1]:2");
  }
  MUSTER_RETURN_IF_ERROR(ExpandName(name, &parsed.names));
  for (const std::string& one : parsed.names) MUSTER_RETURN_IF_ERROR(CheckName(one));
  if (parsed.names.empty()) return Wrong("the host has no name");
  return parsed;
}

absl::StatusOr<int64_t> ParseSlots(absl::string_view text) {
  if (text == "auto" || text == "*") return 0;
  int64_t slots = 0;
  if (!IsNumber(text) || !absl::SimpleAtoi(text, &slots) || slots < 1 || slots > kHostSlotsMax) {
    return Wrong(absl::StrCat("\"", text, "\" is no number of slots; write a whole number from 1 to ", kHostSlotsMax,
                              ", or auto for as many as the host has cores"));
  }
  return slots;
}

std::string Shown(absl::string_view word) {
  constexpr size_t kShownMax = 80;
  return absl::StrCat(absl::Utf8SafeCHexEscape(word.substr(0, kShownMax)), word.size() > kShownMax ? "..." : "");
}

bool IsThisMachine(absl::string_view name, absl::string_view own_name) {
  const std::string lower = absl::AsciiStrToLower(name), own = absl::AsciiStrToLower(own_name);
  if (lower == "localhost" || lower == "localhost.localdomain" || lower == "localhost4" || lower == "localhost6") return true;
  if (lower == "127.0.0.1" || lower == "::1" || lower == "0:0:0:0:0:0:0:1") return true;
  if (own.empty()) return false;
  // "node-a" is node-a.cluster.example, whichever of the two the machine calls itself.
  return lower == own || absl::StartsWith(own, lower + ".") ||
         (absl::StartsWith(lower, own + ".") && !absl::StrContains(own, '.'));
}

}  // namespace muster
