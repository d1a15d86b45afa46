// job.yaml: what a job is, in one file for a laptop, ssh, Slurm and Kubernetes.
#ifndef MUSTER_LAUNCHER_YAML_JOB_FILE_H_
#define MUSTER_LAUNCHER_YAML_JOB_FILE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace muster {

// A value and where it stands; line and column from 1.
template <typename T>
struct Located {
  T value{};
  int line = 0;
  int column = 0;
};
template <typename T>
using Field = std::optional<Located<T>>;  // empty: the file does not say it

// Fields are named as in the file; docs/job-file.md describes them for users. All values are in the ranges that the comments name.
struct JobFile {
  struct Workers {
    Field<int64_t> min, max, per_node;  // 1 to kWorkersMax each; min <= max
  };
  // For each worker; what Kubernetes grants.
  struct Resources {
    Field<int64_t> cpu_millis;    // "2", "0.5", "500m"; above 0
    Field<int64_t> memory_bytes;  // "4Gi", "512Mi", "1G", "1000000"; above 0
    Field<int64_t> gpu;           // 0 and up
  };
  struct Placement {
    Field<std::string> map_by, rank_by, bind_to;  // mpirun's words
  };
  struct Output {
    Field<std::vector<std::string>> marks;  // words of --output: rank, host, timestamp, tag
    Field<std::string> files;               // as --output-filename
  };
  struct Topology {
    Field<std::vector<std::string>> files;  // words of --topology-file
    Field<std::string> label_keys;          // a word of --label-keys
  };
  struct Nccl {
    Field<std::string> environment;  // a word of --nccl-environment
  };
  struct Checkpoint {
    Field<std::string> path;
    Field<int64_t> every_steps, keep;  // 1 and up; both need path
  };
  struct Recovery {
    Field<int64_t> max_restarts, spares;  // 0 and up
    Field<double> last_call_seconds;      // "5s", "1m30s", "500ms"; above 0
  };
  struct Ssh {
    Field<std::vector<std::string>> hosts;  // words of -H
    Field<std::string> hostfile;            // not beside hosts
    Field<std::string> remote_muster;
  };
  struct Volume {
    Field<std::string> claim, path;  // both are said; path is absolute
    Field<int64_t> size_bytes;       // "100Gi": the claim is to be made
    Field<std::string> storage_class;  // needs size
  };
  struct Toleration {
    Field<std::string> key, value, effect;  // key is said; effect: NoSchedule, PreferNoSchedule or NoExecute
  };
  struct Kubernetes {
    Field<std::string> image, name_space, queue;
    std::vector<Volume> volumes;
    Field<std::string> record;                                           // a claim for the coordinator's record
    Field<double> grace_seconds, deadline_seconds, keep_finished_seconds;  // whole seconds, 1 and up
    Field<int64_t> retries;                                              // 0 and up: of the coordinator
    Field<int64_t> user;                                                 // 1 to 2^31 - 1: of the processes
    Field<int64_t> port;                                                 // 1024 to 65535: of the coordinator
    Field<int64_t> shm_bytes;
    Field<std::string> gpu_resource;  // "nvidia.com/gpu"; not beside device_class
    Field<std::string> device_class;
    Field<std::string> priority_class;
    Field<std::string> mesh;  // "none", "istio" or "linkerd"
    Field<std::string> join;  // "key", or "token": a pod's token besides
    Field<std::string> topology_required, topology_preferred;  // topology.required, .preferred: a node label; one of them
    Field<std::vector<std::pair<std::string, std::string>>> node_selector;
    std::vector<Toleration> tolerations;
  };

  Field<std::string> name;                  // a DNS label: Kubernetes names objects after it
  Field<std::vector<std::string>> command;  // at least the program
  Workers workers;
  Resources resources;
  Placement placement;
  Topology topology;
  Nccl nccl;
  Field<std::vector<std::pair<std::string, std::string>>> env;  // in the file's order
  Output output;
  Field<std::string> standard_input;  // stdin: a rank, "all" or "none"
  Checkpoint checkpoint;
  Recovery recovery;
  Ssh ssh;                     // starter.ssh
  Field<bool> has_kubernetes;  // whether there is a kubernetes: section, and where
  Kubernetes kubernetes;
};

inline constexpr size_t kJobFileBytesMax = 1 << 20;

// Reads one YAML document. `file` is how errors call it. Anchors, aliases, merge keys and tags are refused: a job file says what it
// means where it stands.
// Errors: InvalidArgument; its message has a line for each thing that is wrong, at most kJobFileErrorsMax of them, as in
//   job.yaml:4:3: workers.per_nod: there is no such field; did you mean per_node?
inline constexpr size_t kJobFileErrorsMax = 20;
absl::StatusOr<JobFile> ParseJobFile(const std::string& file, absl::string_view text);

// The whole path of every field that a file may have, such as "workers.min"; sections themselves are left out.
std::vector<std::string> JobFileFields();

}  // namespace muster

#endif  // MUSTER_LAUNCHER_YAML_JOB_FILE_H_
