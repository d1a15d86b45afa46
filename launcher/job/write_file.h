// Replacing a file whole.
#ifndef MUSTER_LAUNCHER_JOB_WRITE_FILE_H_
#define MUSTER_LAUNCHER_JOB_WRITE_FILE_H_

#include <string>

#include "absl/status/status.h"

namespace muster {

// Replaces the file at `path` by `text`: whole or not at all, unless `path` is no regular file (/dev/stderr), which is written
// to.
absl::Status WriteFile(const std::string& path, const std::string& text);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_JOB_WRITE_FILE_H_
