#include "launcher/process/own_place.h"

#include <fstream>
#include <iterator>
#include <optional>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "launcher/labels/kubernetes_labels.h"
#include "launcher/labels/slurm_labels.h"

namespace muster {
namespace {

constexpr size_t kPodLabelsMax = 1 << 20;

std::optional<std::string> Find(const std::vector<std::string>& environment, const std::string& name) {
  for (const std::string& setting : environment) {
    if (absl::StartsWith(setting, name + "=")) return setting.substr(name.size() + 1);
  }
  return {};
}

void Fill(const std::vector<Label>& path, v1::NetworkPlace* place) {
  for (const Label& label : path) {
    v1::NetworkLabel* one = place->add_path();
    one->set_level(label.level);
    one->set_value(label.value);
  }
}

void ReadPodLabels(const std::string& path, const std::string& keys, const std::string& host, v1::NetworkPlace* place) {
  place->set_source("the labels of the pod");
  std::ifstream file(path, std::ios::binary);
  std::string text(kPodLabelsMax, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!file.is_open() || file.bad()) {
    place->set_note(
        absl::StrCat("host ", host, ": MUSTER_POD_LABELS=", path, " cannot be read: where the node stands is not known"));
    return;
  }
  text.resize(static_cast<size_t>(file.gcount()));
  std::optional<LabelDialect> own_keys;
  if (!keys.empty()) {
    auto parsed = ParseLabelKeys(keys);
    if (!parsed.ok()) {
      place->set_note(absl::StrCat("host ", host, ": MUSTER_LABEL_KEYS: ", parsed.status().message(),
                                   ": where the node stands is not known"));
      return;
    }
    own_keys = *std::move(parsed);
  }
  const auto sets = ReadDownwardLabels(path, text, host, own_keys ? &*own_keys : nullptr);
  if (!sets.ok()) {
    place->set_note(absl::StrCat("host ", host, ": ", sets.status().message(), ": where the node stands is not known"));
  } else if (!sets->empty()) {
    Fill(sets->front().nodes[0].path, place);
  }
}

}  // namespace

v1::NetworkPlace FindOwnPlace(const std::vector<std::string>& environment, const std::string& host) {
  v1::NetworkPlace place;
  const auto address = Find(environment, "SLURM_TOPOLOGY_ADDR"), pattern = Find(environment, "SLURM_TOPOLOGY_ADDR_PATTERN");
  if (address && pattern) {
    place.set_source("Slurm");
    const auto labels = ReadSlurmAddress(*address, *pattern);
    if (!labels.ok()) {
      place.set_note(absl::StrCat("host ", host, ": ", labels.status().message()));
    } else if (!labels->path.empty()) {
      Fill(labels->path, &place);
    }
    if (!place.path().empty() || !place.note().empty()) return place;
    place.Clear();  // Slurm without a network
  }
  if (const auto path = Find(environment, "MUSTER_POD_LABELS"); path && !path->empty()) {
    ReadPodLabels(*path, Find(environment, "MUSTER_LABEL_KEYS").value_or(""), host, &place);
  }
  return place;
}

}  // namespace muster
