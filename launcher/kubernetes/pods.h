// The pods of a job, the same for all APIs.
#ifndef MUSTER_LAUNCHER_KUBERNETES_PODS_H_
#define MUSTER_LAUNCHER_KUBERNETES_PODS_H_

#include <string>

#include "launcher/kubernetes/document.h"
#include "launcher/kubernetes/plan.h"
#include "launcher/kubernetes/render.h"

namespace muster::kubernetes {

inline constexpr char kCoordinator[] = "coordinator";
inline constexpr char kAgent[] = "agent";

// `component`: kCoordinator, kAgent; empty: what all objects of the job have.
Json Labels(const Plan& plan, const std::string& component);
// "metadata" of an object of the job's.
Json Metadata(const Plan& plan, const std::string& name, const std::string& component = "");

std::string CoordinatorService(const Plan& plan);
// The ConfigMap of the cluster's keys, which is not ours to make (render.h).
std::string ClusterConfigMap(const Plan& plan);
// The ConfigMap of the plan's network files.
std::string NetworkConfigMap(const Plan& plan);

struct PodOptions {
  int version = kVersionDefault;
  std::string container = "muster";                  // its container's name
  std::string subdomain;                             // empty: whoever makes the pods sets it, or nobody
  std::string node_number = "JOB_COMPLETION_INDEX";  // the variable that holds an agent's node
  std::string node_number_label;                     // from which it comes; empty: the Job controller sets it
  bool restart_in_place = false;                     // an agent that lost its coordinator starts again in its pod
  std::string restart_policy = "Never";              // empty: another object says it
};

// PodTemplateSpecs.
Json CoordinatorTemplate(const Plan& plan, const PodOptions& options);
Json AgentTemplate(const Plan& plan, const PodOptions& options);

}  // namespace muster::kubernetes

#endif  // MUSTER_LAUNCHER_KUBERNETES_PODS_H_
