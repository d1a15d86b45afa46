#include "launcher/agent/stdin_forwarder.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <initializer_list>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/string_view.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

constexpr size_t kHeldBytesMax = 64 << 10;
constexpr absl::Duration kForegroundCheck = absl::Milliseconds(250);

class Forwarder final : public StdinForwarder {
 public:
  Forwarder(EventLoop* loop, UniqueFd source, bool waitable, UniqueFd worker)
      : loop_(loop), source_(std::move(source)), waitable_(waitable), worker_(std::move(worker)) {}
  ~Forwarder() override { Finish(); }

  absl::Status Begin() {
    // Without EPOLLOUT too, so that EPOLLERR tells when the worker has closed its end.
    MUSTER_RETURN_IF_ERROR(loop_->Add(worker_.get(), 0, [this](uint32_t ready) { OnWorker(ready); }));
    ListenToSource();
    return absl::OkStatus();
  }

  bool active() const override { return worker_.valid(); }

 private:
  void OnWorker(uint32_t ready) {
    if ((ready & EPOLLERR) != 0) return Finish();
    if (!WriteHeld()) return;
    (void)loop_->Modify(worker_.get(), 0);
    ListenToSource();
  }

  // From here on the source's bytes are asked for; a file, which epoll does not take, is read whenever the worker has room.
  void ListenToSource() {
    if (!waitable_) return OnSource();
    if (InBackground()) return LookAgainLater();
    const absl::Status added = loop_->Add(source_.get(), EPOLLIN, [this](uint32_t) { OnSource(); });
    listening_ = added.ok();
    if (!added.ok()) Finish();
  }
  void StopListening() {
    if (listening_) loop_->Remove(source_.get());
    listening_ = false;
  }

  void OnSource() {
    if (InBackground()) {
      StopListening();
      return LookAgainLater();
    }
    held_.resize(kHeldBytesMax);
    const ssize_t bytes = ReadSource();
    const int error = errno;
    held_.resize(bytes > 0 ? static_cast<size_t>(bytes) : 0);
    if (bytes < 0 && (error == EAGAIN || error == EINTR)) return;
    if (bytes < 0 && error == EIO && isatty(source_.get()) != 0) {  // put into the background just now
      StopListening();
      return LookAgainLater();
    }
    if (bytes <= 0) return Finish();
    if (!WriteHeld() || !waitable_) {
      StopListening();
      if (active()) (void)loop_->Modify(worker_.get(), EPOLLOUT);
    }
  }

  // Never blocks, although the descriptor, which others share, may be a blocking one and somebody else may take the bytes
  // first.
  ssize_t ReadSource() {
    iovec into = {held_.data(), held_.size()};
    if (waitable_) {
      const ssize_t bytes = preadv2(source_.get(), &into, 1, -1, RWF_NOWAIT);
      if (bytes >= 0 || (errno != EOPNOTSUPP && errno != ENOSYS)) return bytes;
    }
    return read(source_.get(), held_.data(), held_.size());
  }

  // True when nothing is held any more and the worker still listens.
  bool WriteHeld() {
    while (!held_.empty()) {
      const ssize_t bytes = write(worker_.get(), held_.data(), held_.size());
      if (bytes > 0) held_.erase(0, static_cast<size_t>(bytes));
      if (bytes >= 0 || errno == EINTR) continue;
      if (errno != EAGAIN) Finish();
      return false;
    }
    return true;
  }

  bool InBackground() const {
    const pid_t foreground = tcgetpgrp(source_.get());  // -1: not our terminal
    return foreground >= 0 && foreground != getpgrp();
  }
  // No descriptor tells when the shell brings us back.
  void LookAgainLater() {
    timer_ = loop_->After(kForegroundCheck, [this] {
      timer_.reset();
      ListenToSource();
    });
  }

  void Finish() {
    StopListening();
    if (timer_) loop_->Cancel(*timer_);
    timer_.reset();
    held_.clear();
    if (!worker_) return;
    loop_->Remove(worker_.get());
    worker_.Reset();
  }

  EventLoop* const loop_;
  const UniqueFd source_;
  const bool waitable_;
  UniqueFd worker_;
  std::string held_;
  bool listening_ = false;
  std::optional<EventLoop::TimerId> timer_;
};

class Fed final : public FedStdin {
 public:
  Fed(EventLoop* loop, UniqueFd worker, std::function<void(bool closed)> taken)
      : loop_(loop), worker_(std::move(worker)), taken_(std::move(taken)) {}
  ~Fed() override {
    *alive_ = false;
    Close();
  }

  absl::Status Begin() {
    // Without EPOLLOUT too, so that EPOLLERR tells when the worker has closed its end.
    return loop_->Add(worker_.get(), 0, [this](uint32_t ready) {
      if ((ready & EPOLLERR) != 0) Close();
      Write();
    });
  }

  void Feed(std::string bytes, bool end) override {
    held_ = std::move(bytes);
    end_ = end_ || end;
    feeding_ = true;
    Write();
  }

 private:
  void Write() {
    while (worker_.valid() && !held_.empty()) {
      const ssize_t bytes = write(worker_.get(), held_.data(), held_.size());
      if (bytes > 0) held_.erase(0, static_cast<size_t>(bytes));
      if (bytes >= 0 || errno == EINTR) continue;
      if (errno == EAGAIN) return (void)loop_->Modify(worker_.get(), EPOLLOUT);
      Close();
    }
    if (worker_.valid()) (void)loop_->Modify(worker_.get(), 0);
    const bool closed = !worker_.valid();
    if (end_) Close();
    if (!std::exchange(feeding_, false)) return;
    loop_->Post([alive = alive_, this, closed] {
      if (*alive) taken_(closed);
    });
  }
  void Close() {
    if (!worker_) return;
    loop_->Remove(worker_.get());
    worker_.Reset();
    held_.clear();
  }

  EventLoop* const loop_;
  UniqueFd worker_;
  const std::function<void(bool closed)> taken_;
  std::string held_;
  bool end_ = false;
  bool feeding_ = false;  // `taken` is owed
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

// StdinForwarder fills a pipe, from which one piece is taken at a time.
class Pieces final : public StdinPieces {
 public:
  Pieces(EventLoop* loop, UniqueFd pipe, size_t piece_bytes_max, std::function<void(std::string bytes, bool end)> piece)
      : loop_(loop), pipe_(std::move(pipe)), piece_bytes_max_(piece_bytes_max), piece_(std::move(piece)) {}
  ~Pieces() override { Stop(); }

  absl::Status Begin(int source_fd, UniqueFd write_end) {
    ::fcntl(pipe_.get(), F_SETPIPE_SZ, static_cast<int>(piece_bytes_max_));
    if (::fcntl(pipe_.get(), F_SETFL, O_RDONLY | O_NONBLOCK) != 0) return ErrnoToStatus(errno, "the pipe of standard input");
    MUSTER_ASSIGN_OR_RETURN(forwarder_, StdinForwarder::Start(loop_, source_fd, std::move(write_end)));
    return absl::OkStatus();
  }

  // Between two pieces the pipe is not listened to at all: its end could not be masked.
  void Next() override {
    if (!pipe_ || listening_) return;
    const absl::Status added = loop_->Add(pipe_.get(), EPOLLIN, [this](uint32_t) { Take(); });
    listening_ = added.ok();
    if (!added.ok()) Stop();
  }
  void Stop() override {
    if (listening_) loop_->Remove(pipe_.get());
    listening_ = false;
    pipe_.Reset();
  }

 private:
  void Take() {
    std::string bytes(piece_bytes_max_, '\0');
    const ssize_t count = ::read(pipe_.get(), bytes.data(), bytes.size());
    if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
    bytes.resize(count > 0 ? static_cast<size_t>(count) : 0);
    loop_->Remove(pipe_.get());
    listening_ = false;
    if (count <= 0) Stop();
    piece_(std::move(bytes), count <= 0);
  }

  EventLoop* const loop_;
  UniqueFd pipe_;  // its read end; closed when nobody wants more
  const size_t piece_bytes_max_;
  const std::function<void(std::string bytes, bool end)> piece_;
  std::unique_ptr<StdinForwarder> forwarder_;
  bool listening_ = false;
};

void BlockSignals(std::initializer_list<int> signals) {
  sigset_t blocked;
  sigemptyset(&blocked);
  for (const int signal : signals) sigaddset(&blocked, signal);
  pthread_sigmask(SIG_BLOCK, &blocked, nullptr);
}

}  // namespace

absl::StatusOr<std::unique_ptr<FedStdin>> FedStdin::Start(EventLoop* loop, UniqueFd worker_fd,
                                                          std::function<void(bool closed)> taken) {
  BlockSignals({SIGPIPE});
  if (fcntl(worker_fd.get(), F_SETFL, O_WRONLY | O_NONBLOCK) != 0) return ErrnoToStatus(errno, "a worker's standard input");
  auto fed = std::make_unique<Fed>(loop, std::move(worker_fd), std::move(taken));
  MUSTER_RETURN_IF_ERROR(fed->Begin());
  return fed;
}

absl::StatusOr<std::unique_ptr<StdinPieces>> StdinPieces::Start(EventLoop* loop, int source_fd, size_t piece_bytes_max,
                                                                std::function<void(std::string bytes, bool end)> piece) {
  MUSTER_ASSIGN_OR_RETURN(StdinPipe pipe, OpenStdinPipe());
  auto pieces = std::make_unique<Pieces>(loop, std::move(pipe.worker_end), piece_bytes_max, std::move(piece));
  MUSTER_RETURN_IF_ERROR(pieces->Begin(source_fd, std::move(pipe.our_end)));
  return pieces;
}

absl::StatusOr<std::unique_ptr<StdinForwarder>> StdinForwarder::Start(EventLoop* loop, int source_fd, UniqueFd worker_fd) {
  BlockSignals({SIGPIPE, SIGTTIN});
  struct stat kind;
  UniqueFd source(fcntl(source_fd, F_DUPFD_CLOEXEC, 0));  // the loop takes each number once; the flags stay shared
  if (!source || fstat(source.get(), &kind) != 0) return ErrnoToStatus(errno, "standard input");
  const bool waitable = S_ISFIFO(kind.st_mode) || S_ISSOCK(kind.st_mode) || isatty(source.get()) != 0;
  if (fcntl(worker_fd.get(), F_SETFL, O_WRONLY | O_NONBLOCK) != 0) return ErrnoToStatus(errno, "a worker's standard input");
  auto forwarder = std::make_unique<Forwarder>(loop, std::move(source), waitable, std::move(worker_fd));
  MUSTER_RETURN_IF_ERROR(forwarder->Begin());
  return forwarder;
}

}  // namespace muster
