#include "launcher/hosts/host_list.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "launcher/hosts/host_name.h"
#include "runtime/base/nearest_name.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

struct Mention {
  HostWord word;
  int64_t slots = 0;     // 0: as many as there are cores
  bool counted = false;  // slots were said
};

// Commas inside brackets belong to a range.
std::vector<absl::string_view> Words(absl::string_view text) {
  std::vector<absl::string_view> words;
  int depth = 0;
  size_t begin = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '[') ++depth;
    if (text[i] == ']') --depth;
    if (text[i] != ',' || depth > 0) continue;
    words.push_back(text.substr(begin, i - begin));
    begin = i + 1;
  }
  words.push_back(text.substr(begin));
  return words;
}

absl::Status ParseMention(absl::string_view word, Mention* mention) {
  if (word.empty()) return absl::InvalidArgumentError("there is nothing between the commas");
  if (word[0] == '+') return absl::InvalidArgumentError("relative hosts (+n0, +e) are not supported; name the host");
  if (word[0] == '^') return absl::InvalidArgumentError("excluded hosts (^name) are not supported; name those to be used");
  MUSTER_ASSIGN_OR_RETURN(mention->word, ParseHostWord(word));
  mention->counted = mention->word.has_suffix;
  if (!mention->counted) return absl::OkStatus();
  MUSTER_ASSIGN_OR_RETURN(mention->slots, ParseSlots(mention->word.suffix));
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Mention>> Mentions(absl::string_view flag, absl::string_view text) {
  const std::vector<absl::string_view> words = Words(text);
  std::vector<Mention> mentions;
  size_t names = 0;
  for (size_t i = 0; i < words.size(); ++i) {
    Mention mention;
    if (const absl::Status status = ParseMention(words[i], &mention); !status.ok()) {
      return absl::InvalidArgumentError(absl::StrCat(flag, ": host ", i + 1, ", \"", Shown(words[i]), "\": ", status.message(),
                                                     "; write ", flag, " node-a:2,node[01-16]:4"));
    }
    names += mention.word.names.size();
    if (names > kHostsMax) return absl::InvalidArgumentError(absl::StrCat(flag, " names more than ", kHostsMax, " hosts"));
    mentions.push_back(std::move(mention));
  }
  return mentions;
}

}  // namespace

absl::StatusOr<std::vector<Host>> ParseHostList(absl::string_view flag, absl::string_view text) {
  MUSTER_ASSIGN_OR_RETURN(const std::vector<Mention> mentions, Mentions(flag, text));
  std::vector<Host> hosts;
  std::map<std::string, size_t> places;  // by name
  for (const Mention& mention : mentions) {
    for (const std::string& name : mention.word.names) {
      const auto [place, is_new] = places.emplace(name, hosts.size());
      if (is_new) {
        Host& host = hosts.emplace_back();
        host.name = name;
        host.user = mention.word.user;
        host.slots = mention.counted ? mention.slots : 1;
        host.slots_given = mention.counted && host.slots > 0;
        continue;
      }
      Host& host = hosts[place->second];
      if (!mention.word.user.empty() && mention.word.user != host.user) {
        return absl::InvalidArgumentError(absl::StrCat(flag, " names ", name, " with several users; a host has one"));
      }
      if (host.slots == 0) continue;  // all of its cores are more than that
      if (mention.counted && mention.slots == 0) {
        host.slots = 0;
        host.slots_given = false;
        continue;
      }
      host.slots += mention.counted ? mention.slots : 1;
      host.slots_given = true;
      if (host.slots > kHostSlotsMax) {
        return absl::InvalidArgumentError(
            absl::StrCat(flag, " gives ", name, " ", host.slots, " slots; at most ", kHostSlotsMax, " are possible"));
      }
    }
  }
  return hosts;
}

absl::StatusOr<std::vector<Host>> FilterHosts(const std::string& file, const std::vector<Host>& hosts, absl::string_view flag,
                                              absl::string_view chosen) {
  MUSTER_ASSIGN_OR_RETURN(const std::vector<Mention> mentions, Mentions(flag, chosen));
  std::map<std::string, int64_t> wanted;  // slots at most; 0: what the file says
  for (const Mention& mention : mentions) {
    for (const std::string& name : mention.word.names) {
      int64_t& slots = wanted[name];
      if (mention.counted && mention.slots > 0) slots += mention.slots;
    }
  }
  std::vector<Host> left;
  for (const Host& host : hosts) {
    const auto want = wanted.find(host.name);
    if (want == wanted.end()) continue;
    left.push_back(host);
    if (want->second > 0 && (!host.slots_given || want->second < host.slots)) {
      left.back().slots = want->second;
      left.back().slots_given = true;
    }
    wanted.erase(want);
  }
  if (wanted.empty()) return left;
  std::vector<std::string> names;
  for (const Host& host : hosts) names.push_back(host.name);
  const std::string nearest = NearestName(wanted.begin()->first, names);
  return absl::InvalidArgumentError(
      absl::StrCat(flag, " chooses among the hosts of ", file, ", which does not name ", wanted.begin()->first,
                   nearest.empty() ? "" : absl::StrCat(" (but ", nearest, ")"), "; add it there, or leave out one of the two"));
}

}  // namespace muster
