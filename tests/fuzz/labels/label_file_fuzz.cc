// Files that say where nodes stand, of every kind: the first byte chooses it. Whatever is in them, there is an error with words, or labels
// within their bounds of which a cluster can be made.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "absl/strings/string_view.h"
#include "launcher/labels/device_metadata.h"
#include "launcher/labels/label_file.h"
#include "launcher/labels/network.h"
#include "launcher/labels/slurm_labels.h"

namespace muster {
namespace {

void Expect(bool good) {
  if (!good) std::abort();
}

void CheckFile(LabelFileKind kind, absl::string_view text) {
  LabelFile file;
  file.kind = kind;
  file.path = "file";
  const auto sources = ReadNetworkFiles({{file, std::string(text)}}, nullptr, "me");
  if (!sources.ok()) return Expect(!sources.status().message().empty());
  for (const NetworkSource& source : *sources) {
    Expect(source.labels.nodes.size() <= kLabelledNodesMax);
    for (const NodeLabels& node : source.labels.nodes) Expect(node.path.size() <= kLabelDepthMax);
  }
  const auto network = KnowNetwork(*sources, {});
  Expect(network.ok() || !network.status().message().empty());
}

void CheckAddress(absl::string_view text) {
  const size_t line = text.find('\n');
  const auto labels = ReadSlurmAddress(text.substr(0, line), line == absl::string_view::npos ? "" : text.substr(line + 1));
  if (labels.ok()) Expect(!labels->node.empty() && labels->path.size() <= kLabelDepthMax);
}

}  // namespace
}  // namespace muster

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const absl::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0]) {
    case 'c':
      muster::CheckFile(muster::LabelFileKind::kCluster, text);
      break;
    case 's':
      muster::CheckFile(muster::LabelFileKind::kSlurmConf, text);
      break;
    case 'y':
      muster::CheckFile(muster::LabelFileKind::kSlurmYaml, text);
      break;
    case 'k':
      muster::CheckFile(muster::LabelFileKind::kKubernetes, text);
      break;
    case 'p':
      muster::CheckFile(muster::LabelFileKind::kPodLabels, text);
      break;
    case 'd':
      (void)muster::ReadDeviceMetadata("file", text);
      break;
    default:
      muster::CheckAddress(text);
  }
  return 0;
}
