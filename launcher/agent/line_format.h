// How a worker's line is marked for its reader: which rank wrote it, on which host, when; and in which colour that is shown.
#ifndef MUSTER_LAUNCHER_AGENT_LINE_FORMAT_H_
#define MUSTER_LAUNCHER_AGENT_LINE_FORMAT_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace muster {

enum class OutputStream { kStdout, kStderr };

// What stands before each line. `tag`, and `timestamp` where neither rank nor host is asked for, are written as mpirun (Open MPI
// 4.1) writes them; else as Slurm's and Flux's --label does, with the time first:
//   tag                      [1,3]<stdout>:text
//   timestamp                Sat Nov 21 09:30:00 2026<stdout>:text
//   timestamp, tag           Sat Nov 21 09:30:00 2026[1,3]<stdout>:text
//   rank                     3: text
//   rank, host               3 node-b: text
//   rank, host, timestamp    2026-11-21T09:30:00.042  3 node-b: text
struct LineMarks {
  bool tag = false;  // not beside rank or host
  bool rank = false;
  bool host = false;
  bool timestamp = false;  // when muster read it, to the second in mpirun's form, else to the millisecond
  uint32_t ranks = 1;      // of the job: ranks are as wide as the greatest

  bool any() const { return tag || rank || host || timestamp; }
  friend bool operator==(const LineMarks&, const LineMarks&) = default;
};

// Pure, but for a cache of the last time's text. Not thread-safe.
class LineFormat {
 public:
  // With `color` marks are in the colour of their rank: ten colours in turn, by ANSI's SGR sequences.
  explicit LineFormat(LineMarks marks, bool color = false, absl::TimeZone zone = absl::LocalTimeZone())
      : marks_(marks), color_(color), zone_(zone) {}

  // Whether anything is put before lines; if not they pass as they are, and Append is not needed.
  bool marks_lines() const { return marks_.any(); }

  // Appends `lines` with a mark before each and an end behind each, also where the last lacks its own. What is longer than
  // `line_bytes_max` becomes several lines.
  void Append(uint32_t rank, OutputStream which, absl::string_view host, absl::Time when, absl::string_view lines,
              std::string* out, size_t line_bytes_max = 1 << 20);

 private:
  std::string Mark(uint32_t rank, OutputStream which, absl::string_view host, absl::Time when);
  const std::string& TimeText(absl::Time when, bool as_mpirun);

  LineMarks marks_;
  bool color_;
  absl::TimeZone zone_;
  int64_t time_ms_ = -1;  // of time_text_, in whole units of what it shows
  std::string time_text_;
};

// The digits of the greatest of `ranks` ranks.
int RankDigits(uint32_t ranks);

// Starts the colour of `rank`; kColorEnd ends it.
absl::string_view RankColor(uint32_t rank);
inline constexpr absl::string_view kColorEnd = "\033[0m";

}  // namespace muster

#endif  // MUSTER_LAUNCHER_AGENT_LINE_FORMAT_H_
