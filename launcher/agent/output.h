// Workers' output on its way to muster's own stdout and stderr: whole lines, in order per rank, never blocking the loop.
#ifndef MUSTER_LAUNCHER_AGENT_OUTPUT_H_
#define MUSTER_LAUNCHER_AGENT_OUTPUT_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "launcher/agent/line_format.h"
#include "launcher/agent/output_files.h"
#include "runtime/base/event_loop.h"
#include "runtime/base/fd.h"

namespace muster {

struct OutputOptions {
  LineMarks marks;            // before each line on the descriptors below and in files
  bool color_stdout = false;  // of the marks on stdout
  bool color_stderr = false;
  std::string host;  // for marks
  // A line without its end is passed on at once instead of when it ends. For a single worker only (a prompt, a progress bar):
  // with more than one it would tear lines.
  bool pass_partial_lines = false;
  // Where set, what workers write to stderr is shown here too, as it was read.
  std::function<void(uint32_t rank, absl::string_view text)> errors;
  // Where set, all output goes to these files as well; with `files_only` nowhere else. Borrowed; each rank's is open before its
  // streams are added.
  OutputFiles* files = nullptr;
  bool files_only = false;
  std::function<void()> files_failed;  // something could not be written to them, and was warned of
  // Where set, everything goes here as it was written, whole lines in order, and nothing to the descriptors below: over an agent's
  // stream. While `must_wait` says so the workers' pipes are not read, unless their writer has died.
  std::function<void(uint32_t rank, OutputStream which, absl::string_view text)> deliver;
  std::function<bool()> must_wait;  // with `deliver`
  // Where set, what goes to the descriptors below goes here as well, without marks, also what they have no room for.
  std::function<void(uint32_t rank, OutputStream which, absl::string_view text)> copy;

  int stdout_fd = 1;  // borrowed
  int stderr_fd = 2;  // borrowed; where both lead to one place, whole lines of the two alternate

  // A longer line is cut: unmarked into pieces with no byte added (lines of other ranks may then come between), else into
  // lines.
  size_t line_bytes_max = 1 << 20;
  // What a slow reader has not taken yet: first in memory, then in a nameless file in `spill_folder` (empty: none); each for
  // stdout and stderr alone. When both are full, workers wait as long as the reader takes something now and then; once it has
  // taken nothing for `reader_stall_time` (a stopped terminal) whole lines are dropped instead, and counted.
  size_t memory_bytes_max = 8 << 20;
  int64_t spill_bytes_max = int64_t{1} << 30;
  std::string spill_folder;
  absl::Duration reader_stall_time = absl::Seconds(2);
};

// Belongs to the loop's thread. SIGPIPE is blocked in the thread that calls Create: a reader that goes away is an answer, not a
// death.
class OutputForwarder {
 public:
  static absl::StatusOr<std::unique_ptr<OutputForwarder>> Create(EventLoop* loop, OutputOptions options);
  // Forwards nothing more; what is queued is lost unless Flush was waited for.
  virtual ~OutputForwarder() = default;

  // Reads `fd`, a pipe's read end or a pty's master, until its end. Reads go through epoll, the descriptor is made
  // non-blocking. At the end of the stream a last line without newline is passed on, with a newline only if marked.
  virtual absl::Status AddStream(uint32_t rank, OutputStream which, UniqueFd fd) = 0;

  // The rank's worker has died: reads now what it left behind. A descendant that holds the pipe open is still forwarded later.
  virtual void Drain(uint32_t rank) = 0;
  // The tree has ended, nobody writes any more: reads what is readable, passes on last lines, closes all streams.
  virtual void DrainAll() = 0;
  // Calls `done` when all that was read so far has been written, or its reader is gone. Warns once, with counts and ranks, if
  // lines were dropped.
  virtual void Flush(std::function<void()> done) = 0;

  virtual bool HasStreams(uint32_t rank) const = 0;
  // muster's stdout (or stderr) has lost its reader, as in `muster run ... | head`; output for it is thrown away from then on.
  virtual bool ReaderGone(OutputStream which) const = 0;
  // Something for stdout, stderr or a file could not be written though its reader is there: a full disk, say. It was warned of.
  virtual bool WriteFailed() const = 0;
  virtual uint64_t lines_dropped() const = 0;
};

// Both ends close on exec. The worker gets `worker_end` as stdout or stderr (pass it on to the guard), the forwarder `our_end`.
struct OutputChannel {
  UniqueFd our_end;
  UniqueFd worker_end;
};
absl::StatusOr<OutputChannel> OpenOutputPipe();
// A pty in raw mode; its window has the size of `terminal_fd`'s if that is a terminal.
absl::StatusOr<OutputChannel> OpenOutputPty(int terminal_fd);
// For SIGWINCH: gives the pty the terminal's new size, which signals the worker.
void CopyWindowSize(int terminal_fd, int pty_fd);

}  // namespace muster

#endif  // MUSTER_LAUNCHER_AGENT_OUTPUT_H_
