#include "launcher/agent/output_sink.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

constexpr size_t kChunkBytes = 256 << 10;

// A file of its own for what a slow reader leaves; nobody has to remove it, not even after a kill.
UniqueFd OpenSpill(const std::string& folder) {
  UniqueFd spill(open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (spill) return spill;
  std::string name = absl::StrCat(folder, "/output-XXXXXX");  // a file system without O_TMPFILE
  spill.Reset(mkostemp(name.data(), O_CLOEXEC));
  if (spill) unlink(name.c_str());
  return spill;
}

bool SamePlace(int a, int b) {
  struct stat x, y;
  return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

}  // namespace

absl::StatusOr<std::unique_ptr<OutputSink>> OutputSink::Create(EventLoop* loop, int fd, SinkLimits limits) {
  struct stat place;
  if (fstat(fd, &place) != 0) return ErrnoToStatus(errno, absl::StrCat("output to descriptor ", fd));
  Kind kind = Kind::kFile;
  UniqueFd own;
  if (S_ISSOCK(place.st_mode)) kind = Kind::kSocket;
  if (S_ISFIFO(place.st_mode) || isatty(fd) != 0) {
    own.Reset(open(absl::StrCat("/proc/self/fd/", fd).c_str(), O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
    kind = own.valid() ? Kind::kNonBlocking : Kind::kBlocking;
  }
  if (!own) own.Reset(fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!own) return ErrnoToStatus(errno, absl::StrCat("output to descriptor ", fd));
  return std::unique_ptr<OutputSink>(new OutputSink(loop, std::move(own), kind, std::move(limits)));
}

OutputSink::OutputSink(EventLoop* loop, UniqueFd fd, Kind kind, SinkLimits limits)
    : loop_(loop), fd_(std::move(fd)), kind_(kind), limits_(std::move(limits)), last_write_ns_(MonotonicNanoseconds()) {}

OutputSink::~OutputSink() {
  if (waiting_) loop_->Remove(fd_.get());
}

bool OutputSink::Write(absl::string_view text) {
  if (reader_gone_ || text.empty()) return true;
  if (empty()) {
    const size_t written = WriteSome(text);
    if (reader_gone_) return true;
    // A piece that is partly out has to follow whole, whatever the bound says.
    if (written > 0) {
      Queue(text.substr(written));
      WaitIfNeeded();
      return true;
    }
  }
  bool taken = !Full(text.size()) || ReaderMoves();
  const bool in_memory = memory_bytes_ + text.size() <= limits_.memory_bytes_max || !CanSpill();
  if (taken && in_memory && spill_begin_ == spill_end_) {
    Queue(text);
  } else if (taken) {
    taken = Spill(text);
  }
  WaitIfNeeded();
  return taken;
}

bool OutputSink::CanSpill() const { return !limits_.spill_folder.empty() && !spill_failed_; }

bool OutputSink::MustWait() const { return Full(1) && ReaderMoves(); }

bool OutputSink::ReaderMoves() const {
  return MonotonicNanoseconds() - last_write_ns_ < absl::ToInt64Nanoseconds(limits_.stall_time);
}

bool OutputSink::Full(size_t more) const {
  if (spill_begin_ == spill_end_ && memory_bytes_ + more <= limits_.memory_bytes_max) return false;
  return !CanSpill() || spill_end_ + static_cast<int64_t>(more) > limits_.spill_bytes_max;
}

void OutputSink::WhenEmpty(std::function<void()> done) {
  if (empty()) {
    loop_->Post(std::move(done));
  } else {
    when_empty_.push_back(std::move(done));
  }
}

// As write(2).
ssize_t OutputSink::WriteOnce(absl::string_view text) {
  if (kind_ == Kind::kSocket) return send(fd_.get(), text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  if (kind_ == Kind::kBlocking) {
    // Not ours to open again: what poll calls writable takes at least this much without blocking (pipe(7)).
    pollfd room = {.fd = fd_.get(), .events = POLLOUT, .revents = 0};
    if (poll(&room, 1, 0) == 0) return errno = EAGAIN, -1;
    text = text.substr(0, PIPE_BUF);
  }
  return write(fd_.get(), text.data(), text.size());
}

// Writes until the place would block; returns the bytes written.
size_t OutputSink::WriteSome(absl::string_view text) {
  size_t written = 0;
  while (written < text.size()) {
    const ssize_t bytes = WriteOnce(text.substr(written));
    if (bytes > 0) {
      written += static_cast<size_t>(bytes);
      last_write_ns_ = MonotonicNanoseconds();
    }
    if (bytes >= 0 || errno == EINTR) continue;
    if (errno != EAGAIN) LoseReader(errno);
    break;
  }
  return written;
}

void OutputSink::Queue(absl::string_view text) {
  if (text.empty()) return;
  if (memory_.empty() || memory_.back().size() + text.size() > kChunkBytes) memory_.emplace_back();
  memory_.back().append(text.data(), text.size());
  memory_bytes_ += text.size();
}

bool OutputSink::Spill(absl::string_view text) {
  const int64_t bytes = static_cast<int64_t>(text.size());
  if (!CanSpill()) return false;
  if (!spill_) spill_ = OpenSpill(limits_.spill_folder);
  for (int64_t done = 0; done < bytes;) {
    const ssize_t count = pwrite(spill_.get(), text.data() + done, static_cast<size_t>(bytes - done), spill_end_ + done);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      // What came before this piece is whole; this one and all later ones are dropped.
      Log(LogLevel::kWarning,
          Annotate(ErrnoToStatus(errno, absl::StrCat("spill output to ", limits_.spill_folder)), "output").ToString());
      spill_failed_ = true;
      return false;
    }
    done += count;
  }
  spill_end_ += bytes;
  return true;
}

// Brings the next part of the spill file back to memory.
void OutputSink::Unspill() {
  std::string chunk(static_cast<size_t>(std::min<int64_t>(kChunkBytes, spill_end_ - spill_begin_)), '\0');
  ssize_t bytes;
  do {
    bytes = pread(spill_.get(), chunk.data(), chunk.size(), spill_begin_);
  } while (bytes < 0 && errno == EINTR);
  if (bytes <= 0) {
    Log(LogLevel::kError, ErrnoToStatus(bytes < 0 ? errno : EIO, "read spilled output back").ToString());
    spill_begin_ = spill_end_;
    return;
  }
  chunk.resize(static_cast<size_t>(bytes));
  spill_begin_ += bytes;
  Queue(chunk);
  if (spill_begin_ < spill_end_) return;
  spill_begin_ = spill_end_ = 0;
  if (ftruncate(spill_.get(), 0) != 0) spill_failed_ = true;
}

void OutputSink::OnWritable() {
  // One chunk a call: other descriptors of the loop want their turn.
  if (memory_.empty() && spill_begin_ < spill_end_) Unspill();
  if (!memory_.empty()) {
    const size_t written = WriteSome(absl::string_view(memory_.front()).substr(front_written_));
    if (!reader_gone_) {
      front_written_ += written;
      memory_bytes_ -= written;
      if (front_written_ == memory_.front().size()) {
        memory_.pop_front();
        front_written_ = 0;
      }
    }
  }
  WaitIfNeeded();
}

void OutputSink::LoseReader(int error) {
  if (error != EPIPE) {
    write_failed_ = true;
    Log(LogLevel::kWarning,
        absl::StrCat(ErrnoToStatus(error, "write the workers' output").message(), "; the rest of it is lost"));
  }
  reader_gone_ = true;
  memory_.clear();
  memory_bytes_ = front_written_ = 0;
  spill_begin_ = spill_end_ = 0;
  spill_.Reset();
}

// Listens for room exactly while something is queued, and tells those who wait for the end of it.
void OutputSink::WaitIfNeeded() {
  if (!empty() && !waiting_) {
    const absl::Status added = loop_->Add(fd_.get(), EPOLLOUT, [this](uint32_t) { OnWritable(); });
    if (!added.ok()) LoseReader(EIO);
    waiting_ = added.ok();
  }
  if (!empty()) return;
  if (waiting_) loop_->Remove(fd_.get());
  waiting_ = false;
  for (auto& done : std::exchange(when_empty_, {})) loop_->Post(std::move(done));
}

absl::StatusOr<OutputSinks> OutputSinks::Create(EventLoop* loop, int stdout_fd, int stderr_fd, const SinkLimits& limits) {
  OutputSinks sinks;
  MUSTER_ASSIGN_OR_RETURN(sinks.stdout_sink, OutputSink::Create(loop, stdout_fd, limits));
  if (!SamePlace(stdout_fd, stderr_fd)) {
    MUSTER_ASSIGN_OR_RETURN(sinks.stderr_sink, OutputSink::Create(loop, stderr_fd, limits));
  }
  return sinks;
}

void OutputSinks::WhenEmpty(std::function<void()> done) const {
  if (!stderr_sink) return stdout_sink->WhenEmpty(std::move(done));
  const auto left = std::make_shared<int>(2);
  const auto one = [left, done = std::move(done)] {
    if (--*left == 0) done();
  };
  stdout_sink->WhenEmpty(one);
  stderr_sink->WhenEmpty(one);
}

}  // namespace muster
