#include "launcher/cli/run_network.h"

#include <optional>
#include <string>
#include <vector>

#include "launcher/labels/network.h"
#include "runtime/base/status.h"

namespace muster {

void DeclareNetwork(FlagSet* flags, NetworkOptions* options) {
  DeclareTopologyFiles(flags, "--topology-file", &options->files);
}

absl::Status TakeNetwork(bool order_is_chosen, NetworkOptions* options) {
  MUSTER_ASSIGN_OR_RETURN(const std::optional<LabelDialect> keys, OwnLabelKeys(options->files));
  const auto files = ReadTopologyFiles("--topology-file", options->files);
  if (!files.ok()) return absl::InvalidArgumentError(files.status().message());
  const auto sources = ReadNetworkFiles(*files, keys ? &*keys : nullptr, "");
  if (!sources.ok()) return absl::FailedPreconditionError(sources.status().message());
  options->knowledge.set_order_is_chosen(order_is_chosen);
  options->knowledge.set_label_keys(options->files.label_keys);
  for (size_t i = 0; i < files->size(); ++i) {
    v1::NetworkFile* file = options->knowledge.add_files();
    file->set_name(options->files.files[i]);
    file->set_text((*files)[i].text);
  }
  return absl::OkStatus();
}

}  // namespace muster
