// muster k8s lint: its flags and itself, for k8s.cc.
#ifndef MUSTER_LAUNCHER_CLI_K8S_LINT_H_
#define MUSTER_LAUNCHER_CLI_K8S_LINT_H_

#include <string>
#include <vector>

#include "launcher/cli/flags.h"

namespace muster {

struct LintFlags {
  std::string version;
  std::string pod_security = "restricted";
  std::vector<std::string> ignored;
  bool json = false;
  bool list = false;
};

FlagSet DeclareLint(LintFlags* lint);

// The words after `muster k8s lint`. Returns the exit status.
int LintCommand(const std::vector<std::string>& arguments);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_CLI_K8S_LINT_H_
