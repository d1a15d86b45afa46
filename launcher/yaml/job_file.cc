#include "launcher/yaml/job_file.h"

#include <algorithm>
#include <functional>
#include <map>
#include <set>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"
#include "launcher/hosts/host_list.h"
#include "launcher/yaml/yaml_reader.h"
#include "runtime/base/nearest_name.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

constexpr int64_t kCountMax = 1'000'000;
constexpr int64_t kStepsMax = int64_t{1} << 40;

// Every section and its fields: for what is there, and for where a misplaced field belongs.
const std::map<std::string, std::vector<std::string>>& Fields() {
  static const auto& fields = *new std::map<std::string, std::vector<std::string>>{
      {"",
       {"name", "command", "workers", "resources", "placement", "topology", "nccl", "env", "output", "stdin", "checkpoint", "recovery", "starter",
        "kubernetes"}},
      {"workers", {"min", "max", "per_node"}},
      {"resources", {"cpu", "memory", "gpu"}},
      {"placement", {"map_by", "rank_by", "bind_to"}},
      {"topology", {"files", "label_keys"}},
      {"nccl", {"environment"}},
      {"output", {"marks", "files"}},
      {"checkpoint", {"path", "every_steps", "keep"}},
      {"recovery", {"max_restarts", "spares", "last_call"}},
      {"starter", {"ssh"}},
      {"starter.ssh", {"hosts", "hostfile", "remote_muster"}},
      {"kubernetes",
       {"image", "namespace", "queue", "volumes", "record", "grace", "deadline", "keep_finished", "retries", "user", "port", "shm",
        "gpu_resource", "device_class", "priority_class", "mesh", "join", "topology", "node_selector", "tolerations"}},
      {"kubernetes.topology", {"required", "preferred"}},
      {"kubernetes.tolerations[]", {"key", "value", "effect"}},
      {"kubernetes.volumes[]", {"claim", "path", "size", "class"}},
  };
  return fields;
}

std::string Shown(absl::string_view text) {
  constexpr size_t kShownMax = 60;
  return absl::StrCat("\"", absl::Utf8SafeCHexEscape(text.substr(0, kShownMax)), text.size() > kShownMax ? "..." : "", "\"");
}

std::string Joined(const std::string& path, const std::string& name) { return path.empty() ? name : path + "." + name; }

class Reader {
 public:
  explicit Reader(const std::string& file) : file_(file) {}

  JobFile Read(const YamlNode& root) {
    JobFile job;
    if (root.kind == YamlNode::Kind::kNull) {
      Wrong(root, "", "the file is empty; a job has at least a command: [program, argument]");
      return job;
    }
    const Section top = Open(root, "", "");
    ReadIf(top, "name", [&](const YamlNode& node, const std::string& path) { job.name = Label(node, path); });
    ReadIf(top, "command", [&](const YamlNode& node, const std::string& path) { job.command = Texts(node, path, "program"); });
    ReadIf(top, "workers", [&](const YamlNode& node, const std::string& path) { ReadWorkers(node, path, &job.workers); });
    ReadIf(top, "resources", [&](const YamlNode& node, const std::string& path) { ReadResources(node, path, &job.resources); });
    ReadIf(top, "placement", [&](const YamlNode& node, const std::string& path) { ReadPlacement(node, path, &job.placement); });
    ReadIf(top, "topology", [&](const YamlNode& node, const std::string& path) { ReadTopology(node, path, &job.topology); });
    ReadIf(top, "nccl", [&](const YamlNode& node, const std::string& path) { ReadNccl(node, path, &job.nccl); });
    ReadIf(top, "env", [&](const YamlNode& node, const std::string& path) { job.env = Environment(node, path); });
    ReadIf(top, "output", [&](const YamlNode& node, const std::string& path) { ReadOutput(node, path, &job.output); });
    ReadIf(top, "stdin", [&](const YamlNode& node, const std::string& path) {
      job.standard_input = Text(node, path, "a rank, all or none");
    });
    ReadIf(top, "checkpoint",
           [&](const YamlNode& node, const std::string& path) { ReadCheckpoint(node, path, &job.checkpoint); });
    ReadIf(top, "recovery", [&](const YamlNode& node, const std::string& path) { ReadRecovery(node, path, &job.recovery); });
    ReadIf(top, "starter", [&](const YamlNode& node, const std::string& path) {
      ReadIf(Open(node, path, path), "ssh",
             [&](const YamlNode& ssh, const std::string& below) { ReadSsh(ssh, below, &job.ssh); });
    });
    ReadIf(top, "kubernetes", [&](const YamlNode& node, const std::string& path) {
      job.has_kubernetes = Place(node, true);
      ReadKubernetes(node, path, &job.kubernetes);
    });
    return job;
  }

  absl::Status status() {
    if (errors_.empty()) return absl::OkStatus();
    std::stable_sort(errors_.begin(), errors_.end(), [](const Error& a, const Error& b) { return a.line < b.line; });
    std::vector<std::string> lines;
    for (const Error& error : errors_) lines.push_back(error.text);
    if (lines.size() > kJobFileErrorsMax) {
      const size_t more = lines.size() - kJobFileErrorsMax + 1;
      lines.resize(kJobFileErrorsMax - 1);
      lines.push_back(absl::StrCat(file_, ": and ", more, " more"));
    }
    return absl::InvalidArgumentError(absl::StrJoin(lines, "\n"));
  }

 private:
  struct Error {
    int line;
    std::string text;
  };
  struct Section {
    std::string path;
    std::map<std::string, const YamlNode*> values;
  };

  void Wrong(const YamlNode& node, const std::string& path, absl::string_view what) {
    errors_.push_back({node.line, OneLine(absl::StrCat(file_, ":", node.line, ":", node.column, ": ", path,
                                                       path.empty() ? "" : ": ", what))});
  }

  template <typename T>
  static Located<T> Place(const YamlNode& node, T value) {
    return {std::move(value), node.line, node.column};
  }

  // The values of a section by name; says what does not belong there.
  Section Open(const YamlNode& node, const std::string& path, const std::string& kind) {
    Section section;
    section.path = path;
    const std::vector<std::string>& names = Fields().at(kind);
    if (node.kind != YamlNode::Kind::kMap) {
      Wrong(node, path,
            absl::StrCat(path.empty() ? "the file" : "this", " is a section with fields (", absl::StrJoin(names, ", "),
                         "), such as ", names[0], ": VALUE on a line of its own"));
      return section;
    }
    std::map<std::string, int> lines;
    for (const auto& [key, value] : node.pairs) {
      if (key.kind != YamlNode::Kind::kScalar) {
        Wrong(key, path, "a field's name is a word");
        continue;
      }
      const auto [first, is_new] = lines.emplace(key.text, key.line);
      if (!is_new) {
        Wrong(key, Joined(path, key.text), absl::StrCat("said twice, first in line ", first->second, "; leave one out"));
        continue;
      }
      if (std::find(names.begin(), names.end(), key.text) == names.end()) {
        Unknown(key, path, kind, names);
        continue;
      }
      section.values[key.text] = &value;
    }
    return section;
  }

  void Unknown(const YamlNode& key, const std::string& path, const std::string& kind, const std::vector<std::string>& names) {
    const std::string field = Joined(path, std::string(absl::StripSuffix(absl::StripPrefix(Shown(key.text), "\""), "\"")));
    if (const std::string nearest = NearestName(key.text, names); !nearest.empty()) {
      return Wrong(key, field, absl::StrCat("there is no such field; did you mean ", nearest, "?"));
    }
    for (const auto& [section, fields] : Fields()) {
      if (section == kind || std::find(fields.begin(), fields.end(), key.text) == fields.end()) continue;
      return Wrong(key, field,
                   section.empty() ? "belongs to the file's first level; do not indent it"
                                   : absl::StrCat("there is no such field here; it belongs under ", section, ":"));
    }
    Wrong(key, field,
          absl::StrCat("there is no such field; ", path.empty() ? "a job" : path, " has ", absl::StrJoin(names, ", ")));
  }

  void ReadIf(const Section& section, const std::string& name,
              const std::function<void(const YamlNode& node, const std::string& path)>& read) {
    const auto value = section.values.find(name);
    if (value != section.values.end()) read(*value->second, Joined(section.path, name));
  }

  // --- Values ---

  bool IsScalar(const YamlNode& node, const std::string& path, absl::string_view wanted) {
    if (node.kind == YamlNode::Kind::kScalar) return true;
    Wrong(node, path,
          absl::StrCat("is ", wanted,
                       node.kind == YamlNode::Kind::kNull   ? "; there is nothing here"
                       : node.kind == YamlNode::Kind::kList ? ", not a list"
                                                            : ", not a section"));
    return false;
  }

  Field<int64_t> Count(const YamlNode& node, const std::string& path, int64_t least, int64_t most) {
    const std::string wanted = absl::StrCat("a whole number from ", least, " to ", most);
    if (!IsScalar(node, path, wanted)) return {};
    int64_t number = 0;
    if (!absl::SimpleAtoi(node.text, &number) || number < least || number > most) {
      Wrong(node, path, absl::StrCat("is ", wanted, ", not ", Shown(node.text)));
      return {};
    }
    if (node.quoted) {
      Wrong(node, path, absl::StrCat("is a number; write ", number, " without quotes"));
      return {};
    }
    return Place(node, number);
  }

  Field<std::string> Text(const YamlNode& node, const std::string& path, absl::string_view wanted) {
    if (!IsScalar(node, path, wanted)) return {};
    if (node.text.empty()) {
      Wrong(node, path, absl::StrCat("is ", wanted, "; it is empty"));
      return {};
    }
    return Place(node, node.text);
  }

  // Source: RFC 1123, as Kubernetes wants its names.
  Field<std::string> Label(const YamlNode& node, const std::string& path, bool dots = false) {
    auto text = Text(node, path, "a name");
    if (!text) return {};
    const auto inside = [dots](char c) {
      return absl::ascii_islower(static_cast<unsigned char>(c)) || absl::ascii_isdigit(static_cast<unsigned char>(c)) ||
             c == '-' || (dots && c == '.');
    };
    const auto at_end = [](char c) { return absl::ascii_isalnum(static_cast<unsigned char>(c)); };
    const std::string& name = text->value;
    if (name.size() > (dots ? 253u : 63u) || !std::all_of(name.begin(), name.end(), inside) || !at_end(name.front()) ||
        !at_end(name.back())) {
      Wrong(node, path,
            absl::StrCat(Shown(name), " is no name; it holds at most ", dots ? 253 : 63,
                         " small letters, digits and '-', with a letter or digit at both ends"));
      return {};
    }
    return text;
  }

  Field<std::vector<std::string>> Texts(const YamlNode& node, const std::string& path, const std::string& example) {
    if (node.kind != YamlNode::Kind::kList) {
      Wrong(node, path,
            absl::StrCat("is a list; write [",
                         node.kind == YamlNode::Kind::kScalar && !absl::StrContains(node.text, ' ') && !node.text.empty()
                             ? node.text
                             : example,
                         ", ...]"));
      return {};
    }
    std::vector<std::string> texts;
    for (size_t i = 0; i < node.items.size(); ++i) {
      const std::string place = absl::StrCat(path, "[", i, "]");
      if (!IsScalar(node.items[i], place, "a word")) continue;
      if (absl::StrContains(node.items[i].text, '\0')) {
        Wrong(node.items[i], place, "no word can hold a NUL");
        continue;
      }
      texts.push_back(node.items[i].text);
    }
    if (texts.empty() || texts[0].empty()) {
      if (texts.size() == node.items.size()) Wrong(node, path, absl::StrCat("names nothing; write [", example, ", ...]"));
      return {};
    }
    return Place(node, std::move(texts));
  }

  Field<std::vector<std::pair<std::string, std::string>>> Environment(const YamlNode& node, const std::string& path) {
    if (node.kind != YamlNode::Kind::kMap) {
      Wrong(node, path, "is a section of variables: NAME: \"value\"");
      return {};
    }
    std::vector<std::pair<std::string, std::string>> settings;
    std::set<std::string> names;
    for (const auto& [key, value] : node.pairs) {
      const bool good = key.kind == YamlNode::Kind::kScalar && !key.text.empty() && !absl::StrContains(key.text, '=') &&
                        !absl::StrContains(key.text, '\0');
      if (!good) {
        Wrong(key, path, "a variable's name is a word without '='");
        continue;
      }
      const std::string place = Joined(path, key.text);
      if (!names.insert(key.text).second) {
        Wrong(key, place, "said twice; leave one out");
        continue;
      }
      if (!IsScalar(value, place, "a variable's value, in quotes where it is empty")) continue;
      if (absl::StrContains(value.text, '\0')) {
        Wrong(value, place, "no variable can hold a NUL");
        continue;
      }
      settings.emplace_back(key.text, value.text);
    }
    return Place(node, std::move(settings));
  }

  // "5s", "1m30s".
  Field<double> Duration(const YamlNode& node, const std::string& path) {
    constexpr absl::string_view kWanted = "a time above 0 with its unit, such as 5s, 1m30s or 500ms";
    if (!IsScalar(node, path, kWanted)) return {};
    absl::Duration time;
    if (!absl::ParseDuration(node.text, &time) || time <= absl::ZeroDuration() || time > absl::Hours(24 * 365)) {
      Wrong(node, path, absl::StrCat("is ", kWanted, ", not ", Shown(node.text)));
      return {};
    }
    return Place(node, absl::ToDoubleSeconds(time));
  }

  // Digits, perhaps with a point, times the suffix. Source: Kubernetes, resource.Quantity (its exponents are not taken).
  Field<int64_t> Quantity(const YamlNode& node, const std::string& path, const std::string& wanted,
                          const std::vector<std::pair<std::string, double>>& suffixes) {
    if (!IsScalar(node, path, wanted)) return {};
    absl::string_view digits = node.text;
    double factor = suffixes[0].second;
    for (const auto& [suffix, times] : suffixes) {
      if (suffix.empty() || !absl::EndsWith(digits, suffix)) continue;
      digits.remove_suffix(suffix.size());
      factor = times;
      break;
    }
    double number = 0;
    const bool plain = !digits.empty() && std::all_of(digits.begin(), digits.end(), [](char c) {
      return absl::ascii_isdigit(static_cast<unsigned char>(c)) || c == '.';
    });
    if (!plain || digits.size() > 18 || !absl::SimpleAtod(digits, &number) || number * factor < 1 || number * factor > 9e15) {
      Wrong(node, path, absl::StrCat("is ", wanted, ", not ", Shown(node.text)));
      return {};
    }
    return Place(node, static_cast<int64_t>(number * factor + 0.5));
  }

  Field<int64_t> Bytes(const YamlNode& node, const std::string& path, const std::string& what) {
    constexpr double kKi = 1024;
    return Quantity(node, path, absl::StrCat(what, " above 0, such as 512Mi, 4Gi or 2G"),
                    {{"", 1},
                     {"Ki", kKi},
                     {"Mi", kKi * kKi},
                     {"Gi", kKi * kKi * kKi},
                     {"Ti", kKi * kKi * kKi * kKi},
                     {"k", 1e3},
                     {"M", 1e6},
                     {"G", 1e9},
                     {"T", 1e12}});
  }

  Field<double> WholeSeconds(const YamlNode& node, const std::string& path) {
    auto seconds = Duration(node, path);
    if (!seconds || seconds->value == static_cast<double>(static_cast<int64_t>(seconds->value))) return seconds;
    Wrong(node, path, "is a time of whole seconds, such as 90s or 2h");
    return {};
  }

  Field<std::string> OneOf(const YamlNode& node, const std::string& path, const std::vector<std::string>& words) {
    auto text = Text(node, path, absl::StrJoin(words, ", "));
    if (!text || std::find(words.begin(), words.end(), text->value) != words.end()) return text;
    const std::string nearest = NearestName(text->value, words);
    Wrong(node, path, absl::StrCat(nearest.empty() ? absl::StrCat("is one of ", absl::StrJoin(words, ", ")) : "", nearest.empty() ? ", not " : "there is no ",
                                   Shown(text->value), nearest.empty() ? "" : absl::StrCat("; did you mean ", nearest, "?")));
    return {};
  }

  // "nvidia.com/gpu", "zone". Source: Kubernetes, qualified names (k8s.io/apimachinery, IsQualifiedName).
  Field<std::string> QualifiedName(const YamlNode& node, const std::string& path, bool needs_prefix = false) {
    auto text = Text(node, path, "a name such as example.com/name");
    if (!text) return {};
    const size_t slash = text->value.find('/');
    const absl::string_view whole = text->value;
    const absl::string_view prefix = slash == std::string::npos ? "" : whole.substr(0, slash);
    const absl::string_view name = slash == std::string::npos ? whole : whole.substr(slash + 1);
    const auto alnum = [](char c) { return absl::ascii_isalnum(static_cast<unsigned char>(c)); };
    const auto inside = [&](char c) { return alnum(c) || c == '-' || c == '_' || c == '.'; };
    const auto good = [&](absl::string_view part, size_t most) {
      return !part.empty() && part.size() <= most && std::all_of(part.begin(), part.end(), inside) && alnum(part.front()) && alnum(part.back());
    };
    if (!good(name, 63) || (slash != std::string::npos && !good(prefix, 253)) || (needs_prefix && slash == std::string::npos)) {
      Wrong(node, path, absl::StrCat("is a name such as example.com/name, not ", Shown(text->value)));
      return {};
    }
    return text;
  }

  Field<std::vector<std::pair<std::string, std::string>>> NodeLabels(const YamlNode& node, const std::string& path) {
    if (node.kind != YamlNode::Kind::kMap) {
      Wrong(node, path, "is a section of node labels: example.com/name: \"value\"");
      return {};
    }
    std::vector<std::pair<std::string, std::string>> labels;
    for (const auto& [key, value] : node.pairs) {
      const auto name = QualifiedName(key, path);
      const std::string place = Joined(path, key.text);
      if (!name || !IsScalar(value, place, "a label's value, in quotes where it is empty")) continue;
      labels.emplace_back(name->value, value.text);
    }
    return Place(node, std::move(labels));
  }

  // --- Sections ---

  void ReadWorkers(const YamlNode& node, const std::string& path, JobFile::Workers* workers) {
    const Section section = Open(node, path, "workers");
    const auto count = [this](Field<int64_t>* field) {
      return [this, field](const YamlNode& value, const std::string& place) { *field = Count(value, place, 1, kCountMax); };
    };
    ReadIf(section, "min", count(&workers->min));
    ReadIf(section, "max", count(&workers->max));
    ReadIf(section, "per_node", count(&workers->per_node));
    if (workers->min && workers->max && workers->min->value > workers->max->value) {
      Wrong(*section.values.at("min"), Joined(path, "min"),
            absl::StrCat(workers->min->value, " is more than ", path, ".max, which is ", workers->max->value));
    }
    if (workers->per_node && workers->max && workers->per_node->value > workers->max->value) {
      Wrong(*section.values.at("per_node"), Joined(path, "per_node"),
            absl::StrCat(workers->per_node->value, " is more than ", path, ".max, which is ", workers->max->value));
    }
  }

  void ReadResources(const YamlNode& node, const std::string& path, JobFile::Resources* resources) {
    const Section section = Open(node, path, "resources");
    ReadIf(section, "cpu", [&](const YamlNode& value, const std::string& place) {
      resources->cpu_millis =
          Quantity(value, place, "a number of cores above 0, such as 2, 0.5 or 500m", {{"", 1e3}, {"m", 1}});
    });
    ReadIf(section, "memory", [&](const YamlNode& value, const std::string& place) {
      resources->memory_bytes = Bytes(value, place, "an amount of memory");
    });
    ReadIf(section, "gpu",
           [&](const YamlNode& value, const std::string& place) { resources->gpu = Count(value, place, 0, 1024); });
  }

  void ReadPlacement(const YamlNode& node, const std::string& path, JobFile::Placement* placement) {
    const Section section = Open(node, path, "placement");
    const auto word = [this](Field<std::string>* field) {
      return [this, field](const YamlNode& value, const std::string& place) {
        *field = Text(value, place, "a word such as core");
      };
    };
    ReadIf(section, "map_by", word(&placement->map_by));
    ReadIf(section, "rank_by", word(&placement->rank_by));
    ReadIf(section, "bind_to", word(&placement->bind_to));
  }

  void ReadOutput(const YamlNode& node, const std::string& path, JobFile::Output* output) {
    const Section section = Open(node, path, "output");
    ReadIf(section, "marks",
           [&](const YamlNode& value, const std::string& place) { output->marks = Texts(value, place, "rank"); });
    ReadIf(section, "files", [&](const YamlNode& value, const std::string& place) {
      output->files = Text(value, place, "a folder or a pattern");
    });
  }

  void ReadTopology(const YamlNode& node, const std::string& path, JobFile::Topology* topology) {
    const Section section = Open(node, path, "topology");
    ReadIf(section, "files", [&](const YamlNode& value, const std::string& place) {
      topology->files = Texts(value, place, "slurm:/etc/slurm/topology.conf");
    });
    ReadIf(section, "label_keys", [&](const YamlNode& value, const std::string& place) {
      const auto keys = Texts(value, place, "example.com/row");
      if (keys) topology->label_keys = Place(value, absl::StrJoin(keys->value, ","));
    });
  }

  void ReadNccl(const YamlNode& node, const std::string& path, JobFile::Nccl* nccl) {
    const Section section = Open(node, path, "nccl");
    ReadIf(section, "environment",
           [&](const YamlNode& value, const std::string& place) { nccl->environment = Text(value, place, "auto or off"); });
  }

  void ReadCheckpoint(const YamlNode& node, const std::string& path, JobFile::Checkpoint* checkpoint) {
    const Section section = Open(node, path, "checkpoint");
    ReadIf(section, "path",
           [&](const YamlNode& value, const std::string& place) { checkpoint->path = Text(value, place, "a folder"); });
    ReadIf(section, "every_steps", [&](const YamlNode& value, const std::string& place) {
      checkpoint->every_steps = Count(value, place, 1, kStepsMax);
    });
    ReadIf(section, "keep",
           [&](const YamlNode& value, const std::string& place) { checkpoint->keep = Count(value, place, 1, kCountMax); });
    for (const char* name : {"every_steps", "keep"}) {
      const auto value = section.values.find(name);
      if (value == section.values.end() || section.values.count("path") > 0) continue;
      Wrong(*value->second, Joined(path, name), absl::StrCat("needs ", path, ".path: the folder that checkpoints go to"));
    }
  }

  void ReadRecovery(const YamlNode& node, const std::string& path, JobFile::Recovery* recovery) {
    const Section section = Open(node, path, "recovery");
    ReadIf(section, "max_restarts", [&](const YamlNode& value, const std::string& place) {
      recovery->max_restarts = Count(value, place, 0, kCountMax);
    });
    ReadIf(section, "spares",
           [&](const YamlNode& value, const std::string& place) { recovery->spares = Count(value, place, 0, kCountMax); });
    ReadIf(section, "last_call",
           [&](const YamlNode& value, const std::string& place) { recovery->last_call_seconds = Duration(value, place); });
  }

  void ReadSsh(const YamlNode& node, const std::string& path, JobFile::Ssh* ssh) {
    const Section section = Open(node, path, "starter.ssh");
    ReadIf(section, "hosts", [&](const YamlNode& value, const std::string& place) {
      ssh->hosts = Texts(value, place, "node-a:2");
      for (size_t i = 0; ssh->hosts && i < value.items.size(); ++i) {
        const auto parsed = ParseHostList(absl::StrCat(place, "[", i, "]"), value.items[i].text);
        if (!parsed.ok()) Wrong(value.items[i], "", parsed.status().message());
      }
    });
    ReadIf(section, "hostfile",
           [&](const YamlNode& value, const std::string& place) { ssh->hostfile = Text(value, place, "a file of hosts"); });
    ReadIf(section, "remote_muster", [&](const YamlNode& value, const std::string& place) {
      ssh->remote_muster = Text(value, place, "a path of muster");
    });
    if (section.values.count("hosts") > 0 && section.values.count("hostfile") > 0) {
      Wrong(*section.values.at("hostfile"), Joined(path, "hostfile"), "the hosts are named twice; leave hosts or hostfile out");
    }
  }

  void ReadKubernetes(const YamlNode& node, const std::string& path, JobFile::Kubernetes* kubernetes) {
    const Section section = Open(node, path, "kubernetes");
    ReadIf(section, "image", [&](const YamlNode& value, const std::string& place) {
      kubernetes->image = Text(value, place, "the name of an image");
      const auto is_blank = [](char c) { return !absl::ascii_isgraph(static_cast<unsigned char>(c)); };
      if (kubernetes->image && std::any_of(value.text.begin(), value.text.end(), is_blank)) {
        Wrong(value, place, "the name of an image has no blanks");
      }
    });
    ReadIf(section, "namespace",
           [&](const YamlNode& value, const std::string& place) { kubernetes->name_space = Label(value, place); });
    ReadIf(section, "queue", [&](const YamlNode& value, const std::string& place) { kubernetes->queue = Label(value, place); });
    ReadKubernetesNumbers(section, kubernetes);
    const auto label = [this](Field<std::string>* field) {
      return [this, field](const YamlNode& value, const std::string& place) { *field = Label(value, place, true); };
    };
    ReadIf(section, "record", label(&kubernetes->record));
    ReadIf(section, "device_class", label(&kubernetes->device_class));
    ReadIf(section, "priority_class", label(&kubernetes->priority_class));
    ReadIf(section, "gpu_resource", [&](const YamlNode& value, const std::string& place) {
      kubernetes->gpu_resource = QualifiedName(value, place, true);
      if (section.values.count("device_class") > 0) Wrong(value, place, "GPUs are asked for twice; leave device_class or gpu_resource out");
    });
    ReadIf(section, "mesh", [&](const YamlNode& value, const std::string& place) {
      kubernetes->mesh = OneOf(value, place, {"none", "istio", "linkerd"});
    });
    ReadIf(section, "join",
           [&](const YamlNode& value, const std::string& place) { kubernetes->join = OneOf(value, place, {"key", "token"}); });
    ReadIf(section, "topology", [&](const YamlNode& value, const std::string& place) { ReadTopology(value, place, kubernetes); });
    ReadIf(section, "node_selector",
           [&](const YamlNode& value, const std::string& place) { kubernetes->node_selector = NodeLabels(value, place); });
    ReadIf(section, "tolerations", [&](const YamlNode& value, const std::string& place) {
      if (value.kind != YamlNode::Kind::kList) return Wrong(value, place, "is a list; write [{key: NAME, effect: NoSchedule}]");
      for (size_t i = 0; i < value.items.size(); ++i) ReadToleration(value.items[i], absl::StrCat(place, "[", i, "]"), kubernetes);
    });
    ReadIf(section, "volumes", [&](const YamlNode& value, const std::string& place) {
      if (value.kind != YamlNode::Kind::kList) return Wrong(value, place, "is a list; write [{claim: NAME, path: /FOLDER}]");
      for (size_t i = 0; i < value.items.size(); ++i) ReadVolume(value.items[i], absl::StrCat(place, "[", i, "]"), kubernetes);
    });
  }

  void ReadKubernetesNumbers(const Section& section, JobFile::Kubernetes* kubernetes) {
    const auto seconds = [this](Field<double>* field) {
      return [this, field](const YamlNode& value, const std::string& place) { *field = WholeSeconds(value, place); };
    };
    const auto count = [this](Field<int64_t>* field, int64_t least, int64_t most) {
      return [=, this](const YamlNode& value, const std::string& place) { *field = Count(value, place, least, most); };
    };
    ReadIf(section, "grace", seconds(&kubernetes->grace_seconds));
    ReadIf(section, "deadline", seconds(&kubernetes->deadline_seconds));
    ReadIf(section, "keep_finished", seconds(&kubernetes->keep_finished_seconds));
    ReadIf(section, "retries", count(&kubernetes->retries, 0, 1000));
    ReadIf(section, "user", count(&kubernetes->user, 1, 0x7fffffff));
    ReadIf(section, "port", count(&kubernetes->port, 1024, 65535));
    ReadIf(section, "shm", [&](const YamlNode& value, const std::string& place) {
      kubernetes->shm_bytes = Bytes(value, place, "an amount of memory");
    });
  }

  void ReadTopology(const YamlNode& node, const std::string& path, JobFile::Kubernetes* kubernetes) {
    const Section section = Open(node, path, "kubernetes.topology");
    ReadIf(section, "required", [&](const YamlNode& value, const std::string& place) {
      kubernetes->topology_required = QualifiedName(value, place);
    });
    ReadIf(section, "preferred", [&](const YamlNode& value, const std::string& place) {
      kubernetes->topology_preferred = QualifiedName(value, place);
    });
    if (section.values.size() == 2) Wrong(node, path, "asks for two things; leave required or preferred out");
  }

  void ReadToleration(const YamlNode& node, const std::string& path, JobFile::Kubernetes* kubernetes) {
    const Section section = Open(node, path, "kubernetes.tolerations[]");
    JobFile::Toleration& toleration = kubernetes->tolerations.emplace_back();
    ReadIf(section, "key", [&](const YamlNode& value, const std::string& place) { toleration.key = QualifiedName(value, place); });
    ReadIf(section, "value", [&](const YamlNode& value, const std::string& place) { toleration.value = Text(value, place, "a taint's value"); });
    ReadIf(section, "effect", [&](const YamlNode& value, const std::string& place) {
      toleration.effect = OneOf(value, place, {"NoSchedule", "PreferNoSchedule", "NoExecute"});
    });
    if (node.kind == YamlNode::Kind::kMap && section.values.count("key") == 0) {
      Wrong(node, path, "lacks key; a toleration is {key: NAME, value: TEXT, effect: NoSchedule}");
    }
  }

  void ReadVolume(const YamlNode& node, const std::string& path, JobFile::Kubernetes* kubernetes) {
    const Section section = Open(node, path, "kubernetes.volumes[]");
    JobFile::Volume& volume = kubernetes->volumes.emplace_back();
    ReadIf(section, "claim",
           [&](const YamlNode& value, const std::string& place) { volume.claim = Label(value, place, true); });
    ReadIf(section, "path", [&](const YamlNode& value, const std::string& place) {
      volume.path = Text(value, place, "a folder");
      if (volume.path && value.text[0] != '/') Wrong(value, place, "is the folder's whole path, which begins with '/'");
    });
    ReadIf(section, "size", [&](const YamlNode& value, const std::string& place) { volume.size_bytes = Bytes(value, place, "an amount of storage"); });
    ReadIf(section, "class", [&](const YamlNode& value, const std::string& place) {
      volume.storage_class = Label(value, place, true);
      if (section.values.count("size") == 0) Wrong(value, place, "needs size: the claim is made only then");
    });
    if (node.kind != YamlNode::Kind::kMap) return;
    for (const char* name : {"claim", "path"}) {
      if (section.values.count(name) == 0)
        Wrong(node, path, absl::StrCat("lacks ", name, "; a volume is {claim: NAME, path: /FOLDER}"));
    }
  }

  const std::string file_;
  std::vector<Error> errors_;
};

}  // namespace

absl::StatusOr<JobFile> ParseJobFile(const std::string& file, absl::string_view text) {
  if (text.size() > kJobFileBytesMax) {
    return absl::InvalidArgumentError(
        absl::StrCat(file, ": has more than ", kJobFileBytesMax, " bytes, which no job file has"));
  }
  MUSTER_ASSIGN_OR_RETURN(const YamlNode root, ReadYaml(file, text));
  Reader reader(file);
  JobFile job = reader.Read(root);
  MUSTER_RETURN_IF_ERROR(reader.status());
  return job;
}

std::vector<std::string> JobFileFields() {
  std::vector<std::string> paths;
  for (const auto& [section, fields] : Fields()) {
    for (const std::string& field : fields) {
      const std::string path = Joined(section, field);
      if (!Fields().contains(path) && !Fields().contains(path + "[]")) paths.push_back(path);
    }
  }
  return paths;
}

}  // namespace muster
