#include "launcher/cli/run_network.h"

#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "launcher/labels/network.h"
#include "runtime/base/status.h"

namespace muster {

void DeclareNetwork(FlagSet* flags, NetworkOptions* options) {
  DeclareTopologyFiles(flags, "--topology-file", &options->files);
  flags->Text("--nccl-environment", "WAY", &options->nccl_environment,
              "auto (default): workers on several nodes are told by NCCL_* variables\n"
              "which NICs NCCL is to take, unless you say it (docs/nccl.md); off: nothing");
  flags->Choices("--nccl-environment", {"auto", "off"});
}

absl::Status CheckNcclEnvironment(const std::string& word) {
  if (word == "auto" || word == "off") return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("--nccl-environment ", word, " is not known; write auto or off"));
}

absl::Status TakeNetwork(bool order_is_chosen, NetworkOptions* options) {
  MUSTER_RETURN_IF_ERROR(CheckNcclEnvironment(options->nccl_environment));
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

void AddNetwork(const NetworkOptions& options, v1::Launch* launch) {
  *launch->mutable_network() = options.knowledge;
  launch->mutable_job()->set_nccl_environment_off(options.nccl_environment == "off");
}

}  // namespace muster
