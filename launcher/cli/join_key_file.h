// The file of a join key: launcher/channel/join_key.h.
#ifndef MUSTER_LAUNCHER_CLI_JOIN_KEY_FILE_H_
#define MUSTER_LAUNCHER_CLI_JOIN_KEY_FILE_H_

#include <string>

#include "absl/status/statusor.h"

namespace muster {

// Errors: InvalidArgument with the flag and the remedy (it cannot be read, is too long or too short).
absl::StatusOr<std::string> ReadJoinKey(const std::string& path);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_CLI_JOIN_KEY_FILE_H_
