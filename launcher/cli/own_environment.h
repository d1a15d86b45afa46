// The environment that muster itself was started with. Read here and nowhere else.
#ifndef MUSTER_LAUNCHER_CLI_OWN_ENVIRONMENT_H_
#define MUSTER_LAUNCHER_CLI_OWN_ENVIRONMENT_H_

#include <optional>
#include <string>
#include <vector>

namespace muster {

std::optional<std::string> Variable(const char* name);
// "NAME=value", all of them.
std::vector<std::string> OwnEnvironment();
// TMPDIR if it is an absolute path, else /tmp.
std::string TemporaryFolder();

// The interpreter of Python programs, torchrun's way: PYTHON_EXEC, else python3; a path, or a name for PATH.
std::string Python();

}  // namespace muster

#endif  // MUSTER_LAUNCHER_CLI_OWN_ENVIRONMENT_H_
