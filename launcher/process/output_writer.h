// The workers' output at its end: to our own stdout and stderr, where somebody is attached, and to the job's logs.
#ifndef MUSTER_LAUNCHER_PROCESS_OUTPUT_WRITER_H_
#define MUSTER_LAUNCHER_PROCESS_OUTPUT_WRITER_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "launcher/agent/line_format.h"
#include "launcher/agent/output_sink.h"
#include "launcher/job/log_keeper.h"
#include "muster/v1/agent.pb.h"
#include "runtime/base/event_loop.h"

namespace muster {

struct OutputWriterOptions {
  bool attached = true;    // to descriptors 1 and 2; else to the logs alone
  std::string job_folder;  // of logs, and of what a slow reader has not taken yet
  int64_t workers = 1;
  LineMarks marks;  // on descriptors 1 and 2, not in the logs
  bool color_stdout = false;
  bool color_stderr = false;
  size_t memory_bytes_max = 8 << 20;  // as in OutputOptions
  int64_t spill_bytes_max = int64_t{1} << 30;
  absl::Duration reader_stall_time = absl::Seconds(2);
};

// Belongs to the loop's thread, in which SIGPIPE is blocked. Never blocks, never fails the job.
class OutputWriter {
 public:
  // `hold` is called with true when a slow reader has left so much that workers had better wait, and with false when it is over.
  static absl::StatusOr<std::unique_ptr<OutputWriter>> Create(EventLoop* loop, OutputWriterOptions options,
                                                              std::function<void(bool hold)> hold);
  ~OutputWriter();

  void Write(const v1::Output& output);
  // Calls `done` when everything is written or its reader has gone; warns once if lines were dropped.
  void Flush(std::function<void()> done);

  bool holding() const { return look_again_.has_value(); }
  // Our stdout is closed: nobody reads the job's output any more. A disk that is full is another matter, write_failed().
  bool reader_gone() const {
    const OutputSink* const sink = sinks_.stdout_sink.get();
    return sink != nullptr && sink->reader_gone() && !sink->write_failed();
  }
  bool write_failed() const { return files_failed_ || (sinks_.stdout_sink != nullptr && sinks_.write_failed()); }
  uint64_t lines_dropped() const { return lines_dropped_; }

 private:
  OutputWriter(EventLoop* loop, const OutputWriterOptions& options, std::function<void(bool hold)> hold)
      : loop_(loop),
        logs_(options.job_folder, options.workers),
        hold_(std::move(hold)),
        stdout_format_(options.marks, options.color_stdout),
        stderr_format_(options.marks, options.color_stderr) {}
  void WriteLines(const v1::Output& output);
  bool MustWait() const;
  void LookAgain();

  EventLoop* const loop_;
  LogKeeper logs_;
  const std::function<void(bool hold)> hold_;
  LineFormat stdout_format_, stderr_format_;
  OutputSinks sinks_;                                      // none: not attached
  std::map<std::pair<uint32_t, bool>, v1::Output> begun_;  // by stream: ends in a line that the next message goes on with
  std::string marked_lines_;
  bool files_failed_ = false;
  std::optional<EventLoop::TimerId> look_again_;
  uint64_t lines_dropped_ = 0;
  std::map<uint32_t, uint64_t> dropped_;  // lines by rank
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace muster

#endif  // MUSTER_LAUNCHER_PROCESS_OUTPUT_WRITER_H_
