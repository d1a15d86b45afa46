#include "launcher/hosts/host_file.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "launcher/hosts/host_name.h"
#include "runtime/base/nearest_name.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

// What a line says of its hosts.
struct Line {
  HostWord word;
  int64_t slots = 0;  // 0: as many as there are cores
  bool counted = false;
  int64_t slots_max = 0;
};

struct Token {
  absl::string_view text;
  size_t column = 0;  // from 1
};

struct Seen {
  size_t place = 0;
  bool bare = false;  // only lines without slots so far
};

class Reader {
 public:
  explicit Reader(const std::string& file) : file_(file) {}

  absl::Status Take(absl::string_view line) {
    ++number_;
    std::vector<Token> tokens = Tokens(line);
    if (tokens.empty()) return absl::OkStatus();
    Line parsed;
    MUSTER_RETURN_IF_ERROR(ParseName(tokens[0], &parsed));
    for (size_t i = 1; i < tokens.size(); ++i) MUSTER_RETURN_IF_ERROR(ParseSetting(tokens, &i, &parsed));
    if (parsed.slots_max > 0 && parsed.slots > parsed.slots_max) {
      return At(tokens[0],
                absl::StrCat("slots=", parsed.slots, " is more than max_slots=", parsed.slots_max, "; raise max_slots"));
    }
    for (const std::string& name : parsed.word.names) MUSTER_RETURN_IF_ERROR(Add(tokens[0], name, parsed));
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<Host>> Hosts() && {
    if (hosts_.empty()) {
      return absl::InvalidArgumentError(absl::StrCat(file_, ": names no host; write one a line, such as: node-a slots=4"));
    }
    return std::move(hosts_);
  }

 private:
  absl::Status At(const Token& token, const std::string& what) const {
    return absl::InvalidArgumentError(absl::StrCat(file_, ":", number_, ":", token.column, ": ", what));
  }

  // Words and '=' signs; a comment ends the line.
  static std::vector<Token> Tokens(absl::string_view line) {
    std::vector<Token> tokens;
    for (size_t i = 0; i < line.size();) {
      if (absl::ascii_isspace(static_cast<unsigned char>(line[i]))) {
        ++i;
        continue;
      }
      if (line[i] == '#' || absl::StartsWith(line.substr(i), "//")) break;
      size_t end = i + 1;
      if (line[i] != '=') {
        while (end < line.size() && !absl::ascii_isspace(static_cast<unsigned char>(line[end])) && line[end] != '=' &&
               line[end] != '#') {
          ++end;
        }
      }
      tokens.push_back({line.substr(i, end - i), i + 1});
      i = end;
    }
    return tokens;
  }

  absl::Status ParseName(const Token& token, Line* line) const {
    if (token.text[0] == '+') {
      return At(token, absl::StrCat("relative hosts (", Shown(token.text), ") are not supported; name the host"));
    }
    if (token.text[0] == '^') {
      return At(token, absl::StrCat("excluded hosts (", Shown(token.text), ") are not supported; name those to be used"));
    }
    auto word = ParseHostWord(token.text);
    if (!word.ok()) {
      return At(token, absl::StrCat("\"", Shown(token.text), "\": ", word.status().message(),
                                    "; a line is a host and its slots: node-a slots=4"));
    }
    line->word = *std::move(word);
    if (!line->word.has_suffix) return absl::OkStatus();
    const auto slots = ParseSlots(line->word.suffix);
    if (!slots.ok()) return At(token, absl::StrCat("\"", Shown(token.text), "\": ", slots.status().message()));
    line->slots = *slots;
    line->counted = true;
    return absl::OkStatus();
  }

  // name = value, in three tokens.
  absl::Status ParseSetting(const std::vector<Token>& tokens, size_t* at, Line* line) const {
    const Token name = tokens[*at];
    const std::string key = absl::StrReplaceAll(absl::AsciiStrToLower(name.text), {{"-", "_"}});
    static const auto& kSlots = *new std::vector<std::string>{"slots", "count", "cpu", "cpus"};
    static const auto& kMax =
        *new std::vector<std::string>{"max_slots", "slots_max", "max_count", "count_max", "cpu_max", "max_cpu"};
    static const auto& kUser = *new std::vector<std::string>{"user", "username", "user_name"};
    const auto is = [&key](const std::vector<std::string>& names) {
      return std::find(names.begin(), names.end(), key) != names.end();
    };
    if (!is(kSlots) && !is(kMax) && !is(kUser)) {
      const std::string nearest = NearestName(key, {"slots", "max_slots", "user"});
      return At(name, absl::StrCat("\"", Shown(name.text), "\" is nothing that a host can have; ",
                                   nearest.empty() ? "write slots=4, max_slots=8 or user=NAME; one host a line"
                                                   : absl::StrCat("did you mean ", nearest, "=?")));
    }
    if (*at + 2 >= tokens.size() || tokens[*at + 1].text != "=" || tokens[*at + 2].text == "=") {
      return At(name, absl::StrCat(Shown(name.text), " needs a value: ", Shown(name.text), is(kUser) ? "=NAME" : "=4"));
    }
    const Token value = tokens[*at += 2];
    if (is(kUser)) {
      if (!line->word.user.empty()) return At(name, "the user is said twice; leave one out");
      const auto checked = ParseHostWord(absl::StrCat(value.text, "@x"));
      if (!checked.ok()) return At(value, absl::StrCat("\"", Shown(value.text), "\" is no user's name"));
      line->word.user = std::string(value.text);
      return absl::OkStatus();
    }
    const auto slots = ParseSlots(value.text);
    if (!slots.ok()) return At(value, absl::StrCat(Shown(name.text), "=", Shown(value.text), ": ", slots.status().message()));
    if (is(kMax)) {
      if (line->slots_max > 0) return At(name, "max_slots is said twice; leave one out");
      if (*slots == 0) return At(value, "max_slots is a number");
      line->slots_max = *slots;
      return absl::OkStatus();
    }
    if (line->counted) return At(name, "the slots are said twice; leave one out");
    line->slots = *slots;
    line->counted = true;
    return absl::OkStatus();
  }

  absl::Status Add(const Token& token, const std::string& name, const Line& line) {
    const auto [entry, is_new] = seen_.emplace(name, Seen());
    if (is_new) {
      if (hosts_.size() == kHostsMax) {
        return At(token, absl::StrCat("the file names more than ", kHostsMax, " hosts; a job has at most that many"));
      }
      entry->second = {hosts_.size(), !line.counted};
      Host& host = hosts_.emplace_back();
      host.name = name;
      host.user = line.word.user;
      host.slots_max = line.slots_max;
      host.slots = line.counted ? line.slots : line.slots_max;
      host.slots_given = host.slots > 0;
      if (host.slots_given) entry->second.bare = false;
      return absl::OkStatus();
    }
    Host& host = hosts_[entry->second.place];
    if (!line.word.user.empty() && !host.user.empty() && line.word.user != host.user) {
      return At(token, absl::StrCat(name, " has another user than before (", host.user, "); a host has one"));
    }
    if (host.user.empty()) host.user = line.word.user;
    host.slots_max = std::max(host.slots_max, line.slots_max);
    if (!host.slots_given && !entry->second.bare) return absl::OkStatus();  // all of its cores
    const bool cores = line.counted && line.slots == 0;
    host.slots = cores ? 0 : (entry->second.bare ? 1 : host.slots) + (line.counted ? line.slots : 1);
    host.slots_given = !cores;
    entry->second.bare = false;
    if (host.slots > kHostSlotsMax) {
      return At(token, absl::StrCat(name, " has ", host.slots, " slots by now; at most ", kHostSlotsMax, " are possible"));
    }
    return absl::OkStatus();
  }

  const std::string file_;
  size_t number_ = 0;
  std::vector<Host> hosts_;
  std::map<std::string, Seen> seen_;
};

}  // namespace

absl::StatusOr<std::vector<Host>> ParseHostFile(const std::string& file, absl::string_view text) {
  if (text.size() > kHostFileBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat(file, ": has ", text.size(), " bytes; a file of hosts has at most ", kHostFileBytesMax));
  }
  Reader reader(file);
  for (const absl::string_view line : absl::StrSplit(text, '\n')) MUSTER_RETURN_IF_ERROR(reader.Take(line));
  return std::move(reader).Hosts();
}

}  // namespace muster
