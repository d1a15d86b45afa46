// --output-filename: where each rank's output is kept, in mpirun's form or as a pattern.
#ifndef MUSTER_LAUNCHER_AGENT_OUTPUT_PATTERN_H_
#define MUSTER_LAUNCHER_AGENT_OUTPUT_PATTERN_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "launcher/agent/line_format.h"

namespace muster {

// Pure. A pattern is a path with
//   %r rank   %R the same, left-filled with zeros   %h host name   %j job id   %g generation   %s "stdout" or "stderr"   %% a %
// Without %s both streams of a rank go to one file.
class OutputPattern {
 public:
  // As typed. Without any % it is a folder, and as mpirun 4.1 does it the files are FOLDER/1/rank.%R/%s; `FOLDER:nojobid` leaves the 1
  // out. `:nocopy` means the files alone; qualifiers may be joined (":nocopy,nojobid"). A relative path begins in `folder`.
  // Errors: InvalidArgument, a sentence about `text` and the remedy.
  static absl::StatusOr<OutputPattern> Parse(absl::string_view text, absl::string_view folder);
  // What text() of a parsed one says.
  explicit OutputPattern(std::string text) : text_(std::move(text)) {}

  const std::string& text() const { return text_; }
  bool files_only() const { return files_only_; }
  // Whether the path depends on it: 'r' (or 'R'), 'h', 's', ...
  bool has(char letter) const;

  struct Place {
    uint32_t rank = 0;
    uint32_t ranks = 1;  // of the job
    std::string host;
    std::string job_id;
    uint64_t generation = 0;
    OutputStream which = OutputStream::kStdout;
  };
  std::string Path(const Place& place) const;
  // The deepest folder that the files of all ranks and generations of `place`'s host have in common.
  std::string CommonFolder(const Place& place) const;

 private:
  std::string text_;
  bool files_only_ = false;
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_AGENT_OUTPUT_PATTERN_H_
