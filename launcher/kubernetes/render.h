// A job as manifests. Nothing here talks to a cluster: the same job, API and version give the same documents.
//
// What runs: a coordinator (`muster run --starter join`) in a pod of its own, on any cheap node, and an agent (`muster agent`) in one pod
// a node. Agents find the coordinator by the name of a headless Service, once, and join with a key that all pods of the job mount
// from one Secret; the rank is the coordinator's to give, never the pod's index. The coordinator's exit status, log and verdict are
// the job's.
#ifndef MUSTER_LAUNCHER_KUBERNETES_RENDER_H_
#define MUSTER_LAUNCHER_KUBERNETES_RENDER_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "launcher/kubernetes/document.h"
#include "launcher/kubernetes/fields.h"
#include "launcher/kubernetes/plan.h"

namespace muster::kubernetes {

enum class Api {
  kJob,       // batch/v1: two Jobs
  kJobSet,    // jobset.x-k8s.io/v1alpha2
  kTrainJob,  // trainer.kubeflow.org/v1alpha1: ClusterTrainingRuntime and TrainJob
  kMpiJob,    // kubeflow.org/v2beta1: the coordinator is the launcher, agents are the workers; no mpirun, no sshd
};
// Errors: InvalidArgument, naming the nearest.
absl::StatusOr<Api> ApiFromText(absl::string_view text);
const std::vector<std::string>& ApiNames();

struct RenderOptions {
  Api api = Api::kJob;
  int version = kVersionDefault;
  // The join key to put into a Secret among the documents; empty: the Secret is somebody else's, and only named.
  std::string join_key;
  bool restrict_egress = false;  // pods reach each other and DNS, and nothing else
};

struct Manifest {
  std::string file;  // "10-service-words.yaml": in the order in which they are to be applied
  Json document;
};

// Errors: InvalidArgument (this version cannot do what the plan asks for: says from which on).
absl::StatusOr<std::vector<Manifest>> Render(const Plan& plan, const RenderOptions& options);

// The Secret that the pods mount, and how to make it; for a person.
std::string JoinSecretName(const Plan& plan);
std::string JoinSecretCommand(const Plan& plan);
// The same of the ConfigMap of the cluster's keys, where agents show tokens; else empty.
std::string ClusterKeysCommand(const Plan& plan);

}  // namespace muster::kubernetes

#endif  // MUSTER_LAUNCHER_KUBERNETES_RENDER_H_
