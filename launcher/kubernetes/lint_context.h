// What the checks of lint share. For launcher/kubernetes/lint*.cc alone.
#ifndef MUSTER_LAUNCHER_KUBERNETES_LINT_CONTEXT_H_
#define MUSTER_LAUNCHER_KUBERNETES_LINT_CONTEXT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "launcher/kubernetes/lint.h"
#include "launcher/kubernetes/manifest_view.h"

namespace muster::kubernetes {

struct Object {
  std::string file;
  std::string title;  // as in Finding::object
  std::string api_version, kind, name, name_space;
  View root;
};

// A JobSpec, wherever it stands.
struct JobPlace {
  const Object* object = nullptr;
  View spec;
  std::string host_stem;  // its pods' host names are this, a dash and the index
  bool in_set = false;    // of a JobSet, which starts, suspends and ends it
  int64_t parallelism = 1;
  bool indexed() const { return spec["completionMode"].is("Indexed"); }
};

// A pod, or the template of some.
struct PodPlace {
  const Object* object = nullptr;
  View metadata, spec;
  int64_t copies = 1;            // that run at once
  bool ends = false;             // belongs to a Job: it is expected to end
  bool of_mpi_operator = false;  // which says host name, subdomain and restart policy
};

class Context {
 public:
  explicit Context(const LintOptions& options) : options(options) {}

  // A finding at `place`. CHECKs that there is such a rule.
  void Report(const Object& object, const View& place, const char* rule, std::string message);
  void ReportAt(const Object& object, const YamlNode* node, const std::string& path, const char* rule, std::string message);

  const LintOptions& options;
  std::vector<Object> objects;
  std::vector<JobPlace> jobs;
  std::vector<PodPlace> pods;
  LintResult result;
};

// The checks, each over all objects.
void CheckStructure(Context* context, const Object& object, const std::string& type);  // lint_structure.cc
void CheckNames(Context* context);                                                     // lint_names.cc
void CheckJobs(Context* context);                                                      // lint_jobs.cc
void CheckPods(Context* context);                                                      // lint_pods.cc
void CheckSecurity(Context* context);                                                  // lint_security.cc
void CheckSets(Context* context);      // lint_sets.cc: JobSet, Trainer, MPIJob, Kueue
void CheckTogether(Context* context);  // lint_together.cc: Services, policies, claims

// All containers: init containers first.
std::vector<View> ContainersOf(const View& pod_spec, bool init_too);
// Whether `labels` (a map) has all pairs of `selector` (a map that is not empty).
bool Selects(const View& selector, const View& labels);

}  // namespace muster::kubernetes

#endif  // MUSTER_LAUNCHER_KUBERNETES_LINT_CONTEXT_H_
