// The files of --output-filename on one node.
#ifndef MUSTER_LAUNCHER_AGENT_OUTPUT_FILES_H_
#define MUSTER_LAUNCHER_AGENT_OUTPUT_FILES_H_

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "launcher/agent/output_pattern.h"
#include "runtime/base/fd.h"

namespace muster {

// Not thread-safe. Folders are made as they are needed. A file that an earlier job has left is replaced; a later generation of this
// job appends to what the one before has written.
class OutputFiles {
 public:
  // `place` but for rank, generation and stream.
  OutputFiles(OutputPattern pattern, OutputPattern::Place place) : pattern_(std::move(pattern)), place_(std::move(place)) {}

  // Before any rank is known: makes the folder that all files are below, and a nameless file there.
  absl::Status Check() const;
  // Opens both streams' files of `rank`. `is_first`: no generation came before this one. What was opened for the rank before is closed.
  // Errors: the system's, with the path.
  absl::Status Open(uint32_t rank, uint64_t generation, bool is_first);
  // One more descriptor of a file that is open, for a worker to write to; always at the file's end (O_APPEND).
  absl::StatusOr<UniqueFd> WorkerEnd(uint32_t rank, OutputStream which) const;
  // All of `text`, or as much as there is room for. Errors: the system's, with the path; at the first loss in a row of each file only.
  absl::Status Write(uint32_t rank, OutputStream which, absl::string_view text);

 private:
  struct File {
    std::string path;
    UniqueFd fd;
    bool failing = false;
  };
  absl::StatusOr<std::shared_ptr<File>> OpenFile(const std::string& path, bool is_first);

  const OutputPattern pattern_;
  const OutputPattern::Place place_;
  std::map<std::pair<uint32_t, OutputStream>, std::shared_ptr<File>> files_;
  std::set<std::string> ours_;  // paths that this job has begun
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_AGENT_OUTPUT_FILES_H_
