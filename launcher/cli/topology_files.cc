#include "launcher/cli/topology_files.h"

#include <fstream>
#include <iostream>
#include <istream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

absl::StatusOr<std::string> ReadAll(std::istream* stream) {
  std::string text(kLabelFileBytesMax + 1, '\0');
  stream->read(text.data(), static_cast<std::streamsize>(text.size()));
  if (stream->bad() || (stream->fail() && !stream->eof())) return absl::NotFoundError("cannot be read");
  text.resize(static_cast<size_t>(stream->gcount()));
  if (text.size() > kLabelFileBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat("has more than ", kLabelFileBytesMax >> 20, " MiB"));
  }
  return text;
}

}  // namespace

void DeclareTopologyFiles(FlagSet* flags, const std::string& flag, TopologyFileOptions* options) {
  flags->Texts(flag, "[KIND:]FILE", &options->files,
               "where nodes stand in the network: a cluster file of muster's, Slurm's\n"
               "topology.conf or topology.yaml, or nodes of Kubernetes as JSON; again for\n"
               "more, the most trusted first. KIND (cluster, slurm, slurm-yaml[/NAME],\n"
               "kubernetes, pod-labels) where the file's text does not tell. - is stdin");
  flags->Text("--label-keys", "KEY,KEY", &options->label_keys,
              "labels of Kubernetes' nodes to look at, the widest first, instead of those\n"
              "that are known: example.com/row,example.com/rack");
}

absl::StatusOr<std::string> ReadTextFile(const std::string& flag, const std::string& path) {
  std::ifstream stream(path, std::ios::binary);
  auto text = stream.is_open() ? ReadAll(&stream) : absl::NotFoundError("cannot be read; name a file");
  if (!text.ok()) return absl::Status(text.status().code(), absl::StrCat(flag, " ", path, " ", text.status().message()));
  return text;
}

absl::StatusOr<std::vector<NetworkFile>> ReadTopologyFiles(const std::string& flag, const TopologyFileOptions& options) {
  std::vector<NetworkFile> files;
  bool stdin_taken = false;
  for (const std::string& word : options.files) {
    auto file = ParseLabelFile(word);
    if (!file.ok()) return absl::InvalidArgumentError(absl::StrCat(flag, " ", word, ": ", file.status().message()));
    if (file->path != "-") {
      MUSTER_ASSIGN_OR_RETURN(std::string text, ReadTextFile(flag, file->path));
      files.push_back({*std::move(file), std::move(text)});
      continue;
    }
    if (std::exchange(stdin_taken, true)) return absl::InvalidArgumentError(absl::StrCat(flag, " - can be said once"));
    auto text = ReadAll(&std::cin);
    if (!text.ok()) return absl::Status(text.status().code(), absl::StrCat(flag, " - ", text.status().message()));
    file->path = "stdin";
    files.push_back({*std::move(file), *std::move(text)});
  }
  return files;
}

absl::StatusOr<std::optional<LabelDialect>> OwnLabelKeys(const TopologyFileOptions& options) {
  if (options.label_keys.empty()) return std::optional<LabelDialect>();
  auto keys = ParseLabelKeys(options.label_keys);
  if (!keys.ok()) return absl::InvalidArgumentError(absl::StrCat("--label-keys: ", keys.status().message()));
  return std::optional<LabelDialect>(*std::move(keys));
}

}  // namespace muster
