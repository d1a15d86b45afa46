// What a job file asks of a cluster, with every default decided.
#ifndef MUSTER_LAUNCHER_KUBERNETES_PLAN_H_
#define MUSTER_LAUNCHER_KUBERNETES_PLAN_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "launcher/yaml/job_file.h"

namespace muster::kubernetes {

struct PlannedVolume {
  std::string claim, path;
  std::string size;           // as a quantity; empty: the claim is there already
  std::string storage_class;  // empty: the cluster's default
};

// Texts that a manifest holds are ready for it: quantities as Kubernetes writes them, times in seconds.
struct Plan {
  std::string name, name_space;  // name_space may be empty: whichever kubectl is in
  std::string image;
  std::vector<std::string> command;
  std::vector<std::pair<std::string, std::string>> env;
  int64_t spares = 0;  // nodes besides `nodes` that stand by
  int64_t nodes = 1, workers = 1, workers_min = 1;
  int64_t workers_per_node = 1;  // most on any node
  std::string cpu, memory;       // of an agent's pod: its workers' together
  bool cpu_given = false, memory_given = false;
  int64_t gpus = 0;  // the same
  int64_t max_restarts = 0;
  double last_call_seconds = 0;
  bool last_call_given = false;
  std::string checkpoint_path;
  int64_t checkpoint_every = 0, checkpoint_keep = 0;  // 0: not said
  std::string map_by, rank_by, bind_to;
  std::string output_marks, output_files;  // as --output and --output-filename take them; empty: none
  std::string queue;
  std::vector<PlannedVolume> volumes;
  std::string record_claim;
  int64_t grace_seconds = 60;         // SIGTERM to SIGKILL for a pod
  int64_t deadline_seconds = 0;       // 0: none
  int64_t keep_finished_seconds = 0;  // 0: kept
  int64_t retries = 3;
  int64_t user = 65532;
  int64_t port = 4242;
  std::string shm;  // a quantity; empty: none
  std::string gpu_resource = "nvidia.com/gpu";
  std::string device_class;  // instead of gpu_resource
  std::string priority_class;
  std::string mesh;          // "istio", "linkerd"; empty: none
  bool shows_token = false;  // agents show the token of their pod besides the join key
  std::string topology_required, topology_preferred;
  // What is known of the network between the nodes: texts of topology.files, which the job file's reader does not open; whoever makes
  // the plan fills them in.
  struct NetworkFile {
    std::string kind;  // "slurm:"; empty: seen from the text
    std::string name;  // a key of a ConfigMap: letters, digits, '-', '_', '.'
    std::string text;
  };
  std::vector<NetworkFile> network_files;  // the most trusted first
  std::string nccl_environment;            // as --nccl-environment takes it; empty: not said
  std::string label_keys;                  // as --label-keys takes them; empty: the known ones
  std::vector<std::pair<std::string, std::string>> node_selector;
  struct Toleration {
    std::string key, value, effect;
  };
  std::vector<Toleration> tolerations;

  std::vector<std::string> notes;  // lines for a person: what the file says and has no effect on a cluster

  // Time that muster gives workers between SIGTERM and SIGKILL: half of the pod's, since it begins later on the other nodes and the
  // rest is for output and the verdict.
  int64_t kill_grace_seconds() const { return grace_seconds > 2 ? grace_seconds / 2 : 1; }
  int64_t agents() const { return nodes + spares; }  // a pod each
  bool can_restart() const { return max_restarts > 0; }
};

// A file of topology.files under a name that a ConfigMap may have: `word` is [KIND:]FILE, `number` its place among them.
Plan::NetworkFile MakeNetworkFile(const std::string& kind, const std::string& path, size_t number, std::string text);
// The files of a plan go into one ConfigMap, which holds a mebibyte with all that is around it. Errors: InvalidArgument with the remedy.
inline constexpr size_t kNetworkBytesMax = 1000 << 10;
absl::Status CheckNetworkFiles(const std::string& file, const Plan& plan);

// A name so long that every object and host name that is made of it fits 63 characters.
inline constexpr size_t kNameBytesMax = 40;

// `file`: how errors call it. Errors: InvalidArgument, a line for each thing that Kubernetes needs and the file does not say, or says in
// a way that no cluster takes, with its place.
absl::StatusOr<Plan> MakePlan(const std::string& file, const JobFile& job);

}  // namespace muster::kubernetes

#endif  // MUSTER_LAUNCHER_KUBERNETES_PLAN_H_
