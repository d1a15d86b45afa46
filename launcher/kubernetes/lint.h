// What is wrong with manifests, whoever wrote them: what a server would refuse, would drop without a word, or would take and then hang,
// run twice or run with more rights than it needs.
//
// A rule has a name that stays, so that it can be looked up, ignored and tested. Rules know fields from structure.h, versions from
// fields.h; no cluster is asked.
#ifndef MUSTER_LAUNCHER_KUBERNETES_LINT_H_
#define MUSTER_LAUNCHER_KUBERNETES_LINT_H_

#include <set>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "launcher/kubernetes/fields.h"

namespace muster::kubernetes {

struct Rule {
  const char* name;    // "two-of-an-index"
  const char* reason;  // what happens otherwise
  const char* fix;
};
// In the order in which `muster k8s lint --list` shows them.
const std::vector<Rule>& Rules();
const Rule* FindRule(absl::string_view name);  // null: there is none

enum class PodSecurity { kPrivileged, kBaseline, kRestricted };

struct LintOptions {
  int version = 0;  // of the cluster; 0: not known, so nothing is too new
  PodSecurity pod_security = PodSecurity::kRestricted;
  std::set<std::string> ignored;  // rules
};

struct Finding {
  std::string rule;
  std::string file;
  int line = 1;  // from 1, as the column
  int column = 1;
  std::string object;   // "Job words", or "document 2"
  std::string path;     // "spec.template.spec"
  std::string message;  // what is there; the rule says why that is wrong and what to do
};

struct LintResult {
  std::vector<Finding> findings;     // by file, line and column
  int objects = 0;                   // that were looked at
  std::vector<std::string> unknown;  // objects of kinds that lint has no table of: "Deployment web"
};

struct ManifestText {
  std::string file;  // as findings call it
  std::string text;
};

// The files together: a Service in one may belong to pods in another.
LintResult Lint(const std::vector<ManifestText>& files, const LintOptions& options);

}  // namespace muster::kubernetes

#endif  // MUSTER_LAUNCHER_KUBERNETES_LINT_H_
