#include "launcher/agent/output.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <list>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "launcher/agent/output_sink.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

constexpr size_t kReadBytes = 128 << 10;
constexpr absl::Duration kLookAgain = absl::Milliseconds(10);
// A stream that is read twice within this time, and gave little, is left alone for so long. A pipe holds four times as much.
constexpr absl::Duration kGather = absl::Milliseconds(1);
constexpr size_t kGatheredBytes = 16 << 10;
// More than a pipe or a pty may hold unless somebody enlarged it, which F_GETPIPE_SZ tells.
constexpr size_t kLeftBehindBytesMax = 1 << 20;

struct Stream {
  uint32_t rank;
  OutputStream which;
  UniqueFd fd;
  bool is_pipe = true;     // else a pty, which has little room for what is not read yet
  std::string begun;       // of a line whose end has not come
  bool held_back = false;  // not listened to until the sink has room, or more has come
  int64_t read_ns = 0;     // when it was read last
};

class Forwarder final : public OutputForwarder {
 public:
  Forwarder(EventLoop* loop, OutputOptions options, OutputSinks sinks)
      : loop_(loop),
        options_(std::move(options)),
        stdout_format_(options_.marks, options_.color_stdout),
        stderr_format_(options_.marks, options_.color_stderr),
        file_format_(options_.marks),
        sinks_(std::move(sinks)),
        buffer_(kReadBytes, '\0') {}

  ~Forwarder() override {
    *alive_ = false;
    if (look_again_) loop_->Cancel(*look_again_);
    for (const Stream& stream : streams_) loop_->Remove(stream.fd.get());
  }

  absl::Status AddStream(uint32_t rank, OutputStream which, UniqueFd fd) override {
    const int flags = fcntl(fd.get(), F_GETFL);
    if (flags < 0 || fcntl(fd.get(), F_SETFL, flags | O_NONBLOCK) != 0) return ErrnoToStatus(errno, "a worker's output");
    const bool is_pipe = ::isatty(fd.get()) == 0;
    streams_.push_back({.rank = rank, .which = which, .fd = std::move(fd), .is_pipe = is_pipe});
    const auto stream = std::prev(streams_.end());
    absl::Status added = Listen(stream);
    if (!added.ok()) streams_.pop_back();
    return added;
  }

  void Drain(uint32_t rank) override {
    for (auto stream = streams_.begin(); stream != streams_.end();) {
      const auto next = std::next(stream);
      if (stream->rank == rank && !ReadWhatIsThere(&*stream)) Close(stream);
      stream = next;
    }
  }

  void DrainAll() override {
    while (!streams_.empty()) {
      ReadWhatIsThere(&streams_.front());
      Close(streams_.begin());
    }
  }

  void Flush(std::function<void()> done) override {
    if (options_.deliver) return loop_->Post(std::move(done));
    sinks_.WhenEmpty([this, alive = alive_, done = std::move(done)] {
      if (!*alive) return;
      WarnOfDropped();
      done();
    });
  }

  bool HasStreams(uint32_t rank) const override {
    return std::any_of(streams_.begin(), streams_.end(), [rank](const Stream& stream) { return stream.rank == rank; });
  }
  bool ReaderGone(OutputStream which) const override { return !options_.deliver && Sink(which).reader_gone(); }
  bool WriteFailed() const override { return files_failed_ || (!options_.deliver && sinks_.write_failed()); }
  uint64_t lines_dropped() const override { return lines_dropped_; }

 private:
  OutputSink& Sink(OutputStream which) const { return sinks_.of(which == OutputStream::kStderr); }

  bool MustWait(OutputStream which) {
    if (options_.deliver) return options_.must_wait && options_.must_wait();
    return Sink(which).MustWait();
  }

  absl::Status Listen(std::list<Stream>::iterator stream) {
    return loop_->Add(stream->fd.get(), EPOLLIN, [this, stream](uint32_t) {
      // The pipe fills up and the worker waits, as it would with the slow reader at its other end.
      if (MustWait(stream->which)) return HoldBack(&*stream, kLookAgain);
      size_t bytes = 0;
      if (!Read(&*stream, &bytes)) return Close(stream);
      // A worker that writes line by line would have each of them read, kept and sent by itself.
      const int64_t last_ns = std::exchange(stream->read_ns, MonotonicNanoseconds());
      const bool often = stream->read_ns - last_ns < absl::ToInt64Nanoseconds(kGather);
      if (often && bytes < kGatheredBytes && stream->is_pipe) HoldBack(&*stream, kGather);
    });
  }

  void HoldBack(Stream* stream, absl::Duration time) {
    loop_->Remove(stream->fd.get());
    stream->held_back = true;
    if (!look_again_) look_again_ = loop_->After(time, [this] { GoOn(); });
  }

  // Far more than the reader can take within kLookAgain is queued, so it is never kept waiting by this.
  void GoOn() {
    look_again_.reset();
    for (auto stream = streams_.begin(); stream != streams_.end();) {
      const auto next = std::next(stream);
      if (stream->held_back && MustWait(stream->which)) {
        if (!look_again_) look_again_ = loop_->After(kLookAgain, [this] { GoOn(); });
      } else if (stream->held_back) {
        stream->held_back = false;
        if (!Listen(stream).ok()) Close(stream);
      }
      stream = next;
    }
  }

  // One read. True while the stream lives; `read`: bytes it gave.
  bool Read(Stream* stream, size_t* read_bytes = nullptr) {
    const ssize_t bytes = read(stream->fd.get(), buffer_.data(), buffer_.size());
    if (read_bytes != nullptr) *read_bytes = bytes > 0 ? static_cast<size_t>(bytes) : 0;
    if (bytes > 0) Take(stream, absl::string_view(buffer_.data(), static_cast<size_t>(bytes)));
    return bytes > 0 || (bytes < 0 && (errno == EAGAIN || errno == EINTR));  // a pty ends with EIO
  }

  // What the dead have written cannot be more than the pipe holds; a living descendant may go on writing for ever.
  bool ReadWhatIsThere(Stream* stream) {
    const int capacity = fcntl(stream->fd.get(), F_GETPIPE_SZ);
    const size_t enough = std::max<size_t>(kLeftBehindBytesMax, capacity > 0 ? static_cast<size_t>(capacity) : 0);
    size_t bytes = 0;
    for (size_t total = 0; total < enough; total += bytes) {
      if (!Read(stream, &bytes)) return false;
      if (bytes == 0 && errno == EAGAIN) return true;
    }
    return true;
  }

  void Take(Stream* stream, absl::string_view text) {
    if (options_.errors && stream->which == OutputStream::kStderr) options_.errors(stream->rank, text);
    if (options_.pass_partial_lines && !options_.marks.any()) return Write(*stream, text);
    const size_t last = text.rfind('\n');
    if (last != absl::string_view::npos) {
      const absl::string_view lines = text.substr(0, last + 1);
      text.remove_prefix(last + 1);
      if (stream->begun.empty()) {
        Write(*stream, lines);
      } else {
        stream->begun.append(lines.data(), lines.size());
        Write(*stream, stream->begun);
        stream->begun.clear();
      }
    }
    stream->begun.append(text.data(), text.size());
    if (stream->begun.size() < options_.line_bytes_max) return;
    const size_t whole = stream->begun.size() / options_.line_bytes_max * options_.line_bytes_max;
    Write(*stream, absl::string_view(stream->begun).substr(0, whole));
    stream->begun.erase(0, whole);
  }

  // Lines with their ends; the last may lack its own.
  void Write(const Stream& stream, absl::string_view lines) {
    const absl::Time now = absl::Now();
    if (options_.files != nullptr) WriteToFile(stream, Marked(&file_format_, stream, now, lines));
    if (options_.files != nullptr && options_.files_only) return;
    if (options_.deliver) return options_.deliver(stream.rank, stream.which, lines);
    if (options_.copy) options_.copy(stream.rank, stream.which, lines);
    LineFormat* const format = stream.which == OutputStream::kStdout ? &stdout_format_ : &stderr_format_;
    const absl::string_view text = Marked(format, stream, now, lines);
    if (Sink(stream.which).Write(text)) return;
    const auto count = static_cast<uint64_t>(std::count(text.begin(), text.end(), '\n'));
    lines_dropped_ += count;
    dropped_[stream.rank] += count;
    bytes_dropped_ += text.size();
  }

  // Good until the next call.
  absl::string_view Marked(LineFormat* format, const Stream& stream, absl::Time now, absl::string_view lines) {
    if (!format->marks_lines()) return lines;
    marked_lines_.clear();
    format->Append(stream.rank, stream.which, options_.host, now, lines, &marked_lines_, options_.line_bytes_max);
    return marked_lines_;
  }

  void WriteToFile(const Stream& stream, absl::string_view text) {
    const absl::Status written = options_.files->Write(stream.rank, stream.which, text);
    if (written.ok()) return;
    Log(LogLevel::kWarning, absl::StrCat("the output of rank ", stream.rank, " on host ", options_.host,
                                         " cannot be written: ", written.message(), "; the job goes on"));
    if (!std::exchange(files_failed_, true) && options_.files_failed) options_.files_failed();
  }

  void Close(std::list<Stream>::iterator stream) {
    if (!stream->begun.empty()) Write(*stream, stream->begun);
    loop_->Remove(stream->fd.get());
    streams_.erase(stream);
  }

  void WarnOfDropped() {
    if (bytes_dropped_ == 0) return;
    const std::string ranks = absl::StrJoin(dropped_, ", ", [](std::string* out, const auto& entry) {
      absl::StrAppend(out, "rank ", entry.first, ": ", entry.second);
    });
    Log(LogLevel::kWarning, absl::StrCat("dropped ", lines_dropped_, " lines (", bytes_dropped_,
                                         " bytes) of output, because its reader was too slow and ", options_.memory_bytes_max,
                                         " bytes of memory and ", options_.spill_folder.empty() ? 0 : options_.spill_bytes_max,
                                         " bytes of spill file were full; ", ranks));
    bytes_dropped_ = 0;  // warned of
  }

  EventLoop* const loop_;
  const OutputOptions options_;
  LineFormat stdout_format_, stderr_format_, file_format_;
  const OutputSinks sinks_;  // none: delivered
  std::list<Stream> streams_;
  std::optional<EventLoop::TimerId> look_again_;  // while a stream is held back
  std::string buffer_;
  std::string marked_lines_;
  bool files_failed_ = false;
  uint64_t lines_dropped_ = 0;
  uint64_t bytes_dropped_ = 0;
  std::map<uint32_t, uint64_t> dropped_;
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // for what is posted to the loop
};

}  // namespace

absl::StatusOr<std::unique_ptr<OutputForwarder>> OutputForwarder::Create(EventLoop* loop, OutputOptions options) {
  sigset_t broken_pipe;
  sigemptyset(&broken_pipe);
  sigaddset(&broken_pipe, SIGPIPE);
  pthread_sigmask(SIG_BLOCK, &broken_pipe, nullptr);
  OutputSinks sinks;
  if (!options.deliver) {
    const SinkLimits limits = {options.memory_bytes_max, options.spill_bytes_max, options.spill_folder,
                               options.reader_stall_time};
    MUSTER_ASSIGN_OR_RETURN(sinks, OutputSinks::Create(loop, options.stdout_fd, options.stderr_fd, limits));
  }
  return std::make_unique<Forwarder>(loop, std::move(options), std::move(sinks));
}

}  // namespace muster
