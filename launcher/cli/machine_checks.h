// What `muster doctor` looks at: each check tries the thing itself, in a child process where it could do harm.
#ifndef MUSTER_LAUNCHER_CLI_MACHINE_CHECKS_H_
#define MUSTER_LAUNCHER_CLI_MACHINE_CHECKS_H_

#include <string>
#include <vector>

namespace muster {

enum class CheckLevel {
  kOk,
  kWarning,  // muster works, with less speed or a weaker promise
  kFailure,  // muster cannot work
};

struct Check {
  std::string name;
  CheckLevel level = CheckLevel::kOk;
  std::string finding;  // what is so
  std::string remedy;   // empty when all is well
};

// All of them, in the order in which they are shown. Forks; call it while the process has one thread.
std::vector<Check> CheckMachine();

}  // namespace muster

#endif  // MUSTER_LAUNCHER_CLI_MACHINE_CHECKS_H_
