#include "launcher/kubernetes/render.h"

#include <algorithm>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "launcher/kubernetes/pods.h"
#include "runtime/base/nearest_name.h"
#include "runtime/base/status.h"

namespace muster::kubernetes {
namespace {

constexpr char kQueueLabel[] = "kueue.x-k8s.io/queue-name";
// What an agent that goes on counting its index's failures may use up: nodes break, programs fail by the coordinator's verdict.
constexpr int64_t kAgentRetries = 6;

std::string AgentsName(const Plan& plan) { return absl::StrCat(plan.name, "-workers"); }

Json Object(const std::string& api_version, const std::string& kind, Json metadata) {
  return {{"apiVersion", api_version}, {"kind", kind}, {"metadata", std::move(metadata)}};
}

// --- What every API has ---

Json ServiceAccount(const Plan& plan) {
  Json account = Object("v1", "ServiceAccount", Metadata(plan, plan.name));
  Put(&account, "automountServiceAccountToken", false, "an identity without rights; no Role is bound to it");
  return account;
}

Json JoinSecret(const Plan& plan, const std::string& key) {
  Json secret = Object("v1", "Secret", Metadata(plan, JoinSecretName(plan)));
  secret["type"] = "Opaque";
  Put(&secret, "stringData", Json{{"key", key}}, "made for this rendering; keep this file as secret as the key");
  return secret;
}

Json NetworkFiles(const Plan& plan) {
  Json map = Object("v1", "ConfigMap", Metadata(plan, NetworkConfigMap(plan)));
  Json data;
  for (const Plan::NetworkFile& file : plan.network_files) data[file.name] = file.text;
  Put(&map, "data", std::move(data), "topology.files of the job file, as they were when this was rendered");
  return map;
}

Json CoordinatorServiceOf(const Plan& plan) {
  Json service = Object("v1", "Service", Metadata(plan, CoordinatorService(plan), kCoordinator));
  Json spec;
  Put(&spec, "clusterIP", "None", "headless: agents ask once for the coordinator's address, and nothing stands between");
  Put(&spec, "publishNotReadyAddresses", true,
      "else the name would be unknown until the coordinator is ready, and it waits for the agents");
  spec["selector"] = Labels(plan, kCoordinator);
  spec["ports"] = Json::array(
      {{{"name", "tls-coordinator"}, {"port", plan.port}, {"targetPort", "tls-coordinator"}, {"appProtocol", "tls"}}});
  service["spec"] = std::move(spec);
  return service;
}

Json PodsService(const Plan& plan) {
  Json service = Object("v1", "Service", Metadata(plan, plan.name));
  Json spec;
  Put(&spec, "clusterIP", "None",
      "names for the pods (POD.SERVICE), for programs that want them; muster's ranks use addresses");
  spec["publishNotReadyAddresses"] = true;
  spec["selector"] = Labels(plan, "");
  spec["ports"] = Json::array({{{"name", "tls-coordinator"}, {"port", plan.port}, {"appProtocol", "tls"}}});
  service["spec"] = std::move(spec);
  return service;
}

Json NetworkPolicy(const Plan& plan, bool restrict_egress) {
  Json policy = Object("networking.k8s.io/v1", "NetworkPolicy", Metadata(plan, plan.name));
  Json spec;
  spec["podSelector"] = {{"matchLabels", Labels(plan, "")}};
  if (restrict_egress) {
    spec["policyTypes"] = Json::array({"Ingress", "Egress"});
  } else {
    Put(&spec, "policyTypes", Json::array({"Ingress"}),
        "what the program itself calls (storage, metrics) is not restricted; --restrict-egress, and a rule for each, where "
        "that is known");
  }
  Put(&spec, "ingress", Json::array({{{"from", Json::array({{{"podSelector", {{"matchLabels", Labels(plan, "")}}}}})}}}),
      "only pods of this job, at any port: ranks listen at ports that the kernel chooses, and prove membership with a key");
  if (restrict_egress) {
    Json dns = {{"ports", Json::array({{{"protocol", "UDP"}, {"port", 53}}, {{"protocol", "TCP"}, {"port", 53}}})}};
    Json job = {{"to", Json::array({{{"podSelector", {{"matchLabels", Labels(plan, "")}}}}})}};
    Put(&spec, "egress", Json::array({std::move(job), std::move(dns)}),
        "the pods of this job, and DNS wherever it is: agents ask for the coordinator's name. Volumes are the node's to reach");
  }
  policy["spec"] = std::move(spec);
  return policy;
}

Json DisruptionBudget(const Plan& plan, int version) {
  Json budget = Object("policy/v1", "PodDisruptionBudget", Metadata(plan, plan.name));
  Json spec;
  spec["selector"] = {{"matchLabels", Labels(plan, kAgent)}};
  Put(&spec, "minAvailable", plan.can_restart() && plan.agents() > 1 ? plan.agents() - 1 : plan.agents(),
      plan.can_restart() && plan.agents() > 1
          ? "one node may be drained at a time: the job is restarted from its newest checkpoint"
          : "the job cannot do without a pod (recovery.max_restarts is 0), so a drain waits for its end. A number: pods of a "
            "Job have no "
            "scale that maxUnavailable could ask");
  if (IsUsable("PodDisruptionBudgetSpec", "unhealthyPodEvictionPolicy", version)) {
    Put(&spec, "unhealthyPodEvictionPolicy", "AlwaysAllow", "a pod that is broken anyway keeps no node from being drained");
  }
  budget["spec"] = std::move(spec);
  return budget;
}

Json VolumeClaim(const Plan& plan, const PlannedVolume& volume) {
  Json claim = Object("v1", "PersistentVolumeClaim", Metadata(plan, volume.claim));
  Json spec;
  Put(&spec, "accessModes", Json::array({"ReadWriteMany"}),
      "pods on several nodes write to it; ReadWriteOnce would pin them to one");
  if (!volume.storage_class.empty()) spec["storageClassName"] = volume.storage_class;
  spec["resources"] = {{"requests", {{"storage", volume.size}}}};
  claim["spec"] = std::move(spec);
  return claim;
}

Json DeviceClaim(const Plan& plan) {
  Json claim = Object("resource.k8s.io/v1", "ResourceClaimTemplate", Metadata(plan, absl::StrCat(plan.name, "-gpu")));
  claim["spec"]["spec"]["devices"]["requests"] = Json::array(
      {{{"name", "gpu"},
        {"exactly", {{"deviceClassName", plan.device_class}, {"allocationMode", "ExactCount"}, {"count", plan.gpus}}}}});
  return claim;
}

// --- Jobs ---

Json OnCondition() { return Json::array({{{"type", "DisruptionTarget"}, {"status", "True"}}}); }

// The rule on drained pods goes first: such a pod may end with any status, 143 among them.
Json DisruptionRule() {
  Json rule;
  Put(&rule, "action", "Ignore", "drained, preempted, evicted: nobody's failure");
  rule["onPodConditions"] = OnCondition();
  return rule;
}

Json ExitRule(const std::string& action, const std::string& container, const std::string& operation, std::vector<int> values,
              const std::string& comment) {
  Json rule;
  Put(&rule, "action", action, comment);
  rule["onExitCodes"] = {{"containerName", container}, {"operator", operation}, {"values", std::move(values)}};
  return rule;
}

// JobSpec of the one pod that holds the coordinator.
Json CoordinatorJobSpec(const Plan& plan, const PodOptions& options) {
  Json spec;
  Put(&spec, "completionMode", "Indexed", "for the pod's host name, which ends in the index");
  spec["completions"] = 1;
  spec["parallelism"] = 1;
  Put(&spec, "backoffLimit", plan.retries,
      "a coordinator that is lost with its node; the program's own failures muster restarts by itself (--max-restarts)");
  if (IsUsable("JobSpec", "podReplacementPolicy", options.version)) {
    Put(&spec, "podReplacementPolicy", "Failed", "a successor waits until its predecessor is gone: never two coordinators");
  }
  if (plan.deadline_seconds > 0) spec["activeDeadlineSeconds"] = plan.deadline_seconds;
  if (plan.keep_finished_seconds > 0) spec["ttlSecondsAfterFinished"] = plan.keep_finished_seconds;
  spec["podFailurePolicy"]["rules"] = Json::array(
      {DisruptionRule(),
       ExitRule("FailJob", options.container, "NotIn", {69, 73, 137, 143},
                "muster's verdict, restarts and all, is final. Not so: 69 too few nodes came, 73 a disk is full, 137 killed, "
                "143 asked to end")});
  spec["template"] = CoordinatorTemplate(plan, options);
  return spec;
}

Json AgentJobSpec(const Plan& plan, const PodOptions& options) {
  Json spec;
  spec["completionMode"] = "Indexed";
  const bool replaces = IsUsable("JobSpec", "podReplacementPolicy", options.version);
  Put(&spec, "completions", plan.agents(),
      absl::StrCat(
          "one pod a node, all at once",
          replaces ? ""
                   : absl::StrCat(". Kubernetes ", VersionText(options.version),
                                  " has no podReplacementPolicy (1.29), so a successor may run beside a pod that still ends; "
                                  "the coordinator keeps the newer of the two")));
  spec["parallelism"] = plan.agents();
  const bool by_index = IsUsable("JobSpec", "backoffLimitPerIndex", options.version);
  if (by_index) {
    Put(&spec, "backoffLimitPerIndex", kAgentRetries, "one bad node does not use up the others' tries");
    const int64_t spare_nodes =
        plan.can_restart() ? (plan.workers - plan.workers_min) / plan.workers_per_node + plan.spares : 0;
    Put(&spec, "maxFailedIndexes", std::min(spare_nodes, plan.agents() - 1),
        spare_nodes > 0 ? "nodes that may be lost for good (workers.min, recovery.spares)"
                        : "every node is needed (workers.min, recovery.max_restarts)");
  } else {
    Put(&spec, "backoffLimit", kAgentRetries * plan.agents(),
        absl::StrCat("counts all pods' failures together: Kubernetes ", VersionText(options.version),
                     " has no backoffLimitPerIndex (1.29)"));
  }
  if (replaces) {
    Put(&spec, "podReplacementPolicy", "Failed",
        "never two pods of one index; were there two, the coordinator would keep the newer");
  }
  if (IsUsable("JobSpec", "successPolicy", options.version)) {
    Put(&spec, "successPolicy", Json{{"rules", Json::array({{{"succeededCount", 1}}})}},
        "an agent ends well only when the whole job is over; who has not heard of it is ended then");
  }
  if (plan.deadline_seconds > 0) spec["activeDeadlineSeconds"] = plan.deadline_seconds;
  if (plan.keep_finished_seconds > 0) spec["ttlSecondsAfterFinished"] = plan.keep_finished_seconds;
  Json rules = Json::array({DisruptionRule()});
  rules.push_back(ExitRule("FailJob", options.container, "In", {64, 78}, "a wrong flag or file: of no use to try again"));
  spec["podFailurePolicy"]["rules"] = std::move(rules);
  spec["template"] = AgentTemplate(plan, options);
  return spec;
}

void Queue(const Plan& plan, Json* metadata) {
  if (!plan.queue.empty()) Put(&(*metadata)["labels"], kQueueLabel, plan.queue);
}

std::vector<Json> RenderJob(const Plan& plan, const RenderOptions& options) {
  PodOptions pods{.version = options.version, .subdomain = plan.name};
  Json coordinator = Object("batch/v1", "Job", Metadata(plan, absl::StrCat(plan.name, "-coordinator"), kCoordinator));
  coordinator["spec"] = CoordinatorJobSpec(plan, pods);
  Json agents = Object("batch/v1", "Job", Metadata(plan, AgentsName(plan), kAgent));
  Queue(plan, &agents["metadata"]);
  Json spec;
  if (!plan.queue.empty()) {
    Put(&spec, "suspend", true,
        "Kueue starts it when the queue has room for all its pods; the coordinator waits meanwhile, out of the queue");
  }
  const Json rest = AgentJobSpec(plan, pods);
  for (const auto& [name, value] : rest.items()) spec[name] = value;
  agents["spec"] = std::move(spec);
  return {PodsService(plan), std::move(coordinator), std::move(agents)};
}

// --- JobSet ---

Json ReplicatedJob(const std::string& name, Json metadata, Json job_spec) {
  Json job = {{"name", name}, {"replicas", 1}};
  if (!metadata.is_null()) job["template"]["metadata"] = std::move(metadata);
  job["template"]["spec"] = std::move(job_spec);
  return job;
}

// JobSetSpec. `agents`: the replicated job's name; `trainer`: what Kubeflow Trainer looks for.
Json JobSetSpec(const Plan& plan, const RenderOptions& options, const std::string& agents, bool trainer) {
  PodOptions coordinator_pods{.version = options.version};
  PodOptions agent_pods = coordinator_pods;
  if (trainer) agent_pods.container = "node";
  agent_pods.restart_in_place = IsUsable("Container", "restartPolicyRules", options.version);
  Json spec;
  Put(&spec, "network", Json{{"enableDNSHostnames", true}, {"publishNotReadyAddresses", true}},
      "names before pods are ready; JobSet makes the headless Service");
  if (!trainer) {
    Put(&spec, "coordinator", Json{{"replicatedJob", kCoordinator}, {"jobIndex", 0}, {"podIndex", 0}},
        "every pod gets this endpoint as the label jobset.sigs.k8s.io/coordinator");
    if (!plan.queue.empty()) Put(&spec, "suspend", true, "Kueue starts it when the queue has room for all of it at once");
    if (plan.keep_finished_seconds > 0) spec["ttlSecondsAfterFinished"] = plan.keep_finished_seconds;
  }
  Put(&spec, "successPolicy", Json{{"operator", "All"}, {"targetReplicatedJobs", Json::array({kCoordinator})}},
      "the coordinator's end is the job's");
  Json failure;
  Put(&failure, "maxRestarts", plan.retries,
      "of everything, when the Job of the coordinator or of the agents is beyond help; each begins from the newest checkpoint");
  Json verdict;
  Put(&verdict, "name", "verdict",
      "a failure that the coordinator has judged: muster has restarted it as often as it was allowed to");
  verdict["action"] = "FailJobSet";
  verdict["onJobFailureReasons"] = Json::array({"PodFailurePolicy"});
  verdict["targetReplicatedJobs"] = Json::array({kCoordinator});
  failure["rules"] = Json::array({std::move(verdict)});
  spec["failurePolicy"] = std::move(failure);
  Json agents_metadata;
  if (trainer) agents_metadata["labels"] = {{"trainer.kubeflow.org/trainjob-ancestor-step", "trainer"}};
  // The time to live belongs to the whole, and so does a TrainJob's deadline.
  Plan parts = plan;
  parts.keep_finished_seconds = 0;
  if (trainer) parts.deadline_seconds = 0;
  spec["replicatedJobs"] = Json::array({ReplicatedJob(kCoordinator, nullptr, CoordinatorJobSpec(parts, coordinator_pods)),
                                        ReplicatedJob(agents, std::move(agents_metadata), AgentJobSpec(parts, agent_pods))});
  return spec;
}

std::vector<Json> RenderJobSet(const Plan& plan, const RenderOptions& options) {
  Json set = Object("jobset.x-k8s.io/v1alpha2", "JobSet", Metadata(plan, plan.name));
  Queue(plan, &set["metadata"]);
  set["spec"] = JobSetSpec(plan, options, "workers", false);
  return {std::move(set)};
}

std::vector<Json> RenderTrainJob(const Plan& plan, const RenderOptions& options) {
  Json metadata = Metadata(plan, plan.name);
  metadata.erase("namespace");
  Json runtime = Object("trainer.kubeflow.org/v1alpha1", "ClusterTrainingRuntime", std::move(metadata));
  Put(&runtime["metadata"]["labels"], "trainer.kubeflow.org/framework", "muster");
  Json runtime_spec;
  Put(&runtime_spec, "mlPolicy", Json{{"numNodes", plan.agents()}},
      "no framework's policy: ranks come from the coordinator, whose command line stands below, so numNodes of a TrainJob must "
      "stay this");
  runtime_spec["template"]["spec"] = JobSetSpec(plan, options, "node", true);
  runtime["spec"] = std::move(runtime_spec);

  Json train = Object("trainer.kubeflow.org/v1alpha1", "TrainJob", Metadata(plan, plan.name));
  Queue(plan, &train["metadata"]);
  Json spec;
  spec["runtimeRef"] = {{"apiGroup", "trainer.kubeflow.org"}, {"kind", "ClusterTrainingRuntime"}, {"name", plan.name}};
  if (!plan.queue.empty()) Put(&spec, "suspend", true, "Kueue starts it when the queue has room for all of it at once");
  if (plan.deadline_seconds > 0) spec["activeDeadlineSeconds"] = plan.deadline_seconds;
  spec["trainer"] = {{"numNodes", plan.agents()}};
  train["spec"] = std::move(spec);
  return {std::move(runtime), std::move(train)};
}

// --- MPIJob ---

std::vector<Json> RenderMpiJob(const Plan& plan, const RenderOptions& options) {
  PodOptions pods{.version = options.version,
                  .node_number = "NODE_INDEX",
                  .node_number_label = "training.kubeflow.org/replica-index",
                  .restart_policy = ""};
  Json job = Object("kubeflow.org/v2beta1", "MPIJob", Metadata(plan, plan.name));
  Queue(plan, &job["metadata"]);
  Json spec;
  spec["slotsPerWorker"] = plan.workers_per_node;
  Put(&spec, "runLauncherAsWorker", false, "the launcher is muster's coordinator, which needs no GPU");
  Put(&spec, "launcherCreationPolicy", "AtStartup", "agents wait for the coordinator, not it for them");
  Put(&spec, "sshAuthMountPath", "/run/muster/unused-ssh",
      "the operator makes an ssh key for every job; nothing here reads it, and no sshd runs");
  Json policy;
  Put(&policy, "cleanPodPolicy", "Running", "agents that have not heard of the end are ended with the launcher");
  Put(&policy, "backoffLimit", plan.retries,
      "of the launcher. An MPIJob has no podFailurePolicy: a program that always fails is tried so often, from its newest "
      "checkpoint. "
      "kubernetes.retries: 0 leaves all restarts to muster");
  if (plan.deadline_seconds > 0) policy["activeDeadlineSeconds"] = plan.deadline_seconds;
  if (plan.keep_finished_seconds > 0) policy["ttlSecondsAfterFinished"] = plan.keep_finished_seconds;
  if (!plan.queue.empty()) Put(&policy, "suspend", true, "Kueue starts it when the queue has room for all of it at once");
  spec["runPolicy"] = std::move(policy);
  Json launcher = {{"replicas", 1}, {"restartPolicy", "Never"}};
  launcher["template"] = CoordinatorTemplate(plan, pods);
  Json worker;
  worker["replicas"] = plan.agents();
  Put(&worker, "restartPolicy", "OnFailure",
      "an agent that lost its coordinator starts again in its pod and waits for the next");
  worker["template"] = AgentTemplate(plan, pods);
  spec["mpiReplicaSpecs"] = {{"Launcher", std::move(launcher)}, {"Worker", std::move(worker)}};
  job["spec"] = std::move(spec);
  return {std::move(job)};
}

std::string FileName(size_t number, const Json& document) {
  const std::string kind = document["kind"].get<std::string>();
  std::string lower;
  for (const char c : kind) lower += static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  return absl::StrFormat("%02d-%s-%s.yaml", (number + 1) * 10, lower, document["metadata"]["name"].get<std::string>());
}

}  // namespace

const std::vector<std::string>& ApiNames() {
  static const auto& names = *new std::vector<std::string>{"job", "jobset", "trainjob", "mpijob"};
  return names;
}

absl::StatusOr<Api> ApiFromText(absl::string_view text) {
  const auto& names = ApiNames();
  const auto found = std::find(names.begin(), names.end(), text);
  if (found != names.end()) return static_cast<Api>(found - names.begin());
  const std::string nearest = NearestName(std::string(text), names);
  return absl::InvalidArgumentError(absl::StrCat("there is no API \"", text, "\"; choose ", absl::StrJoin(names, ", "),
                                                 nearest.empty() ? "" : absl::StrCat(" (did you mean ", nearest, "?)")));
}

std::string JoinSecretName(const Plan& plan) { return absl::StrCat(plan.name, "-join"); }

std::string JoinSecretCommand(const Plan& plan) {
  return absl::StrCat("openssl rand -hex 32 | kubectl ",
                      plan.name_space.empty() ? "" : absl::StrCat("-n ", plan.name_space, " "), "create secret generic ",
                      JoinSecretName(plan), " --from-file=key=/dev/stdin");
}

std::string ClusterKeysCommand(const Plan& plan) {
  if (!plan.shows_token) return "";
  return absl::StrCat("kubectl ", plan.name_space.empty() ? "" : absl::StrCat("-n ", plan.name_space, " "), "create configmap ",
                      ClusterConfigMap(plan),
                      " --from-literal=issuer=\"$(kubectl get --raw /.well-known/openid-configuration | jq -r .issuer)\" "
                      "--from-literal=jwks=\"$(kubectl get --raw /openid/v1/jwks)\"");
}

absl::StatusOr<std::vector<Manifest>> Render(const Plan& plan, const RenderOptions& options) {
  if (!plan.device_class.empty() && !IsUsable("PodSpec", "resourceClaims", options.version)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "kubernetes.device_class needs Kubernetes ", VersionText(FindVersionedField("PodSpec", "resourceClaims")->usable),
        ", not ", VersionText(options.version), "; leave it out and GPUs come from a device plugin"));
  }
  std::vector<Json> documents = {ServiceAccount(plan)};
  if (!options.join_key.empty()) documents.push_back(JoinSecret(plan, options.join_key));
  if (!plan.network_files.empty()) documents.push_back(NetworkFiles(plan));
  std::set<std::string> claims;
  for (const PlannedVolume& volume : plan.volumes) {
    if (!volume.size.empty() && claims.insert(volume.claim).second) documents.push_back(VolumeClaim(plan, volume));
  }
  documents.push_back(CoordinatorServiceOf(plan));
  documents.push_back(NetworkPolicy(plan, options.restrict_egress));
  documents.push_back(DisruptionBudget(plan, options.version));
  if (!plan.device_class.empty()) documents.push_back(DeviceClaim(plan));
  std::vector<Json> job;
  switch (options.api) {
    case Api::kJob:
      job = RenderJob(plan, options);
      break;
    case Api::kJobSet:
      job = RenderJobSet(plan, options);
      break;
    case Api::kTrainJob:
      job = RenderTrainJob(plan, options);
      break;
    case Api::kMpiJob:
      job = RenderMpiJob(plan, options);
      break;
  }
  for (Json& one : job) documents.push_back(std::move(one));
  std::vector<Manifest> manifests;
  for (Json& document : documents) {
    std::string file = FileName(manifests.size(), document);
    manifests.push_back({std::move(file), std::move(document)});
  }
  return manifests;
}

}  // namespace muster::kubernetes
