// Finding the program to start.
#ifndef MUSTER_LAUNCHER_CLI_PROGRAM_H_
#define MUSTER_LAUNCHER_CLI_PROGRAM_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace muster {

// The absolute path of `program` as a worker in `working_directory` (empty: ours) would start it: a name with a slash is a
// path, relative to the working directory; a bare name is looked up in `path` (as $PATH), then in `own_folder`. Errors:
// NotFound (exit status 127) and PermissionDenied (126: a folder, no execute permission), each with the remedy.
absl::StatusOr<std::string> FindProgram(const std::string& program, const std::string& working_directory,
                                        const std::string& path, const std::string& own_folder);

// What a worker executes.
struct Startable {
  std::string path;               // absolute
  std::vector<std::string> argv;  // argv[0] as typed
};

// The same for `command`, a program and its arguments. A Python file (*.py) that cannot be executed by itself, for want of the
// permission or of a #! line, is run by `python` (a path, or a name for `path`); of a bare name that is not in `path` the working
// directory's file is meant, as with torchrun.
absl::StatusOr<Startable> FindCommand(const std::vector<std::string>& command, const std::string& working_directory,
                                      const std::string& path, const std::string& own_folder, const std::string& python);

// The path of this executable.
absl::StatusOr<std::string> OwnProgram();

// The folder that holds this executable.
absl::StatusOr<std::string> OwnFolder();

// The executable muster-guard that belongs to this muster: beside it, or in ../libexec/muster.
absl::StatusOr<std::string> FindGuard(const std::string& own_folder);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_CLI_PROGRAM_H_
