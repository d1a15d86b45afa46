#include "launcher/labels/label_file.h"

#include <iterator>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "launcher/hosts/host_name.h"
#include "launcher/labels/slurm_labels.h"
#include "runtime/base/nearest_name.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

struct KindName {
  const char* name;
  LabelFileKind kind;
};
constexpr KindName kKinds[] = {{"cluster", LabelFileKind::kCluster},
                               {"slurm", LabelFileKind::kSlurmConf},
                               {"slurm-yaml", LabelFileKind::kSlurmYaml},
                               {"kubernetes", LabelFileKind::kKubernetes},
                               {"pod-labels", LabelFileKind::kPodLabels}};

std::vector<std::string> KindNames() {
  std::vector<std::string> names;
  for (const KindName& kind : kKinds) names.emplace_back(kind.name);
  return names;
}

// The first line that says anything.
absl::string_view FirstLine(absl::string_view text) {
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    line = absl::StripAsciiWhitespace(line);
    if (!line.empty() && line[0] != '#' && line != "---") return line;
  }
  return "";
}

}  // namespace

absl::StatusOr<LabelFile> ParseLabelFile(const std::string& word) {
  LabelFile file;
  file.path = word;
  const size_t colon = word.find(':');
  if (colon != std::string::npos) {
    const std::string before = word.substr(0, colon);
    const std::pair<std::string, std::string> halves = absl::StrSplit(before, absl::MaxSplits('/', 1));
    for (const KindName& kind : kKinds) {
      if (halves.first != kind.name || (!halves.second.empty() && kind.kind != LabelFileKind::kSlurmYaml)) continue;
      file.kind = kind.kind;
      file.topology = halves.second;
      file.path = word.substr(colon + 1);
    }
    const std::string nearest = NearestName(before, KindNames());
    if (file.kind == LabelFileKind::kGuess && !nearest.empty()) {
      return absl::InvalidArgumentError(absl::StrCat("there is no kind ", Shown(before), "; did you mean ", nearest, ":?"));
    }
  }
  if (file.path.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("\"", Shown(word), "\" names no file; write FILE or KIND:FILE with one of ",
                                                   absl::StrJoin(KindNames(), ", ")));
  }
  return file;
}

LabelFileKind GuessKind(absl::string_view text) {
  const std::string line = absl::AsciiStrToLower(FirstLine(text));
  if (absl::StartsWith(line, "{")) return LabelFileKind::kKubernetes;
  if (absl::StartsWith(line, "- topology") || absl::StartsWith(line, "- {topology")) return LabelFileKind::kSlurmYaml;
  const size_t end = line.find_first_of("=: ");
  if (end == std::string::npos) return LabelFileKind::kSlurmConf;
  if (line[end] == '=') {
    const bool quoted = line.size() > end + 2 && line[end + 1] == '"' && absl::StrContains(line.substr(0, end), '/');
    return quoted ? LabelFileKind::kPodLabels : LabelFileKind::kSlurmConf;
  }
  return line[end] == ':' ? LabelFileKind::kCluster : LabelFileKind::kSlurmConf;
}

absl::StatusOr<std::vector<LabelSet>> ReadLabelFile(const LabelFile& file, LabelFileKind kind, absl::string_view text,
                                                    const LabelDialect* own_keys, const std::string& own_node) {
  if (text.size() > kLabelFileBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat(file.path, ": has more than ", kLabelFileBytesMax >> 20, " MiB"));
  }
  if (kind == LabelFileKind::kKubernetes) return ReadKubernetesNodes(file.path, text, own_keys);
  if (kind == LabelFileKind::kPodLabels) return ReadDownwardLabels(file.path, text, own_node, own_keys);
  std::vector<LabelSet> sets(1);
  if (kind == LabelFileKind::kSlurmYaml) {
    MUSTER_ASSIGN_OR_RETURN(sets[0], ReadSlurmTopologyYaml(file.path, text, file.topology));
  } else {
    MUSTER_ASSIGN_OR_RETURN(sets[0], ReadSlurmTopologyConf(file.path, text));
  }
  return sets;
}

}  // namespace muster
