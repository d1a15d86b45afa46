#include "launcher/starter/line_child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

constexpr size_t kErrorsKept = 8 << 10;
constexpr size_t kLineKept = 64 << 10;

absl::Status MakePipe(const std::string& program, UniqueFd* read_end, UniqueFd* write_end) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return ErrnoToStatus(errno, absl::StrCat("a pipe to ", program));
  read_end->Reset(ends[0]);
  write_end->Reset(ends[1]);
  return absl::OkStatus();
}

void BlockBrokenPipe() {
  sigset_t broken_pipe;
  sigemptyset(&broken_pipe);
  sigaddset(&broken_pipe, SIGPIPE);
  ::pthread_sigmask(SIG_BLOCK, &broken_pipe, nullptr);
}

}  // namespace

absl::StatusOr<std::unique_ptr<LineChild>> LineChild::Start(EventLoop* loop, std::string program,
                                                            std::vector<std::string> words, Callbacks callbacks) {
  BlockBrokenPipe();
  std::unique_ptr<LineChild> child(new LineChild(loop, std::move(callbacks)));
  MUSTER_RETURN_IF_ERROR(child->Connect(std::move(program), std::move(words)));
  return child;
}

absl::Status LineChild::Connect(std::string program, std::vector<std::string> words) {
  UniqueFd input, output, errors;
  MUSTER_RETURN_IF_ERROR(MakePipe(program, &input, &input_));
  MUSTER_RETURN_IF_ERROR(MakePipe(program, &output_.fd, &output));
  MUSTER_RETURN_IF_ERROR(MakePipe(program, &error_output_.fd, &errors));
  for (const UniqueFd* ours : {&input_, &output_.fd, &error_output_.fd}) ::fcntl(ours->get(), F_SETFL, O_NONBLOCK);
  ChildOptions options;
  options.program = std::move(program);
  options.words = std::move(words);
  options.descriptors = {{input.get(), STDIN_FILENO}, {output.get(), STDOUT_FILENO}, {errors.get(), STDERR_FILENO}};
  MUSTER_ASSIGN_OR_RETURN(child_, Child::Start(loop_, options, [this](int wait_status) { OnEnded(wait_status); }));
  for (Source* source : {&output_, &error_output_}) {
    MUSTER_RETURN_IF_ERROR(loop_->Add(source->fd.get(), EPOLLIN, [this, source](uint32_t) { Read(source); }));
    source->is_watched = true;
  }
  return absl::OkStatus();
}

LineChild::~LineChild() {
  *alive_ = false;
  CloseInput();
  child_.reset();
  for (Source* source : {&output_, &error_output_}) StopReading(source);
}

void LineChild::Write(absl::string_view text) {
  if (!input_) return;
  absl::StrAppend(&unwritten_, text);
  Flush();
}

void LineChild::Flush() {
  while (!unwritten_.empty()) {
    const ssize_t bytes = ::write(input_.get(), unwritten_.data(), unwritten_.size());
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes < 0 && errno != EAGAIN) unwritten_.clear();
    if (bytes < 0) break;
    unwritten_.erase(0, static_cast<size_t>(bytes));
  }
  const bool more = !unwritten_.empty();
  if (more == is_writing_) return;
  is_writing_ = more;
  if (!more) return loop_->Remove(input_.get());
  loop_->Add(input_.get(), EPOLLOUT, [this](uint32_t) { Flush(); }).IgnoreError();
}

void LineChild::CloseInput() {
  if (std::exchange(is_writing_, false)) loop_->Remove(input_.get());
  input_.Reset();
}

void LineChild::Kill(int signal) { ::kill(child_->pid(), signal); }

bool LineChild::Read(Source* source) {
  char bytes[16 << 10];
  ssize_t count;
  while ((count = ::read(source->fd.get(), bytes, sizeof bytes)) > 0 || (count < 0 && errno == EINTR)) {
    if (count < 0) continue;
    source->unread.append(bytes, static_cast<size_t>(count));
    for (size_t end; (end = source->unread.find('\n')) != std::string::npos;) {
      const std::string line = source->unread.substr(0, end);
      source->unread.erase(0, end + 1);
      if (!Take(source, line)) return false;
    }
    if (source->unread.size() > kLineKept) source->unread.clear();
  }
  if (count == 0) StopReading(source);  // its end comes by itself
  return true;
}

bool LineChild::Take(const Source* source, const std::string& line) {
  const std::shared_ptr<bool> alive = alive_;
  if (source == &output_) {
    callbacks_.line(line);
    return *alive;
  }
  const absl::string_view text = absl::StripSuffix(line, "\r");
  absl::StrAppend(&errors_, text, "\n");
  if (errors_.size() > kErrorsKept) errors_.erase(0, errors_.size() - kErrorsKept);
  callbacks_.error(text);
  return *alive;
}

void LineChild::StopReading(Source* source) {
  if (std::exchange(source->is_watched, false)) loop_->Remove(source->fd.get());
}

void LineChild::OnEnded(int wait_status) {
  for (Source* source : {&output_, &error_output_}) {
    if (!Read(source)) return;
  }
  const std::string last = std::exchange(error_output_.unread, "");
  if (!last.empty() && !Take(&error_output_, last)) return;
  const auto ended = callbacks_.ended;  // it may destroy us
  ended(wait_status);
}

}  // namespace muster
