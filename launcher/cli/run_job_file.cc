#include "launcher/cli/run_job_file.h"

#include <fstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "launcher/agent/environment.h"
#include "launcher/cli/run_network.h"
#include "launcher/cli/run_output.h"
#include "launcher/placement/policy.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

template <typename T>
std::string Place(const std::string& path, const Located<T>& value) {
  return absl::StrCat(path, ":", value.line, ":", value.column, ": ");
}

class Applier {
 public:
  Applier(const std::string& path, FlagSet* flags) : path_(path), flags_(flags) {}

  // `field` as if it had been typed: "--flag value".
  template <typename T>
  void Type(const Field<T>& field, const char* name, const char* flag) {
    if (!field || !status_.ok()) return;
    const auto rest = flags_->Parse({flag, absl::StrCat(field->value)});
    if (rest.ok()) return;
    status_ = absl::FailedPreconditionError(absl::StrCat(Place(path_, *field), name, ": ", rest.status().message()));
  }

  // The same for a word that its flag would take as it is and look at later.
  void TypeChecked(const Field<std::string>& field, const char* name, const char* flag,
                   absl::Status (*check)(const std::string&)) {
    const absl::Status checked = field ? check(field->value) : absl::OkStatus();
    if (!checked.ok() && status_.ok()) {
      status_ = absl::FailedPreconditionError(absl::StrCat(Place(path_, *field), name, ": ", checked.message()));
    }
    Type(field, name, flag);
  }

  void TypePlacement(const Field<std::string>& field, const char* name, const char* flag,
                     absl::Status (*check)(absl::string_view, PlacementPolicy*)) {
    PlacementPolicy unused;
    const absl::Status checked = field ? check(field->value, &unused) : absl::OkStatus();
    if (!checked.ok() && status_.ok()) {
      status_ = absl::FailedPreconditionError(absl::StrCat(Place(path_, *field), name, ": ", checked.message()));
    }
    Type(field, name, flag);
  }

  const absl::Status& status() const { return status_; }

 private:
  const std::string path_;
  FlagSet* const flags_;
  absl::Status status_;
};

template <typename T>
void NoteUnused(const std::string& path, const Field<T>& field, absl::string_view what, std::vector<std::string>* notes) {
  if (field) notes->push_back(absl::StrCat(Place(path, *field), what));
}

}  // namespace

void DeclareJobFile(FlagSet* flags, JobFileOptions* options) {
  flags->Text("-f --file", "JOB.YAML", &options->path,
              "read the job from a file; what is said on the command line goes before\n"
              "it, and a program there replaces the file's command");
}

absl::StatusOr<JobFile> ReadJobFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text(kJobFileBytesMax + 1, '\0');
  if (file) file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (!file.is_open() || file.bad() || (file.fail() && !file.eof())) {
    return absl::NotFoundError(absl::StrCat("-f ", path, " cannot be read; name a job file"));
  }
  text.resize(static_cast<size_t>(file.gcount()));
  return ParseJobFile(path, text);
}

absl::Status ApplyJobFile(const JobFile& job, bool hosts_given, bool topology_given, FlagSet* flags, JobFileOptions* options) {
  const std::string path = options->path;
  Applier applier(path, flags);
  applier.Type(job.name, "name", "--name");
  applier.TypePlacement(job.placement.map_by, "placement.map_by", "--map-by", ParseMapBy);
  applier.TypePlacement(job.placement.rank_by, "placement.rank_by", "--rank-by", ParseRankBy);
  applier.TypePlacement(job.placement.bind_to, "placement.bind_to", "--bind-to", ParseBindTo);
  if (job.output.marks) {
    const Located<std::string> list = {absl::StrJoin(job.output.marks->value, ","), job.output.marks->line,
                                       job.output.marks->column};
    applier.TypeChecked(Field<std::string>(list), "output.marks", "--output", CheckOutputWords);
  }
  applier.TypeChecked(job.output.files, "output.files", "--output-filename", CheckOutputFiles);
  applier.TypeChecked(job.standard_input, "stdin", "--stdin", CheckStdin);
  applier.Type(job.checkpoint.path, "checkpoint.path", "--checkpoint-path");
  applier.Type(job.checkpoint.every_steps, "checkpoint.every_steps", "--checkpoint-every");
  applier.Type(job.checkpoint.keep, "checkpoint.keep", "--checkpoint-keep");
  applier.Type(job.recovery.max_restarts, "recovery.max_restarts", "--max-restarts");
  applier.Type(job.recovery.last_call_seconds, "recovery.last_call", "--last-call");
  if (!hosts_given) {
    if (job.ssh.hosts) {
      const Located<std::string> list = {absl::StrJoin(job.ssh.hosts->value, ","), job.ssh.hosts->line, job.ssh.hosts->column};
      applier.Type(Field<std::string>(list), "starter.ssh.hosts", "--host");
    }
    applier.Type(job.ssh.hostfile, "starter.ssh.hostfile", "--hostfile");
  }
  if (job.ssh.remote_muster && job.ssh.remote_muster->value[0] != '/') {
    return absl::FailedPreconditionError(absl::StrCat(Place(path, *job.ssh.remote_muster), "starter.ssh.remote_muster: ",
                                                      job.ssh.remote_muster->value, ": write the whole path, from / on"));
  }
  options->remote_muster = job.ssh.remote_muster ? job.ssh.remote_muster->value : "";
  if (!topology_given && job.topology.files) {
    const Located<std::vector<std::string>>& files = *job.topology.files;
    for (const std::string& file : files.value) {
      applier.Type(Field<std::string>(Located<std::string>{file, files.line, files.column}), "topology.files", "--topology-file");
    }
  }
  applier.Type(job.topology.label_keys, "topology.label_keys", "--label-keys");
  applier.TypeChecked(job.nccl.environment, "nccl.environment", "--nccl-environment", CheckNcclEnvironment);
  MUSTER_RETURN_IF_ERROR(applier.status());

  const auto value_or_none = [](const Field<int64_t>& field) { return field ? field->value : 0; };
  options->workers_min = value_or_none(job.workers.min);
  options->workers_max = value_or_none(job.workers.max);
  options->workers_per_node = value_or_none(job.workers.per_node);
  options->spares = value_or_none(job.recovery.spares);
  options->environment.clear();
  if (job.env) {
    for (const auto& [name, value] : job.env->value) {
      if (IsPlaceVariable(name)) {
        return absl::FailedPreconditionError(
            absl::StrCat(Place(path, *job.env), "env.", name, ": muster itself sets it for each rank; leave it out"));
      }
      options->environment.push_back(absl::StrCat(name, "=", value));
    }
  }
  options->without_effect.clear();
  NoteUnused(path, job.resources.cpu_millis, "resources.cpu is granted by Kubernetes alone", &options->without_effect);
  NoteUnused(path, job.resources.memory_bytes, "resources.memory is granted by Kubernetes alone", &options->without_effect);
  NoteUnused(path, job.resources.gpu, "resources.gpu is granted by Kubernetes alone", &options->without_effect);
  NoteUnused(path, job.has_kubernetes, "kubernetes: is for jobs on Kubernetes alone", &options->without_effect);
  return absl::OkStatus();
}

}  // namespace muster
