// One place that output goes to, written without ever blocking the loop: first at once, then from memory, then from a spill
// file.
#ifndef MUSTER_LAUNCHER_AGENT_OUTPUT_SINK_H_
#define MUSTER_LAUNCHER_AGENT_OUTPUT_SINK_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "runtime/base/event_loop.h"
#include "runtime/base/fd.h"

namespace muster {

struct SinkLimits {
  size_t memory_bytes_max = 0;
  int64_t spill_bytes_max = 0;
  std::string spill_folder;   // empty: no spill file
  absl::Duration stall_time;  // a reader that takes nothing for so long has stalled
};

// Belongs to the loop's thread, in which SIGPIPE is blocked.
class OutputSink {
 public:
  // Leaves the flags of `fd` as they are, because others share them (a shell, another program in the same pipeline): a pipe or
  // terminal is opened once more for itself, non-blocking; a socket is asked not to block call by call; a file cannot be waited
  // for and is written at once.
  static absl::StatusOr<std::unique_ptr<OutputSink>> Create(EventLoop* loop, int fd, SinkLimits limits);
  ~OutputSink();

  // Takes all of `text`; or nothing, and returns false, when memory and spill are full and the reader has stalled. What is
  // taken comes out in order and in one piece. While the reader moves the bounds give way, so stop writing while MustWait().
  bool Write(absl::string_view text);
  // Memory and spill are full, but the reader is only slow: better to let the writers wait than to lose their lines.
  bool MustWait() const;
  // All that was taken has been written, or its reader is gone.
  bool empty() const { return memory_bytes_ == 0 && spill_begin_ == spill_end_; }
  bool reader_gone() const { return reader_gone_; }
  // What was taken is lost for another reason than a reader that has gone.
  bool write_failed() const { return write_failed_; }
  // Calls `done` on the loop once the sink is empty.
  void WhenEmpty(std::function<void()> done);

 private:
  enum class Kind { kFile, kSocket, kNonBlocking, kBlocking };
  OutputSink(EventLoop* loop, UniqueFd fd, Kind kind, SinkLimits limits);
  ssize_t WriteOnce(absl::string_view text);
  size_t WriteSome(absl::string_view text);
  void Queue(absl::string_view text);
  bool Spill(absl::string_view text);
  bool CanSpill() const;
  bool Full(size_t more) const;
  bool ReaderMoves() const;
  void Unspill();
  void OnWritable();
  void LoseReader(int error);
  void WaitIfNeeded();

  EventLoop* const loop_;
  const UniqueFd fd_;
  const Kind kind_;
  const SinkLimits limits_;
  std::deque<std::string> memory_;
  size_t front_written_ = 0;  // bytes of memory_.front() that are out already
  size_t memory_bytes_ = 0;
  UniqueFd spill_;  // has no name in any folder
  int64_t spill_begin_ = 0;
  int64_t spill_end_ = 0;
  bool spill_failed_ = false;
  int64_t last_write_ns_;
  bool reader_gone_ = false;
  bool write_failed_ = false;
  bool waiting_ = false;
  std::vector<std::function<void()>> when_empty_;
};

// stdout and stderr of one process. Where both lead to one place they are one sink, so that whole lines of the two alternate.
struct OutputSinks {
  static absl::StatusOr<OutputSinks> Create(EventLoop* loop, int stdout_fd, int stderr_fd, const SinkLimits& limits);

  OutputSink& of(bool is_stderr) const { return is_stderr && stderr_sink ? *stderr_sink : *stdout_sink; }
  bool write_failed() const { return stdout_sink->write_failed() || (stderr_sink && stderr_sink->write_failed()); }
  // Calls `done` on the loop once both are empty.
  void WhenEmpty(std::function<void()> done) const;

  std::unique_ptr<OutputSink> stdout_sink;
  std::unique_ptr<OutputSink> stderr_sink;  // null: where stdout goes
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_AGENT_OUTPUT_SINK_H_
