#include "launcher/kubernetes/plan.h"

#include <algorithm>
#include <array>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace muster::kubernetes {
namespace {

constexpr int64_t kCpuMillisDefault = 1000;                // a worker
constexpr int64_t kMemoryBytesDefault = int64_t{1} << 30;  // a worker
constexpr double kLastCallSeconds = 300;                   // a pod is made anew, perhaps on a new machine

template <typename T>
T Or(const Field<T>& field, T otherwise) {
  return field ? field->value : std::move(otherwise);
}

// "2", "500m".
std::string CpuText(int64_t millis) { return millis % 1000 == 0 ? absl::StrCat(millis / 1000) : absl::StrCat(millis, "m"); }

// In the greatest unit that loses nothing.
std::string BytesText(int64_t bytes) {
  constexpr std::array<const char*, 4> kUnits = {"Ki", "Mi", "Gi", "Ti"};
  const char* unit = "";
  for (const char* next : kUnits) {
    if (bytes % 1024 != 0) break;
    bytes /= 1024;
    unit = next;
  }
  return absl::StrCat(bytes, unit);
}

class Planner {
 public:
  Planner(const std::string& file, const JobFile& job) : file_(file), job_(job) {}

  absl::StatusOr<Plan> Make() {
    TakeNames();
    TakeWorkers();
    TakeResources();
    TakeRecovery();
    TakeCluster();
    TakeVolumes();
    TakeOutput();
    Note();
    if (!wrong_.empty()) return absl::InvalidArgumentError(absl::StrJoin(wrong_, "\n"));
    return std::move(plan_);
  }

 private:
  template <typename T>
  void Wrong(const Field<T>& field, absl::string_view what) {
    wrong_.push_back(field ? absl::StrCat(file_, ":", field->line, ":", field->column, ": ", what)
                           : absl::StrCat(file_, ": ", what));
  }

  void TakeNames() {
    const JobFile::Kubernetes& k = job_.kubernetes;
    plan_.name = Or(job_.name, std::string());
    if (!job_.name) {
      Wrong(job_.name, "name: is missing; Kubernetes calls every object of the job after it");
    } else if (plan_.name.size() > kNameBytesMax) {
      Wrong(job_.name,
            absl::StrCat("name: has ", plan_.name.size(), " characters; at most ", kNameBytesMax,
                         " leave room for what Kubernetes appends (", plan_.name, "-coordinator-0-0 is a host name)"));
    } else if (plan_.name[0] >= '0' && plan_.name[0] <= '9') {
      Wrong(job_.name, "name: begins with a digit, which no Service may (RFC 1035); begin with a letter");
    }
    plan_.name_space = Or(k.name_space, std::string());
    plan_.image = Or(k.image, std::string());
    if (!k.image) Wrong(job_.has_kubernetes, "kubernetes.image: is missing: the image that holds muster and the program");
    plan_.command = Or(job_.command, std::vector<std::string>());
    if (!job_.command) Wrong(job_.command, "command: is missing");
    plan_.env = Or(job_.env, std::vector<std::pair<std::string, std::string>>());
  }

  void TakeWorkers() {
    const JobFile::Workers& w = job_.workers;
    plan_.workers = w.max ? w.max->value : w.min ? w.min->value : Or(w.per_node, int64_t{1});
    const int64_t per_node = std::min(Or(w.per_node, int64_t{1}), plan_.workers);
    plan_.nodes = (plan_.workers + per_node - 1) / per_node;
    plan_.workers_per_node = (plan_.workers + plan_.nodes - 1) / plan_.nodes;
    plan_.workers_min = std::min(Or(w.min, plan_.workers), plan_.workers);
  }

  void TakeResources() {
    const JobFile::Resources& r = job_.resources;
    const int64_t each = plan_.workers_per_node;
    plan_.cpu_given = r.cpu_millis.has_value();
    plan_.memory_given = r.memory_bytes.has_value();
    plan_.cpu = CpuText(each * Or(r.cpu_millis, kCpuMillisDefault));
    plan_.memory = BytesText(each * Or(r.memory_bytes, kMemoryBytesDefault));
    plan_.gpus = each * Or(r.gpu, int64_t{0});
    plan_.label_keys = Or(job_.topology.label_keys, std::string());
    plan_.nccl_environment = Or(job_.nccl.environment, std::string());
    plan_.map_by = Or(job_.placement.map_by, std::string());
    plan_.rank_by = Or(job_.placement.rank_by, std::string());
    plan_.bind_to = Or(job_.placement.bind_to, std::string());
  }

  void TakeRecovery() {
    plan_.max_restarts = Or(job_.recovery.max_restarts, int64_t{0});
    if (plan_.can_restart()) plan_.spares = Or(job_.recovery.spares, int64_t{0});
    plan_.last_call_given = job_.recovery.last_call_seconds.has_value();
    plan_.last_call_seconds = Or(job_.recovery.last_call_seconds, kLastCallSeconds);
    plan_.checkpoint_path = Or(job_.checkpoint.path, std::string());
    plan_.checkpoint_every = Or(job_.checkpoint.every_steps, int64_t{0});
    plan_.checkpoint_keep = Or(job_.checkpoint.keep, int64_t{0});
  }

  void TakeCluster() {
    const JobFile::Kubernetes& k = job_.kubernetes;
    const auto seconds = [](const Field<double>& field, int64_t otherwise) {
      return field ? static_cast<int64_t>(field->value) : otherwise;
    };
    plan_.queue = Or(k.queue, std::string());
    plan_.record_claim = Or(k.record, std::string());
    plan_.grace_seconds = seconds(k.grace_seconds, plan_.grace_seconds);
    plan_.deadline_seconds = seconds(k.deadline_seconds, 0);
    plan_.keep_finished_seconds = seconds(k.keep_finished_seconds, 0);
    plan_.retries = Or(k.retries, plan_.retries);
    plan_.user = Or(k.user, plan_.user);
    plan_.port = Or(k.port, plan_.port);
    if (k.shm_bytes) plan_.shm = BytesText(k.shm_bytes->value);
    plan_.gpu_resource = Or(k.gpu_resource, plan_.gpu_resource);
    plan_.device_class = Or(k.device_class, std::string());
    if (k.device_class && plan_.gpus == 0)
      Wrong(k.device_class, "kubernetes.device_class: needs resources.gpu: how many devices a worker gets");
    plan_.priority_class = Or(k.priority_class, std::string());
    plan_.mesh = Or(k.mesh, std::string("none"));
    if (plan_.mesh == "none") plan_.mesh.clear();
    plan_.shows_token = k.join && k.join->value == "token";
    plan_.topology_required = Or(k.topology_required, std::string());
    plan_.topology_preferred = Or(k.topology_preferred, std::string());
    for (const Field<std::string>& topology : {k.topology_required, k.topology_preferred}) {
      if (topology && !k.queue) Wrong(topology, "kubernetes.topology: needs kubernetes.queue: it is Kueue that places by it");
    }
    plan_.node_selector = Or(k.node_selector, std::vector<std::pair<std::string, std::string>>());
    for (const JobFile::Toleration& one : k.tolerations) {
      plan_.tolerations.push_back({Or(one.key, std::string()), Or(one.value, std::string()), Or(one.effect, std::string())});
    }
  }

  void TakeVolumes() {
    for (const JobFile::Volume& one : job_.kubernetes.volumes) {
      PlannedVolume volume{one.claim->value, one.path->value, one.size_bytes ? BytesText(one.size_bytes->value) : "",
                           Or(one.storage_class, std::string())};
      for (const char* ours : {"/tmp", "/dev/shm", "/run/muster", "/var/lib/muster"}) {
        if (volume.path == ours || volume.path == absl::StrCat(ours, "/")) {
          Wrong(one.path, absl::StrCat("kubernetes.volumes: ", ours, " is muster's own; choose another path"));
        }
      }
      for (const PlannedVolume& other : plan_.volumes) {
        if (other.path == volume.path) Wrong(one.path, absl::StrCat("kubernetes.volumes: two volumes at ", volume.path));
      }
      plan_.volumes.push_back(std::move(volume));
    }
    if (plan_.checkpoint_path.empty()) return;
    if (!absl::StartsWith(plan_.checkpoint_path, "/")) {
      Wrong(job_.checkpoint.path, "checkpoint.path: is relative; in a pod only a whole path names a volume");
    } else if (!IsOnVolume(plan_.checkpoint_path)) {
      Wrong(job_.checkpoint.path, absl::StrCat("checkpoint.path: ", plan_.checkpoint_path,
                                               " is on no volume of kubernetes.volumes: a checkpoint there would end with its "
                                               "pod; add {claim: NAME, path: FOLDER}"));
    }
  }

  bool IsOnVolume(const std::string& path) const {
    return std::any_of(plan_.volumes.begin(), plan_.volumes.end(), [&](const PlannedVolume& volume) {
      return path == volume.path || absl::StartsWith(path, absl::StrCat(volume.path, volume.path == "/" ? "" : "/"));
    });
  }

  void TakeOutput() {
    if (job_.output.marks) plan_.output_marks = absl::StrJoin(job_.output.marks->value, ",");
    if (job_.output.files && IsOnVolume(job_.output.files->value)) plan_.output_files = job_.output.files->value;
  }

  void Note() {
    const auto note = [this](bool said, int line, absl::string_view what) {
      if (said) plan_.notes.push_back(absl::StrCat(file_, ":", line, ": ", what));
    };
    const auto place = [](const auto& field) { return field ? field->line : 0; };
    note(job_.output.files && plan_.output_files.empty(), place(job_.output.files),
         "output.files is not taken over: it is on no volume of kubernetes.volumes, and a pod's own files end with it; kubectl "
         "logs has "
         "the output of all ranks");
    note(job_.standard_input && job_.standard_input->value != "none", place(job_.standard_input),
         "stdin has no effect on Kubernetes: a pod has no standard input");
    note(job_.ssh.hosts.has_value(), job_.ssh.hosts ? job_.ssh.hosts->line : 0, "starter.ssh has no effect on Kubernetes");
    note(job_.ssh.hostfile.has_value(), job_.ssh.hostfile ? job_.ssh.hostfile->line : 0,
         "starter.ssh has no effect on Kubernetes");
    note(job_.recovery.spares && job_.recovery.spares->value > 0 && plan_.max_restarts == 0,
         job_.recovery.spares ? job_.recovery.spares->line : 0,
         "recovery.spares has an effect only with recovery.max_restarts: a spare takes part once a node is lost");
    note(plan_.workers_min < plan_.workers && plan_.max_restarts == 0, job_.workers.min ? job_.workers.min->line : 0,
         "workers.min has an effect only with recovery.max_restarts: all workers start, and fewer go on after a loss");
  }

  const std::string& file_;
  const JobFile& job_;
  Plan plan_;
  std::vector<std::string> wrong_;
};

}  // namespace

Plan::NetworkFile MakeNetworkFile(const std::string& kind, const std::string& path, size_t number, std::string text) {
  constexpr size_t kNameMax = 200;  // a key of a ConfigMap may have 253
  std::string name = path.substr(path.rfind('/') + 1).substr(0, kNameMax);
  for (char& c : name) {
    if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) && c != '-' && c != '_' && c != '.') c = '_';
  }
  return {kind, absl::StrCat(number, "-", name), std::move(text)};
}

absl::Status CheckNetworkFiles(const std::string& file, const Plan& plan) {
  size_t bytes = 0;
  for (const Plan::NetworkFile& one : plan.network_files) bytes += one.text.size();
  if (bytes <= kNetworkBytesMax) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(file, ": topology.files: have ", bytes, " bytes together, and a ConfigMap holds ", kNetworkBytesMax,
                   " of them; of Kubernetes' nodes keep names and labels alone: kubectl get nodes -o json | jq '.items | "
                   "map({(.metadata.name): .metadata.labels}) | add'"));
}

absl::StatusOr<Plan> MakePlan(const std::string& file, const JobFile& job) { return Planner(file, job).Make(); }

}  // namespace muster::kubernetes
