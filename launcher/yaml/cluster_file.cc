#include "launcher/yaml/cluster_file.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "launcher/hosts/host_name.h"
#include "launcher/yaml/yaml_reader.h"
#include "runtime/base/nearest_name.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

using Kind = YamlNode::Kind;

constexpr size_t kClusterPairsMax = 4'000'000;  // of links and measurements that one entry stands for

class ClusterReader {
 public:
  explicit ClusterReader(const std::string& file) : file_(file) {}

  Cluster Read(const YamlNode& root) {
    const std::map<std::string, const YamlNode*> top = Open(root, "", {"levels", "nodes", "uplinks", "links", "measurements"});
    if (root.kind == Kind::kMap && !top.contains("nodes")) Wrong(root, "", "there are no nodes; write nodes: [{name: node-a}]");
    ForEach(top, "levels", [this](const YamlNode& node, const std::string& path) { ReadLevel(node, path); });
    ForEach(top, "nodes", [this](const YamlNode& node, const std::string& path) { ReadNode(node, path); });
    ForEach(top, "uplinks", [this](const YamlNode& node, const std::string& path) { ReadUplink(node, path); });
    ForEach(top, "links", [this](const YamlNode& node, const std::string& path) { ReadLink(node, path); });
    ForEach(top, "measurements", [this](const YamlNode& node, const std::string& path) { ReadMeasurement(node, path); });
    return std::move(cluster_);
  }

  absl::Status status() const {
    if (errors_.empty()) return absl::OkStatus();
    std::vector<std::string> lines = errors_;
    if (lines.size() > kClusterFileErrorsMax) {
      const size_t more = lines.size() - kClusterFileErrorsMax + 1;
      lines.resize(kClusterFileErrorsMax - 1);
      lines.push_back(absl::StrCat(file_, ": and ", more, " more"));
    }
    return absl::InvalidArgumentError(absl::StrJoin(lines, "\n"));
  }

 private:
  using Fields = std::map<std::string, const YamlNode*>;

  void Wrong(const YamlNode& node, const std::string& path, absl::string_view what) {
    if (errors_.size() > 10'000) return;
    errors_.push_back(
        OneLine(absl::StrCat(file_, ":", node.line, ":", node.column, ": ", path, path.empty() ? "" : ": ", what)));
  }

  Fields Open(const YamlNode& node, const std::string& path, const std::vector<std::string>& names) {
    Fields fields;
    if (node.kind != Kind::kMap) {
      Wrong(node, path, absl::StrCat(path.empty() ? "the file" : "this", " is a section with ", absl::StrJoin(names, ", ")));
      return fields;
    }
    for (const auto& [key, value] : node.pairs) {
      if (std::find(names.begin(), names.end(), key.text) == names.end()) {
        const std::string nearest = NearestName(key.text, names);
        Wrong(key, Below(path, Shown(key.text)),
              nearest.empty() ? absl::StrCat("there is no such field; here are ", absl::StrJoin(names, ", "))
                              : absl::StrCat("there is no such field; did you mean ", nearest, "?"));
      } else if (!fields.emplace(key.text, &value).second) {
        Wrong(key, Below(path, key.text), "said twice; leave one out");
      }
    }
    return fields;
  }

  static std::string Below(const std::string& path, const std::string& name) { return path.empty() ? name : path + "." + name; }

  template <typename Read>
  void ForEach(const Fields& fields, const std::string& name, const Read& read) {
    const auto found = fields.find(name);
    if (found == fields.end() || found->second->kind == Kind::kNull) return;
    if (found->second->kind != Kind::kList) return Wrong(*found->second, name, "is a list");
    for (size_t i = 0; i < found->second->items.size(); ++i) read(found->second->items[i], absl::StrCat(name, "[", i, "]"));
  }

  static const YamlNode* Find(const Fields& fields, const std::string& name) {
    const auto found = fields.find(name);
    return found == fields.end() ? nullptr : found->second;
  }

  std::string Text(const Fields& fields, const char* name, const std::string& path) {
    const YamlNode* node = Find(fields, name);
    if (node == nullptr) return "";
    if (node->kind != Kind::kScalar) Wrong(*node, Below(path, name), "is a word");
    return node->kind == Kind::kScalar ? node->text : "";
  }

  double Speed(const Fields& fields, const char* name, const std::string& path) {
    const YamlNode* node = Find(fields, name);
    if (node == nullptr) return 0;
    const auto speed = ParseSpeed(node->text);
    if (!speed.ok()) Wrong(*node, Below(path, name), speed.status().message());
    return speed.value_or(0);
  }

  int64_t Latency(const Fields& fields, const std::string& path) {
    const YamlNode* node = Find(fields, "latency");
    if (node == nullptr) return 0;
    absl::Duration time;
    if (!absl::ParseDuration(node->text, &time) || time <= absl::ZeroDuration() || time > absl::Hours(1)) {
      Wrong(*node, Below(path, "latency"),
            absl::StrCat("is a time with its unit, such as 2us or 500ns, not \"", Shown(node->text), "\""));
      return 0;
    }
    return absl::ToInt64Nanoseconds(time);
  }

  int Number(const Fields& fields, const char* name, const std::string& path, int most, int otherwise) {
    const YamlNode* node = Find(fields, name);
    return node == nullptr ? otherwise : NumberOf(*node, Below(path, name), most, otherwise);
  }

  int NumberOf(const YamlNode& node, const std::string& path, int most, int otherwise) {
    int number = 0;
    if (node.kind == Kind::kScalar && !node.quoted && absl::SimpleAtoi(node.text, &number) && number >= 0 && number <= most)
      return number;
    Wrong(node, path,
          absl::StrCat("is a whole number from 0 to ", most,
                       node.kind == Kind::kScalar ? absl::StrCat(", not \"", Shown(node.text), "\"") : ""));
    return otherwise;
  }

  // --- Sections ---

  void ReadLevel(const YamlNode& node, const std::string& path) {
    Cluster::Level level;
    if (node.kind == Kind::kScalar) {
      level.name = node.text;
    } else {
      const Fields fields = Open(node, path, {"name", "uplink", "latency", "per_rail"});
      level.name = Text(fields, "name", path);
      level.uplink_bytes_per_second = Speed(fields, "uplink", path);
      level.latency_ns = Latency(fields, path);
      const std::string per_rail = Text(fields, "per_rail", path);
      level.per_rail = per_rail == "true";
      if (!per_rail.empty() && per_rail != "true" && per_rail != "false")
        Wrong(*Find(fields, "per_rail"), Below(path, "per_rail"), "is true or false");
    }
    if (level.name.empty()) return Wrong(node, path, "a level has a name: {name: leaf}");
    if (!levels_.emplace(level.name, cluster_.levels.size()).second)
      return Wrong(node, path, absl::StrCat("there are two levels ", Shown(level.name)));
    cluster_.levels.push_back(std::move(level));
  }

  // Labels by level; those that are not said are empty.
  std::vector<std::string> Labels(const YamlNode* node, const std::string& path) {
    std::vector<std::string> labels(cluster_.levels.size());
    if (node == nullptr) return labels;
    if (node->kind != Kind::kMap) {
      Wrong(*node, path, "is a section of LEVEL: LABEL");
      return labels;
    }
    for (const auto& [key, value] : node->pairs) {
      const auto level = levels_.find(key.text);
      if (level == levels_.end()) {
        std::vector<std::string> names;
        for (const Cluster::Level& one : cluster_.levels) names.push_back(one.name);
        const std::string nearest = NearestName(key.text, names);
        Wrong(key, Below(path, Shown(key.text)),
              names.empty()     ? "there is no such level; name it under levels:"
              : nearest.empty() ? absl::StrCat("there is no such level; there are ", absl::StrJoin(names, ", "))
                                : absl::StrCat("there is no such level; did you mean ", nearest, "?"));
      } else if (value.kind != Kind::kScalar) {
        Wrong(value, Below(path, key.text), "a label is a word");
      } else if (!labels[level->second].empty()) {
        Wrong(key, Below(path, key.text), "said twice; leave one out");
      } else {
        labels[level->second] = value.text;
      }
    }
    return labels;
  }

  // A group's labels, down to its own level.
  std::vector<std::string> Group(const Fields& fields, const char* name, const YamlNode& whole, const std::string& path) {
    const YamlNode* node = Find(fields, name);
    if (node == nullptr) {
      Wrong(whole, path, absl::StrCat("lacks ", name, ": {LEVEL: LABEL}"));
      return {};
    }
    std::vector<std::string> labels = Labels(node, Below(path, name));
    while (!labels.empty() && labels.back().empty()) labels.pop_back();
    if (labels.empty()) Wrong(*node, Below(path, name), "names no group; write {LEVEL: LABEL}");
    return labels;
  }

  void ReadNode(const YamlNode& node, const std::string& path) {
    Cluster::Node one;
    std::string name;
    if (node.kind == Kind::kScalar) {
      name = node.text;
      one.labels.resize(cluster_.levels.size());
    } else {
      const Fields fields = Open(node, path, {"name", "labels", "gpus", "nics", "distances", "nvlinks"});
      name = Text(fields, "name", path);
      one.labels = Labels(Find(fields, "labels"), Below(path, "labels"));
      ReadDevices(fields, path, &one);
    }
    const auto names = ParseHostWord(name);
    if (!names.ok()) return Wrong(node, path, absl::StrCat("name \"", Shown(name), "\": ", names.status().message()));
    if (names->has_suffix || !names->user.empty())
      return Wrong(node, path, absl::StrCat("name \"", Shown(name), "\" is no name of a node"));
    const std::vector<std::vector<std::string>> dealt = Deal(one.labels, names->names.size(), node, path);
    for (size_t i = 0; i < names->names.size(); ++i) {
      const std::string& each = names->names[i];
      if (cluster_.nodes.size() >= kClusterNodesMax)
        return Wrong(node, path, absl::StrCat("a cluster has ", kClusterNodesMax, " nodes at most"));
      if (!nodes_.emplace(each, static_cast<int>(cluster_.nodes.size())).second) {
        Wrong(node, path, absl::StrCat("node ", each, " is named twice; leave one out"));
        return;
      }
      one.name = each;
      for (size_t level = 0; level < dealt.size(); ++level) {
        one.labels[level] = dealt[level][i * dealt[level].size() / names->names.size()];
      }
      cluster_.nodes.push_back(one);
    }
  }

  // What "leaf[01-16]" stands for; a word without ranges stands for itself.
  std::vector<std::string> Ranges(const std::string& word, const YamlNode& place, const std::string& path) {
    if (!absl::StrContains(word, '[')) return {word};
    auto parsed = ParseHostWord(word);
    if (parsed.ok() && !parsed->has_suffix && parsed->user.empty()) return std::move(parsed->names);
    Wrong(place, path,
          absl::StrCat("\"", Shown(word), "\": ", parsed.ok() ? "is no name with ranges" : parsed.status().message()));
    return {word};
  }

  // By level the labels that an entry's nodes have, dealt out in equal shares: of 64 nodes and leaf[1-2] the first 32 are in leaf1.
  std::vector<std::vector<std::string>> Deal(const std::vector<std::string>& labels, size_t nodes, const YamlNode& node,
                                             const std::string& path) {
    std::vector<std::vector<std::string>> dealt;
    for (size_t level = 0; level < labels.size(); ++level) {
      const std::string place = absl::StrCat(path, ".labels.", cluster_.levels[level].name);
      dealt.push_back(Ranges(labels[level], node, place));
      if (nodes % dealt.back().size() == 0) continue;
      Wrong(node, place,
            absl::StrCat(nodes, nodes == 1 ? " node cannot" : " nodes cannot", " be dealt out evenly to ", dealt.back().size(),
                         " labels; write an entry for each share"));
      dealt.back().resize(1);
    }
    return dealt;
  }

  void ReadDevices(const Fields& fields, const std::string& path, Cluster::Node* one) {
    constexpr int kNumaMax = 1024;
    if (const YamlNode* gpus = Find(fields, "gpus"); gpus != nullptr && gpus->kind == Kind::kList) {
      for (size_t i = 0; i < gpus->items.size(); ++i) {
        const std::string place = absl::StrCat(path, ".gpus[", i, "]");
        const Fields gpu = Open(gpus->items[i], place, {"name", "numa"});
        one->gpus.push_back({Text(gpu, "name", place), Number(gpu, "numa", place, kNumaMax, -1)});
      }
    } else if (gpus != nullptr) {
      one->gpus.resize(static_cast<size_t>(NumberOf(*gpus, Below(path, "gpus"), kNodeDevicesMax, 0)));
    }
    if (const YamlNode* nics = Find(fields, "nics"); nics != nullptr && nics->kind == Kind::kList) {
      for (size_t i = 0; i < nics->items.size(); ++i) {
        const std::string place = absl::StrCat(path, ".nics[", i, "]");
        const Fields nic = Open(nics->items[i], place, {"name", "numa", "rail", "speed"});
        one->nics.push_back({Text(nic, "name", place), Number(nic, "numa", place, kNumaMax, -1),
                             Number(nic, "rail", place, kNodeDevicesMax - 1, -1), Speed(nic, "speed", place)});
      }
    } else if (nics != nullptr) {
      one->nics.resize(static_cast<size_t>(NumberOf(*nics, Below(path, "nics"), kNodeDevicesMax, 0)));
    }
    ReadMatrix(fields, "distances", path, one->gpus.size(), one->nics.size(),
               [this, one](const YamlNode& cell, const std::string& place) {
                 for (int distance = 0; distance <= static_cast<int>(PciDistance::kUnknown); ++distance) {
                   if (cell.text != PciDistanceName(static_cast<PciDistance>(distance))) continue;
                   one->distances.push_back(static_cast<PciDistance>(distance));
                   return;
                 }
                 Wrong(cell, place, "is PIX, PXB, PHB, NODE, SYS or ?");
               });
    ReadMatrix(fields, "nvlinks", path, one->gpus.size(), one->gpus.size(),
               [this, one](const YamlNode& cell, const std::string& place) {
                 one->nvlinks.push_back(NumberOf(cell, place, 1000, 0));
               });
  }

  template <typename ReadCell>
  void ReadMatrix(const Fields& fields, const char* name, const std::string& path, size_t rows, size_t columns,
                  const ReadCell& read) {
    const YamlNode* matrix = Find(fields, name);
    if (matrix == nullptr) return;
    bool fits = matrix->kind == Kind::kList && matrix->items.size() == rows;
    for (const YamlNode& row : matrix->items) fits = fits && row.kind == Kind::kList && row.items.size() == columns;
    if (!fits)
      return Wrong(*matrix, Below(path, name),
                   absl::StrCat("is a list of ", rows, " lists of ", columns, ": a row for each GPU"));
    for (size_t i = 0; i < rows; ++i) {
      for (size_t j = 0; j < columns; ++j) read(matrix->items[i].items[j], absl::StrCat(path, ".", name, "[", i, "][", j, "]"));
    }
  }

  void ReadUplink(const YamlNode& node, const std::string& path) {
    const Fields fields = Open(node, path, {"group", "speed"});
    if (node.kind != Kind::kMap) return;
    std::vector<std::string> group = Group(fields, "group", node, path);
    if (!fields.contains("speed")) Wrong(node, path, "lacks speed: 400Gbit/s");
    cluster_.uplinks.push_back({std::move(group), Speed(fields, "speed", path)});
  }

  // A group's labels with all that their ranges stand for.
  std::vector<std::vector<std::string>> Groups(const std::vector<std::string>& labels, const YamlNode& node,
                                               const std::string& path) {
    std::vector<std::vector<std::string>> groups = {{}};
    for (const std::string& label : labels) {
      std::vector<std::vector<std::string>> longer;
      for (const std::string& name : Ranges(label, node, path)) {
        for (std::vector<std::string> group : groups) {
          if (longer.size() >= kClusterNodesMax) break;
          group.push_back(name);
          longer.push_back(std::move(group));
        }
      }
      groups = std::move(longer);
    }
    return groups;
  }

  // Whether so many pairs can be meant.
  bool Fits(size_t from, size_t to, const YamlNode& node, const std::string& path) {
    if (from <= kClusterPairsMax / std::max<size_t>(to, 1)) return true;
    Wrong(node, path, absl::StrCat("stands for more than ", kClusterPairsMax, " pairs"));
    return false;
  }

  void ReadLink(const YamlNode& node, const std::string& path) {
    const Fields fields = Open(node, path, {"from", "to", "speed", "latency"});
    if (node.kind != Kind::kMap) return;
    const std::vector<std::vector<std::string>> from = Groups(Group(fields, "from", node, path), node, Below(path, "from"));
    const std::vector<std::vector<std::string>> to = Groups(Group(fields, "to", node, path), node, Below(path, "to"));
    if (!fields.contains("speed")) Wrong(node, path, "lacks speed: 400Gbit/s");
    const double speed = Speed(fields, "speed", path);
    const int64_t latency = Latency(fields, path);
    if (!Fits(from.size(), to.size(), node, path)) return;
    const bool several = from.size() * to.size() > 1;
    std::set<std::pair<std::vector<std::string>, std::vector<std::string>>> said;
    for (const std::vector<std::string>& one : from) {
      for (const std::vector<std::string>& other : to) {
        // Each with each of a range: no group with itself, no pair twice.
        if (several && (one == other || !said.insert(std::minmax(one, other)).second)) continue;
        cluster_.links.push_back({one, other, speed, latency});
      }
    }
  }

  // Places in the cluster's nodes.
  std::vector<int> NodeNumbers(const Fields& fields, const char* name, const YamlNode& whole, const std::string& path) {
    const YamlNode* node = Find(fields, name);
    if (node == nullptr || node->kind != Kind::kScalar) {
      Wrong(whole, path, absl::StrCat("lacks ", name, ": NODE"));
      return {};
    }
    std::vector<int> numbers;
    for (const std::string& each : Ranges(node->text, *node, Below(path, name))) {
      const auto known = nodes_.find(each);
      if (known != nodes_.end()) {
        numbers.push_back(known->second);
      } else {
        Wrong(*node, Below(path, name), absl::StrCat("there is no node ", Shown(each)));
        return {};
      }
    }
    return numbers;
  }

  void ReadMeasurement(const YamlNode& node, const std::string& path) {
    const Fields fields = Open(node, path, {"from", "to", "latency", "speed"});
    if (node.kind != Kind::kMap) return;
    const std::vector<int> from = NodeNumbers(fields, "from", node, path), to = NodeNumbers(fields, "to", node, path);
    const int64_t latency = Latency(fields, path);
    const double speed = Speed(fields, "speed", path);
    if (!Fits(from.size(), to.size(), node, path)) return;
    for (const int one : from) {
      for (const int other : to) {
        // Each with each of a range; a node to itself is an error only where it is all that is said.
        if (one != other || from.size() * to.size() == 1) cluster_.measurements.push_back({one, other, latency, speed});
      }
    }
  }

  const std::string& file_;
  std::vector<std::string> errors_;
  Cluster cluster_;
  std::map<std::string, size_t> levels_;
  std::map<std::string, int> nodes_;
};

}  // namespace

absl::StatusOr<double> ParseSpeed(absl::string_view text) {
  struct Unit {
    const char* name;
    double bytes;
  };
  // Longer names before those that they end in.
  static constexpr Unit kUnits[] = {{"Tbit/s", 1e12 / 8}, {"Gbit/s", 1e9 / 8}, {"Mbit/s", 1e6 / 8}, {"kbit/s", 1e3 / 8},
                                    {"bit/s", 1.0 / 8},   {"TB/s", 1e12},      {"GB/s", 1e9},       {"MB/s", 1e6},
                                    {"kB/s", 1e3},        {"B/s", 1}};
  for (const Unit& unit : kUnits) {
    if (!absl::EndsWith(text, unit.name)) continue;
    const absl::string_view digits = absl::StripAsciiWhitespace(text.substr(0, text.size() - std::string(unit.name).size()));
    double number = 0;
    const bool plain = !digits.empty() && std::all_of(digits.begin(), digits.end(), [](char c) {
      return absl::ascii_isdigit(static_cast<unsigned char>(c)) || c == '.';
    });
    if (plain && absl::SimpleAtod(digits, &number) && number > 0 && number * unit.bytes <= kBytesPerSecondMax)
      return number * unit.bytes;
    break;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("is a speed with its unit, such as 400Gbit/s or 50GB/s, not \"", Shown(text), "\""));
}

absl::StatusOr<Cluster> ParseClusterFile(const std::string& file, absl::string_view text) {
  if (text.size() > kClusterFileBytesMax)
    return absl::InvalidArgumentError(absl::StrCat(file, ": has more than ", kClusterFileBytesMax >> 20, " MiB"));
  MUSTER_ASSIGN_OR_RETURN(const YamlNode root, ReadYaml(file, text));
  ClusterReader reader(file);
  Cluster cluster = reader.Read(root);
  MUSTER_RETURN_IF_ERROR(reader.status());
  if (const absl::Status checked = CheckCluster(cluster); !checked.ok()) {
    return absl::InvalidArgumentError(absl::StrCat(file, ": ", checked.message()));
  }
  return cluster;
}

}  // namespace muster
