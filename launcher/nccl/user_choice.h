// What the user has told NCCL already, which nothing of ours goes over. Pure.
#ifndef MUSTER_LAUNCHER_NCCL_USER_CHOICE_H_
#define MUSTER_LAUNCHER_NCCL_USER_CHOICE_H_

#include <set>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace muster {

// The one of the user's variables (`set`: names) because of which `variable` is left as it is: itself, or one that says something of
// the same matter. Empty: none.
std::string UserVariableAgainst(const std::string& variable, const std::set<std::string>& set);

// The variables that a file of NCCL's settings names: /etc/nccl.conf, ~/.nccl.conf or what NCCL_CONF_FILE names. To NCCL a variable of
// the environment goes before the file's, so what is in the file must not be set. Source: NCCL 2.28, misc/param.cc.
std::set<std::string> VariablesOfConfiguration(absl::string_view text);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_NCCL_USER_CHOICE_H_
