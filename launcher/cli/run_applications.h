// Several programs in one world, as mpirun's users type them: muster run -np 1 A : -np 2 B.
#ifndef MUSTER_LAUNCHER_CLI_RUN_APPLICATIONS_H_
#define MUSTER_LAUNCHER_CLI_RUN_APPLICATIONS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "launcher/cli/flags.h"

namespace muster {

// One of several programs; ranks follow the order of the command line.
struct RunApplication {
  int64_t workers = 0;
  std::vector<std::string> environment;  // -x: NAME or NAME=VALUE
  std::string working_directory;         // empty: ours
  bool module = false;                   // `command` begins with the name of a Python module
  std::vector<std::string> command;      // program and its arguments
};

// The flags that each program has for itself: -np, -x, -wdir and -m. Those of `job` are refused with a sentence that says where they
// belong.
FlagSet DeclareApplication(const FlagSet& job, RunApplication* application);

// Splits `words`, all that follows the options of the first program, at each `:` that is a word of its own, and reads what stands
// before each program but the first. `first` is what was said for that. Without a `:` the list stays empty: there is one program.
// After a `--` a `:` is the program's own. `help_wanted` as of FlagSet.
// Errors: InvalidArgument with the program, the option and the remedy.
absl::Status ReadApplications(const FlagSet& job, const std::vector<std::string>& words, bool separated, RunApplication first,
                              std::vector<RunApplication>* applications, bool* help_wanted);

// What starts a program: `command` itself, or where it names a module `python -m` and it.
std::vector<std::string> CommandToStart(const std::vector<std::string>& command, bool module, const std::string& python);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_CLI_RUN_APPLICATIONS_H_
