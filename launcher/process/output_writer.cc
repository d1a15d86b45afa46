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

}  // namespace

absl::StatusOr<std::unique_ptr<OutputWriter>> OutputWriter::Create(EventLoop* loop, OutputWriterOptions options,
                                                                   std::function<void(bool hold)> hold) {
  sigset_t broken_pipe;
  sigemptyset(&broken_pipe);
  sigaddset(&broken_pipe, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &broken_pipe, nullptr);
  std::unique_ptr<OutputWriter> writer(new OutputWriter(loop, options, std::move(hold)));
  if (options.attached) {
    const SinkLimits limits = {options.memory_bytes_max, options.spill_bytes_max, options.job_folder, absl::Seconds(2)};
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
  logs_.Write(output.rank(), output.is_stderr(), output.text());
  if (sinks_.stdout_sink == nullptr) return;
  if (!sinks_.of(output.is_stderr()).Write(output.text())) {
    const auto lines = static_cast<uint64_t>(std::count(output.text().begin(), output.text().end(), '\n'));
    lines_dropped_ += lines;
    dropped_[output.rank()] += lines;
  }
  if (holding() || !MustWait()) return;
  look_again_ = loop_->After(kLookAgain, [this] { LookAgain(); });
  hold_(true);
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
