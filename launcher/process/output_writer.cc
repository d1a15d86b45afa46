#include "launcher/process/output_writer.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "runtime/base/log.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

constexpr absl::Duration kLookAgain = absl::Milliseconds(10);
constexpr size_t kLineBytesMax = 1 << 20;  // agents cut longer lines

}  // namespace

absl::StatusOr<std::unique_ptr<OutputWriter>> OutputWriter::Create(EventLoop* loop, OutputWriterOptions options,
                                                                   std::function<void(bool hold)> hold) {
  sigset_t broken_pipe;
  sigemptyset(&broken_pipe);
  sigaddset(&broken_pipe, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &broken_pipe, nullptr);
  std::unique_ptr<OutputWriter> writer(new OutputWriter(loop, options, std::move(hold)));
  if (options.attached) {
    const SinkLimits limits = {options.memory_bytes_max, options.spill_bytes_max, options.job_folder,
                               options.reader_stall_time};
    MUSTER_ASSIGN_OR_RETURN(writer->sinks_, OutputSinks::Create(loop, STDOUT_FILENO, STDERR_FILENO, limits));
  }
  return writer;
}

OutputWriter::~OutputWriter() {
  *alive_ = false;
  if (look_again_) loop_->Cancel(*look_again_);
}

void OutputWriter::Write(const v1::Output& output) {
  lines_dropped_ += output.lines_dropped();
  files_failed_ = files_failed_ || output.files_failed();
  if (output.text().empty()) return;
  logs_.Write(output.rank(), output.is_stderr(), output.text());
  if (sinks_.stdout_sink == nullptr) return;
  // A line that was too long for one message is put together again, so that no other comes between its parts.
  const auto begun = begun_.find({output.rank(), output.is_stderr()});
  if (begun == begun_.end()) {
    if (output.continues()) {
      begun_[{output.rank(), output.is_stderr()}] = output;
    } else {
      WriteLines(output);
    }
  } else {
    begun->second.mutable_text()->append(output.text());
    if (!output.continues() || begun->second.text().size() >= kLineBytesMax) {
      WriteLines(begun->second);
      begun_.erase(begun);
    }
  }
  if (holding() || !MustWait()) return;
  look_again_ = loop_->After(kLookAgain, [this] { LookAgain(); });
  hold_(true);
}

void OutputWriter::WriteLines(const v1::Output& output) {
  absl::string_view text = output.text();
  LineFormat& format = output.is_stderr() ? stderr_format_ : stdout_format_;
  if (format.marks_lines()) {
    marked_lines_.clear();
    format.Append(output.rank(), output.is_stderr() ? OutputStream::kStderr : OutputStream::kStdout, output.host(),
                  absl::FromUnixMillis(output.unix_ms()), text, &marked_lines_);
    text = marked_lines_;
  }
  if (sinks_.of(output.is_stderr()).Write(text)) return;
  const auto lines = static_cast<uint64_t>(std::count(text.begin(), text.end(), '\n'));
  lines_dropped_ += lines;
  dropped_[output.rank()] += lines;
}

bool OutputWriter::MustWait() const { return sinks_.of(false).MustWait() || sinks_.of(true).MustWait(); }

void OutputWriter::LookAgain() {
  look_again_.reset();
  if (MustWait()) {
    look_again_ = loop_->After(kLookAgain, [this] { LookAgain(); });
  } else {
    hold_(false);
  }
}

void OutputWriter::Flush(std::function<void()> done) {
  if (sinks_.stdout_sink == nullptr) return loop_->Post(std::move(done));
  for (const auto& [stream, output] : std::exchange(begun_, {})) WriteLines(output);  // their agent has died within a line
  sinks_.WhenEmpty([this, alive = alive_, done = std::move(done)] {
    if (!*alive) return;
    if (!dropped_.empty()) {
      Log(LogLevel::kWarning, absl::StrCat("dropped ", lines_dropped_, " lines of output, because its reader was too slow; ",
                                           absl::StrJoin(dropped_, ", ", [](std::string* out, const auto& entry) {
                                             absl::StrAppend(out, "rank ", entry.first, ": ", entry.second);
                                           })));
      dropped_.clear();
    }
    done();
  });
}

}  // namespace muster
