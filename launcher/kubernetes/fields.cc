#include "launcher/kubernetes/fields.h"

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace muster::kubernetes {

absl::StatusOr<int> VersionFromText(absl::string_view text) {
  absl::string_view minor_text = text;
  absl::ConsumePrefix(&minor_text, "v");
  int minor = 0;
  if (absl::ConsumePrefix(&minor_text, "1.") && absl::SimpleAtoi(minor_text, &minor) && minor >= kVersionMin &&
      minor <= kVersionMax) {
    return minor;
  }
  return absl::InvalidArgumentError(absl::StrCat("\"", text, "\" is no version of Kubernetes that is known here; write ",
                                                 VersionText(kVersionMin), " to ", VersionText(kVersionMax)));
}

std::string VersionText(int minor) { return absl::StrCat("1.", minor); }

const std::vector<VersionedField>& VersionedFields() {
  static const auto& fields = *new std::vector<VersionedField>{
      {"Container", "restartPolicyRules", 34, 35, 0, "KEP-5307",
       "a container that ends fails its pod, which is made anew elsewhere"},
      {"InitContainer", "restartPolicy", 28, 29, 33, "KEP-753", "a sidecar that never ends keeps a Job from completing"},
      {"JobSpec", "backoffLimitPerIndex", 28, 29, 33, "KEP-3850",
       "failures of all pods count together, and one bad node uses them up"},
      {"JobSpec", "managedBy", 30, 32, 35, "KEP-4368", "the Job controller acts beside the other manager"},
      {"JobSpec", "maxFailedIndexes", 28, 29, 33, "KEP-3850", "failures of all pods count together"},
      {"JobSpec", "podFailurePolicy", 25, 26, 31, "KEP-3329", "a drained node counts as a failure of the program"},
      {"JobSpec", "podReplacementPolicy", 28, 29, 34, "KEP-3939",
       "a successor runs beside a pod that is still ending: two of one index"},
      {"JobSpec", "successPolicy", 30, 31, 33, "KEP-3998", "the Job waits for every index"},
      {"PodDisruptionBudgetSpec", "unhealthyPodEvictionPolicy", 26, 27, 31, "KEP-3017",
       "pods that are not ready keep a node from being drained"},
      {"PodSecurityContext", "supplementalGroupsPolicy", 31, 33, 35, "KEP-3619", "groups of the image are added"},
      {"PodSpec", "hostUsers", 25, 33, 0, "KEP-127", "the pod's users are the node's"},
      {"PodSpec", "hostnameOverride", 34, 35, 0, "KEP-4762", "the host name is the pod's name"},
      {"PodSpec", "resourceClaims", 26, 34, 34, "KEP-4381", "devices come from a device plugin"},
      {"PodSpec", "resources", 32, 34, 0, "KEP-2837", "resources are the containers' own"},
      {"PodSpec", "schedulingGates", 26, 27, 30, "KEP-3521", "the scheduler takes the pod at once"},
      {"PodSpec", "schedulingGroup", 36, 37, 0, "KEP-4671", "pods are scheduled one by one"},
      {"ServiceSpec", "trafficDistribution", 30, 31, 33, "KEP-4444", "endpoints are taken from anywhere"},
      {"VolumeSource", "image", 31, 35, 0, "KEP-4639", "data of an image is copied by an init container"},
  };
  return fields;
}

const VersionedField* FindVersionedField(absl::string_view type, absl::string_view field) {
  for (const VersionedField& one : VersionedFields()) {
    if (type == one.type && field == one.field) return &one;
  }
  return nullptr;
}

bool IsUsable(absl::string_view type, absl::string_view field, int minor) {
  const VersionedField* const known = FindVersionedField(type, field);
  return known == nullptr || (known->usable > 0 && minor >= known->usable);
}

const std::vector<VersionedKind>& VersionedKinds() {
  static const auto& kinds = *new std::vector<VersionedKind>{
      {"batch/v1", "Job", 21, 0, "stable"},
      {"batch/v1beta1", "CronJob", 8, 25, "removed in 1.25; write batch/v1"},
      {"policy/v1", "PodDisruptionBudget", 21, 0, "stable"},
      {"policy/v1beta1", "PodDisruptionBudget", 5, 25, "removed in 1.25; write policy/v1"},
      {"resource.k8s.io/v1", "DeviceClass", 34, 0, "KEP-4381"},
      {"resource.k8s.io/v1", "ResourceClaim", 34, 0, "KEP-4381"},
      {"resource.k8s.io/v1", "ResourceClaimTemplate", 34, 0, "KEP-4381"},
  };
  return kinds;
}

}  // namespace muster::kubernetes
