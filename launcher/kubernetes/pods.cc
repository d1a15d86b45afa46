#include "launcher/kubernetes/pods.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace muster::kubernetes {
namespace {

constexpr char kKeyFolder[] = "/run/muster/join";
constexpr char kLastWordsFile[] = "/dev/termination-log";  // where Kubernetes looks unless told otherwise
constexpr char kRecordFolder[] = "/var/lib/muster";
constexpr char kNetworkFolder[] = "/run/muster/network";
constexpr char kPodFolder[] = "/run/muster/pod";
constexpr char kClusterFolder[] = "/run/muster/cluster";
constexpr char kTokenFolder[] = "/run/muster/token";
constexpr int64_t kTokenSeconds = 3600;       // Kubernetes replaces it when four fifths have passed
constexpr int kNodeLabelsCopied = 35;         // since then a pod has the region and zone of its node (KEP-4742, beta)
constexpr int64_t kOrphanAfterSeconds = 300;  // an image may have to be pulled before there is a coordinator

Json EnvField(const std::string& name, const std::string& path) {
  return {{"name", name}, {"valueFrom", {{"fieldRef", {{"fieldPath", path}}}}}};
}

// What the Pod Security level "restricted" asks of a container, and a root that nobody writes to.
Json ContainerSecurity() {
  return {{"allowPrivilegeEscalation", false},
          {"readOnlyRootFilesystem", true},
          {"capabilities", {{"drop", Json::array({"ALL"})}}}};
}

Json PodSecurity(const Plan& plan) {
  Json security;
  security["runAsNonRoot"] = true;
  security["runAsUser"] = plan.user;
  security["runAsGroup"] = plan.user;
  Put(&security, "fsGroup", plan.user, "so that volumes can be written; a large one is not walked at every start");
  security["fsGroupChangePolicy"] = "OnRootMismatch";
  security["seccompProfile"] = {{"type", "RuntimeDefault"}};
  return security;
}

Json EmptyDir(const std::string& name) { return {{"name", name}, {"emptyDir", Json::object()}}; }

// Volumes and their places that both kinds of pod have.
void AddVolumes(const Plan& plan, bool data, Json* volumes, Json* mounts) {
  volumes->push_back({{"name", "join-key"}, {"secret", {{"secretName", JoinSecretName(plan)}, {"defaultMode", 288}}}});  // 0440
  mounts->push_back({{"name", "join-key"}, {"mountPath", kKeyFolder}, {"readOnly", true}});
  volumes->push_back(EmptyDir("tmp"));
  mounts->push_back({{"name", "tmp"}, {"mountPath", "/tmp"}});
  if (!data) return;
  if (!plan.shm.empty()) {
    Json shm;
    Put(&shm, "name", "shm", "the runtime's own /dev/shm has 64 MB; this one counts against the memory limit");
    shm["emptyDir"] = {{"medium", "Memory"}, {"sizeLimit", plan.shm}};
    volumes->push_back(std::move(shm));
    mounts->push_back({{"name", "shm"}, {"mountPath", "/dev/shm"}});
  }
  for (size_t i = 0; i < plan.volumes.size(); ++i) {
    const std::string name = absl::StrCat("data-", i);
    volumes->push_back({{"name", name}, {"persistentVolumeClaim", {{"claimName", plan.volumes[i].claim}}}});
    mounts->push_back({{"name", name}, {"mountPath", plan.volumes[i].path}});
  }
}

// Two '$' are one to Kubernetes, which else puts variables in for "$(NAME)".
std::string Literal(const std::string& text) {
  std::string literal;
  for (size_t i = 0; i < text.size(); ++i) {
    literal += text[i];
    if (text[i] == '$' && i + 1 < text.size() && text[i + 1] == '(') literal += '$';
  }
  return literal;
}

// Where the pod's node stands in the network, for its agent: the labels of the pod.
void AddOwnLabels(const Plan& plan, int version, Json* volumes, Json* mounts, Json* env) {
  Json volume;
  Put(&volume, "name", "pod",
      absl::StrCat("the pod's labels, and among them what is known of its node's place in the network: ",
                   version >= kNodeLabelsCopied
                       ? "region and zone are copied by Kubernetes (KEP-4742), racks and leaves"
                       : absl::StrCat("Kubernetes ", VersionText(version), " copies none of the node's (from ",
                                      VersionText(kNodeLabelsCopied), " on region and zone); all of them"),
                   " by a webhook on pods/binding, where there is one. topology.files in job.yaml says it for all nodes"));
  volume["downwardAPI"]["items"] = Json::array({{{"path", "labels"}, {"fieldRef", {{"fieldPath", "metadata.labels"}}}}});
  volumes->push_back(std::move(volume));
  mounts->push_back({{"name", "pod"}, {"mountPath", kPodFolder}, {"readOnly", true}});
  env->push_back({{"name", "MUSTER_POD_LABELS"}, {"value", absl::StrCat(kPodFolder, "/labels")}});
  if (!plan.label_keys.empty()) env->push_back({{"name", "MUSTER_LABEL_KEYS"}, {"value", Literal(plan.label_keys)}});
}

// No other job's pods have tokens for it.
std::string TokenAudience(const Plan& plan) { return absl::StrCat("muster/", plan.name); }

Json RunArguments(const Plan& plan) {
  Json arguments = {"run",
                    "--starter",
                    "join",
                    "--join-key-file",
                    absl::StrCat(kKeyFolder, "/key"),
                    "--listen",
                    absl::StrCat("0.0.0.0:", plan.port),
                    "--termination-message",
                    kLastWordsFile};
  const auto add = [&arguments](const std::string& flag, const std::string& value) {
    arguments.push_back(flag);
    arguments.push_back(Literal(value));
  };
  if (plan.shows_token) {
    add("--token-keys", kClusterFolder);
    add("--token-audience", TokenAudience(plan));
    arguments.push_back("--token-subject");
    arguments.push_back(absl::StrCat("system:serviceaccount:$(POD_NAMESPACE):", plan.name));
  }
  if (!plan.record_claim.empty()) {
    arguments.push_back("--same-job");
    arguments.push_back("$(JOB_UID)");
  }
  add("--name", plan.name);
  add("--nodes", absl::StrCat(plan.nodes));
  add("-np", absl::StrCat(plan.workers));
  if (plan.can_restart()) {
    if (plan.workers_min < plan.workers) add("--min-np", absl::StrCat(plan.workers_min));
    if (plan.spares > 0) add("--spares", absl::StrCat(plan.spares));
    add("--max-restarts", absl::StrCat(plan.max_restarts));
    add("--last-call", absl::StrFormat("%g", plan.last_call_seconds));
  }
  add("--kill-grace", absl::StrCat(plan.kill_grace_seconds()));
  if (!plan.checkpoint_path.empty()) add("--checkpoint-path", plan.checkpoint_path);
  if (plan.checkpoint_every > 0) add("--checkpoint-every", absl::StrCat(plan.checkpoint_every));
  if (plan.checkpoint_keep > 0) add("--checkpoint-keep", absl::StrCat(plan.checkpoint_keep));
  if (!plan.map_by.empty()) add("--map-by", plan.map_by);
  if (!plan.rank_by.empty()) add("--rank-by", plan.rank_by);
  if (!plan.bind_to.empty()) add("--bind-to", plan.bind_to);
  for (const Plan::NetworkFile& file : plan.network_files) {
    add("--topology-file", absl::StrCat(file.kind, kNetworkFolder, "/", file.name));
  }
  if (!plan.label_keys.empty()) add("--label-keys", plan.label_keys);
  if (!plan.nccl_environment.empty()) add("--nccl-environment", plan.nccl_environment);
  if (!plan.output_marks.empty()) add("--output", plan.output_marks);
  if (!plan.output_files.empty()) add("--output-filename", plan.output_files);
  for (const auto& [name, value] : plan.env) add("-x", absl::StrCat(name, "=", value));
  arguments.push_back("--");
  for (const std::string& word : plan.command) arguments.push_back(Literal(word));
  return arguments;
}

Json TemplateMetadata(const Plan& plan, const std::string& component) {
  Json metadata;
  metadata["labels"] = Labels(plan, component);
  Json annotations = Json::object();
  if (plan.mesh == "istio") {
    Put(&metadata["labels"], "sidecar.istio.io/inject", "false",
        "no proxy between ranks: it would cut streams, and a sidecar keeps a Job from ending; muster has TLS of its own");
    metadata["labels"]["istio.io/dataplane-mode"] = "none";
  } else if (plan.mesh == "linkerd") {
    Put(&annotations, "linkerd.io/inject", "disabled",
        "no proxy between ranks: it would cut streams, and a sidecar keeps a Job from ending; muster has TLS of its own");
  }
  if (component == kAgent && !plan.topology_required.empty()) {
    Put(&annotations, "kueue.x-k8s.io/podset-required-topology", plan.topology_required,
        "all pods in one such domain, or they wait");
  } else if (component == kAgent && !plan.topology_preferred.empty()) {
    Put(&annotations, "kueue.x-k8s.io/podset-preferred-topology", plan.topology_preferred,
        "as close together as there is room");
  }
  if (!annotations.empty()) metadata["annotations"] = std::move(annotations);
  return metadata;
}

void BeginPod(const Plan& plan, const PodOptions& options, Json* pod) {
  if (!options.subdomain.empty()) (*pod)["subdomain"] = options.subdomain;
  if (!options.restart_policy.empty()) (*pod)["restartPolicy"] = options.restart_policy;
  (*pod)["serviceAccountName"] = plan.name;
  Put(pod, "automountServiceAccountToken", false, "nothing in these pods talks to the API server");
  (*pod)["enableServiceLinks"] = false;
  Put(pod, "terminationGracePeriodSeconds", plan.grace_seconds,
      absl::StrCat("workers have ", plan.kill_grace_seconds(),
                   " s of it after SIGTERM; measure how long a checkpoint takes and say kubernetes.grace"));
  if (!plan.priority_class.empty()) (*pod)["priorityClassName"] = plan.priority_class;
  (*pod)["securityContext"] = PodSecurity(plan);
}

void BeginContainer(const Plan& plan, const PodOptions& options, Json* container) {
  (*container)["name"] = options.container;
  (*container)["image"] = plan.image;
  (*container)["command"] = Json::array({"muster"});
}

void EndContainer(Json* container) {
  Put(container, "terminationMessagePolicy", "FallbackToLogsOnError",
      "muster writes its verdict to /dev/termination-log, as JSON, also when all went well; what fails before that is said "
      "last in "
      "the log");
  (*container)["securityContext"] = ContainerSecurity();
}

// Where the program may run.
void AddPlacement(const Plan& plan, Json* pod) {
  if (!plan.node_selector.empty()) {
    for (const auto& [name, value] : plan.node_selector) (*pod)["nodeSelector"][name] = value;
  }
  for (const Plan::Toleration& one : plan.tolerations) {
    Json toleration = {{"key", one.key}, {"operator", one.value.empty() ? "Exists" : "Equal"}};
    if (!one.value.empty()) toleration["value"] = one.value;
    if (!one.effect.empty()) toleration["effect"] = one.effect;
    (*pod)["tolerations"].push_back(std::move(toleration));
  }
}

Json AgentResources(const Plan& plan, Json* pod) {
  Json amounts = {{"cpu", plan.cpu}, {"memory", plan.memory}};
  if (plan.gpus > 0 && plan.device_class.empty()) amounts[plan.gpu_resource] = absl::StrCat(plan.gpus);
  Json resources;
  resources["requests"] = amounts;
  resources["limits"] = std::move(amounts);
  if (plan.gpus > 0 && !plan.device_class.empty()) {
    (*pod)["resourceClaims"] = Json::array({{{"name", "gpu"}, {"resourceClaimTemplateName", absl::StrCat(plan.name, "-gpu")}}});
    resources["claims"] = Json::array({{{"name", "gpu"}}});
  }
  return resources;
}

}  // namespace

std::string CoordinatorService(const Plan& plan) { return absl::StrCat(plan.name, "-coordinator"); }
std::string ClusterConfigMap(const Plan& plan) { return absl::StrCat(plan.name, "-cluster"); }
std::string NetworkConfigMap(const Plan& plan) { return absl::StrCat(plan.name, "-network"); }

Json Labels(const Plan& plan, const std::string& component) {
  Json labels = {{"app.kubernetes.io/name", "muster"}, {"app.kubernetes.io/instance", plan.name}};
  if (!component.empty()) labels["app.kubernetes.io/component"] = component;
  return labels;
}

Json Metadata(const Plan& plan, const std::string& name, const std::string& component) {
  Json metadata;
  metadata["name"] = name;
  if (!plan.name_space.empty()) metadata["namespace"] = plan.name_space;
  metadata["labels"] = Labels(plan, component);
  return metadata;
}

Json CoordinatorTemplate(const Plan& plan, const PodOptions& options) {
  Json pod, container, volumes = Json::array(), mounts = Json::array();
  BeginPod(plan, options, &pod);
  BeginContainer(plan, options, &container);
  container["args"] = RunArguments(plan);
  container["env"] =
      Json::array({{{"name", "HOME"}, {"value", "/tmp"}}, {{"name", "XDG_STATE_HOME"}, {"value", kRecordFolder}}});
  if (!plan.record_claim.empty()) {
    container["env"].push_back(EnvField("JOB_UID", "metadata.labels['batch.kubernetes.io/controller-uid']"));
  }
  container["ports"] = Json::array({{{"name", "tls-coordinator"}, {"containerPort", plan.port}}});
  Put(&container, "resources",
      Json{{"requests", {{"cpu", "1"}, {"memory", "512Mi"}}}, {"limits", {{"cpu", "1"}, {"memory", "512Mi"}}}},
      "some thousand agents need no more; no GPU, so any node will do");
  Json record;
  Put(&record, "name", "record",
      plan.record_claim.empty()
          ? "record and logs end with the pod; a successor begins anew from the newest checkpoint. "
            "kubernetes.record keeps them"
          : "record, logs and verdicts: a coordinator of the same Job that is made again goes on from there, and "
            "agents keep their workers meanwhile");
  if (plan.record_claim.empty()) {
    record["emptyDir"] = Json::object();
  } else {
    record["persistentVolumeClaim"] = {{"claimName", plan.record_claim}};
  }
  volumes.push_back(std::move(record));
  mounts.push_back({{"name", "record"}, {"mountPath", kRecordFolder}});
  AddVolumes(plan, /*data=*/false, &volumes, &mounts);
  if (plan.shows_token) {
    container["env"].push_back(EnvField("POD_NAMESPACE", "metadata.namespace"));
    Json cluster;
    Put(&cluster, "name", "cluster",
        "the cluster's public keys: with them the coordinator checks tokens of pods and asks nobody");
    cluster["configMap"]["name"] = ClusterConfigMap(plan);
    volumes.push_back(std::move(cluster));
    mounts.push_back({{"name", "cluster"}, {"mountPath", kClusterFolder}, {"readOnly", true}});
  }
  if (!plan.network_files.empty()) {
    volumes.push_back({{"name", "network"}, {"configMap", {{"name", NetworkConfigMap(plan)}}}});
    mounts.push_back({{"name", "network"}, {"mountPath", kNetworkFolder}, {"readOnly", true}});
  }
  container["volumeMounts"] = std::move(mounts);
  EndContainer(&container);
  pod["containers"] = Json::array({std::move(container)});
  pod["volumes"] = std::move(volumes);
  Json pod_template;
  pod_template["metadata"] = TemplateMetadata(plan, kCoordinator);
  pod_template["spec"] = std::move(pod);
  return pod_template;
}

Json AgentTemplate(const Plan& plan, const PodOptions& options) {
  Json pod, container, volumes = Json::array(), mounts = Json::array();
  BeginPod(plan, options, &pod);
  AddPlacement(plan, &pod);
  BeginContainer(plan, options, &container);
  Put(&container, "args",
      Json::array({"agent", "--coordinator", absl::StrCat(CoordinatorService(plan), ":", plan.port), "--join-key-file",
                   absl::StrCat(kKeyFolder, "/key"), "--node", absl::StrCat("$(", options.node_number, ")"), "--host",
                   "$(POD_NAME)@$(NODE_NAME)", "--address", "$(POD_IP)", "--slots", absl::StrCat(plan.workers_per_node),
                   "--orphan-after", absl::StrCat(kOrphanAfterSeconds), "--home-if-no-folder", "--termination-message",
                   kLastWordsFile}),
      "the index only says which node this is; ranks are the coordinator's to give, and of two pods of one index the newer "
      "counts");
  Json env = Json::array({EnvField("POD_NAME", "metadata.name"),
                          EnvField("NODE_NAME", "spec.nodeName"),
                          EnvField("POD_IP", "status.podIP"),
                          {{"name", "HOME"}, {"value", "/tmp"}}});
  if (!options.node_number_label.empty()) {
    env.push_back(EnvField(options.node_number, absl::StrCat("metadata.labels['", options.node_number_label, "']")));
  }
  Put(&container, "resources", AgentResources(plan, &pod),
      absl::StrCat("for the ", plan.workers_per_node, plan.workers_per_node == 1 ? " worker" : " workers",
                   " of a pod together; limits equal requests, so a static CPU manager gives whole cores. Windows of libmuster "
                   "are shared "
                   "memory and count here",
                   plan.cpu_given && plan.memory_given
                       ? ""
                       : "\nresources in job.yaml does not say all of it: 1 core and 1Gi a worker are assumed"));
  AddVolumes(plan, /*data=*/true, &volumes, &mounts);
  AddOwnLabels(plan, options.version, &volumes, &mounts, &env);
  if (plan.shows_token) {
    container["args"].push_back("--token-file");
    container["args"].push_back(absl::StrCat(kTokenFolder, "/token"));
    Json token;
    Put(&token, "name", "token",
        "says to this job's coordinator, and to nobody else, which pod this is; it opens nothing at the API server");
    token["projected"]["sources"] =
        Json::array({{{"serviceAccountToken",
                       {{"audience", TokenAudience(plan)}, {"expirationSeconds", kTokenSeconds}, {"path", "token"}}}}});
    volumes.push_back(std::move(token));
    mounts.push_back({{"name", "token"}, {"mountPath", kTokenFolder}, {"readOnly", true}});
  }
  container["env"] = std::move(env);
  container["volumeMounts"] = std::move(mounts);
  if (options.restart_in_place) {
    Put(&container, "restartPolicy", "Never",
        "69: no coordinator was to be had; the agent waits for the next one in this pod, on this node");
    container["restartPolicyRules"] =
        Json::array({{{"action", "Restart"}, {"exitCodes", {{"operator", "In"}, {"values", Json::array({69})}}}}});
  }
  EndContainer(&container);
  pod["containers"] = Json::array({std::move(container)});
  pod["volumes"] = std::move(volumes);
  Json pod_template;
  pod_template["metadata"] = TemplateMetadata(plan, kAgent);
  pod_template["spec"] = std::move(pod);
  return pod_template;
}

}  // namespace muster::kubernetes
