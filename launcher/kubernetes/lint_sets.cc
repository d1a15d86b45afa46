// JobSet, Kubeflow Trainer, MPI Operator, Kueue.
#include <algorithm>
#include <map>
#include <set>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "launcher/kubernetes/lint_context.h"

namespace muster::kubernetes {
namespace {

constexpr char kQueueName[] = "kueue.x-k8s.io/queue-name";
constexpr int64_t kNoLimit = 2147483647;

void CheckInPlace(Context* context, const Object& object, const View& set) {
  const View strategy = set["failurePolicy"]["restartStrategy"];
  if (!strategy.is("InPlaceRestart")) return;
  for (const View& job : set["replicatedJobs"].items()) {
    const View spec = job["template"]["spec"];
    const std::vector<View> containers = ContainersOf(spec["template"]["spec"], true);
    const bool restarts = std::any_of(containers.begin(), containers.end(),
                                      [](const View& one) { return static_cast<bool>(one["restartPolicyRules"]); });
    if (spec["backoffLimit"].number() == kNoLimit && spec["podReplacementPolicy"].is("Failed") && restarts) continue;
    context->Report(object, strategy, "in-place-restart",
                    absl::StrCat("replicated job ", job["name"].text(), " lacks one of the three"));
  }
}

void CheckJobSet(Context* context, const Object& object, const View& set) {
  std::map<std::string, View> jobs;
  const std::vector<View> replicated = set["replicatedJobs"].items();
  for (size_t i = 0; i < replicated.size(); ++i) {
    for (const View& one : replicated[i]["dependsOn"].items()) {
      if (jobs.count(one["name"].text()) == 0) {
        context->Report(
            object, one["name"], "depends-on-later",
            absl::StrCat(replicated[i]["name"].text(), " waits for ", one["name"].text(), ", which does not stand before it"));
      }
      if (set["startupPolicy"]["startupPolicyOrder"].is("InOrder")) {
        context->Report(object, set["startupPolicy"], "startup-and-depends", "startupPolicy InOrder beside dependsOn");
      }
    }
    if (!jobs.emplace(replicated[i]["name"].text(), replicated[i]).second) {
      context->Report(object, replicated[i]["name"], "duplicate-name",
                      absl::StrCat("a second replicated job called ", replicated[i]["name"].text()));
    }
  }
  const auto known = [&](const View& name) {
    if (name && jobs.count(name.text()) == 0)
      context->Report(object, name, "unknown-job", absl::StrCat("there is no replicated job ", name.text()));
  };
  for (const View& name : set["successPolicy"]["targetReplicatedJobs"].items()) known(name);
  std::set<std::string> rules;
  for (const View& rule : set["failurePolicy"]["rules"].items()) {
    for (const View& name : rule["targetReplicatedJobs"].items()) known(name);
    if (rule["name"] && !rules.insert(rule["name"].text()).second) {
      context->Report(object, rule["name"], "duplicate-name", absl::StrCat("a second rule called ", rule["name"].text()));
    }
  }
  if (const View coordinator = set["coordinator"]; coordinator) {
    known(coordinator["replicatedJob"]);
    const auto found = jobs.find(coordinator["replicatedJob"].text());
    if (found != jobs.end()) {
      const int64_t replicas = found->second["replicas"].number().value_or(1);
      const int64_t pods = found->second["template"]["spec"]["completions"].number().value_or(1);
      if (coordinator["jobIndex"].number().value_or(0) >= replicas) {
        context->Report(object, coordinator["jobIndex"], "coordinator-index",
                        absl::StrCat("jobIndex ", coordinator["jobIndex"].text(), " of ", replicas));
      }
      if (coordinator["podIndex"].number().value_or(0) >= pods) {
        context->Report(object, coordinator["podIndex"], "coordinator-index",
                        absl::StrCat("podIndex ", coordinator["podIndex"].text(), " of ", pods));
      }
    }
  }
  if (set["network"]["publishNotReadyAddresses"].is_false()) {
    context->Report(object, set["network"]["publishNotReadyAddresses"], "names-before-ready",
                    "publishNotReadyAddresses: false");
  }
  CheckInPlace(context, object, set);
}

void CheckRuntime(Context* context, const Object& object) {
  const View policy = object.root["spec"]["mlPolicy"];
  std::vector<std::string> sources;
  for (const char* name : {"torch", "mpi", "flux", "jax", "xgboost"}) {
    if (policy[name].node() != nullptr) sources.push_back(name);
  }
  if (sources.size() > 1)
    context->Report(object, policy[sources[1]], "two-policies", absl::StrCat(sources[1], " beside ", sources[0]));
  bool found = false;
  for (const View& job : object.root["spec"]["template"]["spec"]["replicatedJobs"].items()) {
    if (!job["template"]["metadata"]["labels"]["trainer.kubeflow.org/trainjob-ancestor-step"].is("trainer")) continue;
    for (const View& container : ContainersOf(job["template"]["spec"]["template"]["spec"], false))
      found = found || container["name"].is("node");
  }
  if (!found)
    context->Report(object, object.root["spec"]["template"], "no-trainer-node", "no container node in a job labelled trainer");
}

void CheckMpiJob(Context* context, const Object& object) {
  const View replicas = object.root["spec"]["mpiReplicaSpecs"];
  if (const View launcher = replicas["Launcher"]; !launcher || launcher["replicas"].number().value_or(1) != 1) {
    context->Report(object, launcher ? launcher["replicas"] : replicas, "no-launcher",
                    launcher ? "Launcher.replicas is not 1" : "no Launcher");
  }
  for (const View& container : ContainersOf(replicas["Worker"]["template"]["spec"], false)) {
    std::string words = absl::StrCat(container["command"].text(), " ");
    bool any = false;
    for (const char* field : {"command", "args"}) {
      for (const View& word : container[field].items()) absl::StrAppend(&words, word.text(), " "), any = true;
    }
    if (!any) {
      context->Report(object, container, "sshd-in-worker", "without a command the operator starts sshd");
    } else if (absl::StrContains(words, "sshd")) {
      context->Report(object, container["command"] ? container["command"] : container["args"], "sshd-in-worker",
                      "the command starts sshd");
    }
  }
}

// What Kueue admits as one: where its queue, suspend and templates stand.
void CheckQueue(Context* context, const Object& object) {
  const View labels = object.root["metadata"]["labels"], annotations = object.root["metadata"]["annotations"];
  const View queue = labels[kQueueName];
  const bool job = object.kind == "Job";
  if (job || object.kind == "JobSet" || object.kind == "TrainJob" || object.kind == "MPIJob") {
    const View suspend = object.kind == "MPIJob" ? object.root["spec"]["runPolicy"]["suspend"] : object.root["spec"]["suspend"];
    const bool admitted = static_cast<bool>(object.root["status"]);  // it comes from a cluster
    if (queue && !suspend.is_true() && !admitted)
      context->Report(object, suspend ? suspend : queue, "not-suspended",
                      absl::StrCat("queue ", queue.text(), ", not suspended"));
  }
  if (job && annotations["kueue.x-k8s.io/job-min-parallelism"] && object.root["spec"]["completionMode"].is("Indexed") &&
      !annotations["kueue.x-k8s.io/job-completions-equal-parallelism"].is_true()) {
    context->Report(object, annotations["kueue.x-k8s.io/job-min-parallelism"], "partial-world",
                    "job-min-parallelism for an Indexed Job");
  }
  for (const PodPlace& pod : context->pods) {
    if (pod.object != &object) continue;
    const View topology = pod.metadata["annotations"];
    std::vector<View> asked;
    for (const char* name : {"required", "preferred", "unconstrained"}) {
      const View one = topology[absl::StrCat("kueue.x-k8s.io/podset-", name, "-topology")];
      if (one) asked.push_back(one);
      if (one && std::string(name) != "unconstrained" && annotations["kueue.x-k8s.io/elastic-job"].is_true()) {
        context->Report(object, one, "elastic-topology", absl::StrCat("an elastic job with ", name, " topology"));
      }
    }
    if (asked.size() > 1) context->Report(object, asked[1], "topology-twice", "two kinds of topology");
    // A runtime's queue is its TrainJobs'.
    const bool runtime = object.kind == "TrainingRuntime" || object.kind == "ClusterTrainingRuntime";
    if (!asked.empty() && !queue && !runtime && !pod.metadata["labels"][kQueueName]) {
      context->Report(object, asked[0], "topology-without-queue", absl::StrCat("no label ", kQueueName));
    }
  }
}

}  // namespace

void CheckSets(Context* context) {
  for (const Object& object : context->objects) {
    if (object.kind == "JobSet") CheckJobSet(context, object, object.root["spec"]);
    if (object.kind == "TrainingRuntime" || object.kind == "ClusterTrainingRuntime") {
      CheckJobSet(context, object, object.root["spec"]["template"]["spec"]);
      CheckRuntime(context, object);
    }
    if (object.kind == "MPIJob") CheckMpiJob(context, object);
    CheckQueue(context, object);
  }
}

}  // namespace muster::kubernetes
