// Which fields of Kubernetes came when: what render may use, and what lint tells of a cluster's version.
#ifndef MUSTER_LAUNCHER_KUBERNETES_FIELDS_H_
#define MUSTER_LAUNCHER_KUBERNETES_FIELDS_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace muster::kubernetes {

// The minor version of a cluster: 33 stands for 1.33.
inline constexpr int kVersionMin = 28;
inline constexpr int kVersionMax = 37;
inline constexpr int kVersionDefault = 33;  // the oldest in which all that a Job needs is stable

// "1.33". Errors: InvalidArgument.
absl::StatusOr<int> VersionFromText(absl::string_view text);
std::string VersionText(int minor);

// A minor version of 0 in a stage: it has not come to it.
struct VersionedField {
  const char* type;   // where it stands: "JobSpec", "PodSpec", "Container", ... as in the API's reference
  const char* field;  // its name
  int alpha;          // known, but dropped by a server unless its gate is opened
  int usable;         // in every cluster that changes no gate: the beta that is on by default, or stable
  int stable;
  const char* source;   // the enhancement
  const char* without;  // what a cluster below `usable` does instead
};

// In the order of their types and names.
const std::vector<VersionedField>& VersionedFields();

// Null: not in the table, so it is older than kVersionMin.
const VersionedField* FindVersionedField(absl::string_view type, absl::string_view field);

// Whether render may write it.
bool IsUsable(absl::string_view type, absl::string_view field, int minor);

// The same for whole kinds: "resource.k8s.io/v1 ResourceClaimTemplate".
struct VersionedKind {
  const char* api_version;
  const char* kind;
  int usable;
  int gone;  // from this version on there is none; 0: it is still there
  const char* source;
};
const std::vector<VersionedKind>& VersionedKinds();

}  // namespace muster::kubernetes

#endif  // MUSTER_LAUNCHER_KUBERNETES_FIELDS_H_
