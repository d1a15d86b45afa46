#include "launcher/labels/slurm_labels.h"

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "launcher/hosts/host_name.h"
#include "launcher/hosts/slurm_allocation.h"
#include "launcher/labels/slurm_tree.h"
#include "runtime/base/nearest_name.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

absl::Status Wrong(const std::string& place, absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(place, ": ", what));
}

// "a.s[1.2].c" -> a, s[1.2], c; what is left after `parts_max` - 1 parts is the last one, points and all.
std::vector<std::string> SplitParts(absl::string_view text, size_t parts_max) {
  std::vector<std::string> parts = {""};
  int depth = 0;
  for (const char c : text) {
    if (c == '[') ++depth;
    if (c == ']' && depth > 0) --depth;
    if (c == '.' && depth == 0 && parts.size() < parts_max) {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

absl::Status WrongAddress(absl::string_view address, absl::string_view pattern, absl::string_view why) {
  return absl::InvalidArgumentError(
      absl::StrCat("SLURM_TOPOLOGY_ADDR=", Shown(address), " with SLURM_TOPOLOGY_ADDR_PATTERN=", Shown(pattern),
                   ", which Slurm has set, cannot be read: ", why, "; the node counts as one whose place is not known"));
}

bool IsGood(absl::string_view part) {
  return !part.empty() && part.size() <= 255 &&
         std::all_of(part.begin(), part.end(), [](char c) { return absl::ascii_isgraph(static_cast<unsigned char>(c)); });
}

// --- topology.conf ---

// The words of a line: KEY=VALUE, where VALUE may stand in quotes.
struct Setting {
  std::string key;  // in lower case
  std::string value;
};

class ConfReader {
 public:
  ConfReader(const std::string& file, absl::string_view text) : file_(file), text_(text) {}

  absl::StatusOr<LabelSet> Read() {
    MUSTER_RETURN_IF_ERROR(ReadLines());
    if (!blocks_.empty() && !switches_.empty()) {
      return Wrong(blocks_[0].place, absl::StrCat("the file has switches (", switches_[0].place,
                                                  ") and blocks, and Slurm uses one of both; give a file with one of them"));
    }
    if (!blocks_.empty()) {
      if (sizes_.empty()) sizes_.assign(seen_sizes_.begin(), seen_sizes_.end());
      return LabelsOfBlocks(file_, blocks_, sizes_, sizes_place_.empty() ? absl::StrCat(file_, ":1") : sizes_place_);
    }
    if (!switches_.empty()) return LabelsOfSwitches(file_, switches_);
    return Wrong(absl::StrCat(file_, ":1"),
                 "no switch and no block is defined; a line is SwitchName=NAME Nodes=LIST, SwitchName=NAME Switches=LIST or "
                 "BlockName=NAME Nodes=LIST");
  }

 private:
  absl::Status ReadLines() {
    int number = 0, first = 1;
    std::string line;
    for (const absl::string_view piece : absl::StrSplit(text_, '\n')) {
      ++number;
      if (line.empty()) first = number;
      absl::string_view part = absl::StripTrailingAsciiWhitespace(piece.substr(0, piece.find('#')));
      const bool goes_on = absl::EndsWith(part, "\\") && part.size() == absl::StripTrailingAsciiWhitespace(piece).size();
      if (goes_on) part.remove_suffix(1);
      absl::StrAppend(&line, part);
      if (goes_on) {
        line += ' ';
        continue;
      }
      MUSTER_RETURN_IF_ERROR(ReadLine(absl::StrCat(file_, ":", first), line));
      line.clear();
    }
    return ReadLine(absl::StrCat(file_, ":", first), line);
  }

  static absl::StatusOr<std::vector<Setting>> Settings(const std::string& place, absl::string_view line) {
    std::vector<Setting> settings;
    while (true) {
      line = absl::StripLeadingAsciiWhitespace(line);
      if (line.empty()) return settings;
      const size_t end = std::min(line.find_first_of("= \t\r"), line.size());
      if (end == line.size() || line[end] != '=' || end == 0) {
        const std::string word = Shown(line.substr(0, line.find_first_of(" \t\r")));
        if (absl::StartsWith(absl::AsciiStrToLower(word), "include")) {
          return Wrong(place, "Include is not followed here; give the files as one");
        }
        return Wrong(place, absl::StrCat("\"", word,
                                         "\" is no KEY=VALUE; a line is SwitchName=NAME Nodes=LIST or SwitchName=NAME "
                                         "Switches=LIST"));
      }
      Setting setting{absl::AsciiStrToLower(line.substr(0, end)), ""};
      line.remove_prefix(end + 1);
      if (!line.empty() && line[0] == '"') {
        const size_t close = line.find('"', 1);
        if (close == absl::string_view::npos)
          return Wrong(place, absl::StrCat("the value of ", setting.key, " has no closing '\"'"));
        setting.value = std::string(line.substr(1, close - 1));
        line.remove_prefix(close + 1);
      } else {
        const size_t stop = std::min(line.find_first_of(" \t\r"), line.size());
        setting.value = std::string(line.substr(0, stop));
        line.remove_prefix(stop);
      }
      settings.push_back(std::move(setting));
    }
  }

  absl::Status ReadLine(const std::string& place, absl::string_view line) {
    MUSTER_ASSIGN_OR_RETURN(const std::vector<Setting> settings, Settings(place, line));
    if (settings.empty()) return absl::OkStatus();
    const std::string& kind = settings[0].key;
    if (kind == "switchname") return ReadSwitch(place, settings);
    if (kind == "blockname" || kind == "aggregatedblock") return ReadBlock(place, settings);
    if (kind == "blocksizes") return ReadSizes(place, settings[0].value);
    const std::string nearest = NearestName(kind, {"switchname", "blockname", "blocksizes"});
    return Wrong(place, absl::StrCat("a line begins with SwitchName=, BlockName= or BlockSizes=, not ", Shown(kind), "=",
                                     nearest.empty() ? "" : absl::StrCat("; did you mean ", nearest, "?")));
  }

  static absl::StatusOr<std::vector<std::string>> Names(const std::string& place, const Setting& setting) {
    if (setting.value.empty() || setting.value == "(null)") return std::vector<std::string>();
    auto names = ParseSlurmNodeList(setting.value);
    if (names.ok()) return names;
    return Wrong(place, absl::StrCat(setting.key, "=", Shown(setting.value), ": ", names.status().message()));
  }

  absl::Status Unknown(const std::string& place, const Setting& setting, const std::vector<std::string>& keys) const {
    const std::string nearest = NearestName(setting.key, keys);
    return Wrong(place, absl::StrCat("\"", Shown(setting.key), "\" is nothing that ", keys[0], " can have",
                                     nearest.empty() ? "" : absl::StrCat("; did you mean ", nearest, "?")));
  }

  absl::Status ReadSwitch(const std::string& place, const std::vector<Setting>& settings) {
    SlurmSwitch one{settings[0].value, place, {}, {}};
    if (!IsGood(one.name)) return Wrong(place, "SwitchName= needs a name");
    for (size_t i = 1; i < settings.size(); ++i) {
      if (settings[i].key == "nodes") {
        MUSTER_ASSIGN_OR_RETURN(one.nodes, Names(place, settings[i]));
      } else if (settings[i].key == "switches") {
        MUSTER_ASSIGN_OR_RETURN(one.switches, Names(place, settings[i]));
      } else if (settings[i].key != "linkspeed" && settings[i].key != "level") {
        return Unknown(place, settings[i], {"switchname", "nodes", "switches", "linkspeed"});
      }
    }
    // scontrol names the nodes of all switches below as well: those stand on their own line.
    if (!one.switches.empty()) one.nodes.clear();
    switches_.push_back(std::move(one));
    return absl::OkStatus();
  }

  absl::Status ReadBlock(const std::string& place, const std::vector<Setting>& settings) {
    SlurmBlock block{settings[0].value, place, {}};
    if (!IsGood(block.name)) return Wrong(place, "BlockName= needs a name");
    for (size_t i = 1; i < settings.size(); ++i) {
      if (settings[i].key == "nodes") {
        MUSTER_ASSIGN_OR_RETURN(block.nodes, Names(place, settings[i]));
      } else if (settings[i].key == "blocksize") {
        // scontrol says sizes block by block, those of runs of blocks (AggregatedBlock=b[0-1]) too.
        int64_t size = 0;
        if (!absl::SimpleAtoi(settings[i].value, &size) || size < 1) {
          return Wrong(place, absl::StrCat("BlockSize=", Shown(settings[i].value), " is no number of nodes"));
        }
        seen_sizes_.insert(size);
      } else if (settings[i].key != "blockindex") {
        return Unknown(place, settings[i], {"blockname", "nodes"});
      }
    }
    if (settings[0].key == "blockname") blocks_.push_back(std::move(block));
    return absl::OkStatus();
  }

  absl::Status ReadSizes(const std::string& place, absl::string_view value) {
    if (!sizes_.empty()) return Wrong(place, absl::StrCat("BlockSizes= is said twice, first at ", sizes_place_));
    for (const absl::string_view word : absl::StrSplit(value, ',')) {
      int64_t size = 0;
      if (!absl::SimpleAtoi(word, &size) || size < 1 || size > static_cast<int64_t>(kLabelledNodesMax)) {
        return Wrong(place,
                     absl::StrCat("BlockSizes=", Shown(value), ": \"", Shown(word), "\" is no number of nodes; write 4,16"));
      }
      sizes_.push_back(size);
    }
    sizes_place_ = place;
    return absl::OkStatus();
  }

  const std::string& file_;
  const absl::string_view text_;
  std::vector<SlurmSwitch> switches_;
  std::vector<SlurmBlock> blocks_;
  std::vector<int64_t> sizes_;
  std::set<int64_t> seen_sizes_;  // where none are said for all
  std::string sizes_place_;
};

}  // namespace

absl::StatusOr<NodeLabels> ReadSlurmAddress(absl::string_view address, absl::string_view pattern) {
  const std::vector<std::string> kinds = SplitParts(pattern, kLabelDepthMax + 1);
  if (kinds.back() != "node") return WrongAddress(address, pattern, "the pattern does not end in \"node\"");
  const std::vector<std::string> parts = SplitParts(address, kinds.size());
  if (parts.size() != kinds.size()) {
    return WrongAddress(address, pattern,
                        absl::StrCat("the address has ", parts.size(), " parts and the pattern ", kinds.size()));
  }
  NodeLabels labels;
  labels.node = parts.back();
  if (!IsGood(labels.node)) return WrongAddress(address, pattern, "the address ends in no node's name");
  for (size_t i = 0; i + 1 < parts.size(); ++i) {
    if (parts[i].empty()) continue;  // the node has no switch at this level
    if (!IsGood(parts[i])) return WrongAddress(address, pattern, "a name has blanks or control characters");
    const std::vector<std::string> inner_kinds = absl::StrSplit(kinds[i], ':');
    if (inner_kinds.size() == 1) {
      labels.path.push_back({kinds[i] == "switch" ? SwitchLevel(parts.size() - 2 - i) : kinds[i], parts[i]});
      continue;
    }
    const std::vector<std::string> inner = absl::StrSplit(parts[i], ':');
    if (inner.size() != inner_kinds.size()) {
      return WrongAddress(address, pattern, absl::StrCat("\"", parts[i], "\" is no ", kinds[i]));
    }
    for (size_t j = 0; j < inner.size(); ++j) labels.path.push_back({inner_kinds[j], inner[j]});
  }
  if (labels.path.size() > kLabelDepthMax) {
    return WrongAddress(address, pattern,
                        absl::StrCat("it has ", labels.path.size(), " levels, and ", kLabelDepthMax, " at most are read"));
  }
  return labels;
}

absl::StatusOr<LabelSet> ReadSlurmTopologyConf(const std::string& file, absl::string_view text) {
  return ConfReader(file, text).Read();
}

}  // namespace muster
