#include "launcher/starter/ssh_lines.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "launcher/starter/ssh_command.h"
#include "runtime/base/clock.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

constexpr absl::Duration kGreetingWithin = absl::Seconds(60);  // ssh's own ConnectTimeout counts before
constexpr size_t kErrorsKept = 8 << 10;
constexpr size_t kLineKept = 64 << 10;

absl::Status MakePipe(UniqueFd* read_end, UniqueFd* write_end) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return ErrnoToStatus(errno, "a pipe to an ssh client");
  read_end->Reset(ends[0]);
  write_end->Reset(ends[1]);
  return absl::OkStatus();
}

void DoNotBlock(const UniqueFd& fd) { ::fcntl(fd.get(), F_SETFL, O_NONBLOCK); }

}  // namespace

SshLines::SshLines(EventLoop* loop, Callbacks callbacks, absl::Duration obey_within)
    : loop_(loop), callbacks_(std::move(callbacks)), obey_within_(obey_within) {
  sigset_t broken_pipe;
  sigemptyset(&broken_pipe);
  sigaddset(&broken_pipe, SIGPIPE);
  ::pthread_sigmask(SIG_BLOCK, &broken_pipe, nullptr);
}

SshLines::~SshLines() { EndAll(absl::Seconds(3)); }

void SshLines::Enlist(const v1::AgentStart& start, Line* line) {
  on_line_[start.node()] = line;
  if (line != nullptr) line->nodes[start.node()] = false;
  for (const v1::AgentStart& child : start.children()) Enlist(child, line);
}

void SshLines::Start(v1::AgentStart start) {
  Enlist(start, nullptr);
  waiting_.push_back(std::move(start));
  loop_->Post([this, alive = std::weak_ptr<bool>(alive_)] {
    if (!alive.expired()) StartWaiting();
  });
}

void SshLines::StartWaiting() {
  while (!waiting_.empty() && logins_ < kLoginsMax) {
    v1::AgentStart start = std::move(waiting_.front());
    waiting_.pop_front();
    Line* const line = &lines_.emplace_back();
    Enlist(start, line);
    line->unsent = FirstLines(start);
    start.clear_children();
    line->start = std::move(start);
    const absl::Status connected = Connect(line);
    if (connected.ok()) continue;
    line->failure = SshFailure{std::string(connected.message()), SshRetry::kUseless};
    Release(line);
  }
}

absl::Status SshLines::Connect(Line* line) {
  const v1::AgentStart& start = line->start;
  ChildOptions options;
  if (start.is_here()) {
    options.words = {"muster", "agent", "--stdin"};
    options.program = start.program();
  } else {
    MUSTER_ASSIGN_OR_RETURN(options.words, SshWords(start));
    options.program = options.words[0];
  }
  UniqueFd input, output, errors;
  MUSTER_RETURN_IF_ERROR(MakePipe(&input, &line->to));
  MUSTER_RETURN_IF_ERROR(MakePipe(&line->from, &output));
  MUSTER_RETURN_IF_ERROR(MakePipe(&line->errors, &errors));
  DoNotBlock(line->to);
  DoNotBlock(line->from);
  DoNotBlock(line->errors);
  options.descriptors = {{input.get(), STDIN_FILENO}, {output.get(), STDOUT_FILENO}, {errors.get(), STDERR_FILENO}};
  auto client = Child::Start(loop_, options, [this, line](int status) { OnClientEnded(line, status); });
  if (!client.ok()) {
    if (start.is_here()) return client.status();
    return absl::NotFoundError(absl::StrCat("there is no ssh client here (", client.status().message(),
                                            "); install OpenSSH's (package openssh-client), or name it with --ssh COMMAND"));
  }
  line->client = *std::move(client);
  ++logins_;
  for (const UniqueFd* fd : {&line->from, &line->errors}) {
    MUSTER_RETURN_IF_ERROR(loop_->Add(fd->get(), EPOLLIN, [this, line, fd = fd->get()](uint32_t) { Read(line, fd); }));
  }
  line->patience = loop_->After(kGreetingWithin, [this, line] {
    line->patience.reset();
    line->end.timed_out = true;
    Cut(line);
  });
  Flush(line);
  return absl::OkStatus();
}

// --- Down ---

void SshLines::Write(Line* line, const std::string& text) {
  if (!line->to) return;
  line->unsent += text;
  Flush(line);
}

void SshLines::Flush(Line* line) {
  while (!line->unsent.empty()) {
    const ssize_t bytes = ::write(line->to.get(), line->unsent.data(), line->unsent.size());
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes < 0 && errno != EAGAIN) line->unsent.clear();  // nobody reads: the client's end says why
    if (bytes < 0) break;
    line->unsent.erase(0, static_cast<size_t>(bytes));
  }
  const bool more = !line->unsent.empty();
  if (more == line->writing) return;
  line->writing = more;
  if (!more) return loop_->Remove(line->to.get());
  loop_->Add(line->to.get(), EPOLLOUT, [this, line](uint32_t) { Flush(line); }).IgnoreError();
}

void SshLines::End(uint32_t node) {
  const auto found = on_line_.find(node);
  if (found == on_line_.end()) return;
  Line* const line = found->second;
  if (line == nullptr) return;  // its turn to log in comes, and then it may be asked again
  if (!line->end.greeted) return Cut(line);
  Write(line, absl::StrCat("end ", node, "\n"));
  if (line->patience) return;
  line->patience = loop_->After(obey_within_, [this, line, node] {
    line->patience.reset();
    if (line->nodes.count(node) != 0) Cut(line);
  });
}

// The client's end follows, and with it all that is to be said.
void SshLines::Cut(Line* line) {
  if (line->client != nullptr) ::kill(line->client->pid(), SIGKILL);
}

void SshLines::EndAll(absl::Duration at_most) {
  for (Line& line : lines_) {
    Write(&line, "end all\n");
    if (line.writing) loop_->Remove(line.to.get());
    line.writing = false;
    line.to.Reset();
    // Before its greeting nothing of it runs that would end by itself.
    if (!line.end.greeted) Cut(&line);
  }
  Forget(MonotonicNanoseconds() + absl::ToInt64Nanoseconds(at_most));
}

void SshLines::LetGo() {
  for (Line& line : lines_) {
    if (line.writing) loop_->Remove(line.to.get());
    Cut(&line);
  }
  Forget(MonotonicNanoseconds() + absl::ToInt64Nanoseconds(absl::Seconds(1)));
}

// Clients that have not ended by then are killed.
void SshLines::Forget(int64_t end_ns) {
  waiting_.clear();
  on_line_.clear();
  for (Line& line : lines_) {
    if (line.client != nullptr && !line.client->AwaitEnd(absl::Nanoseconds(end_ns - MonotonicNanoseconds()))) Cut(&line);
    line.client.reset();
    for (UniqueFd* fd : {&line.from, &line.errors}) {
      if (*fd) loop_->Remove(fd->get());
    }
    if (line.patience) loop_->Cancel(*line.patience);
  }
  lines_.clear();
  logins_ = 0;
}

// --- Up ---

void SshLines::Read(Line* line, int fd) {
  const bool is_error = fd == line->errors.get();
  std::string& unread = is_error ? line->unread_errors : line->unread;
  char bytes[16 << 10];
  ssize_t count;
  while ((count = ::read(fd, bytes, sizeof bytes)) > 0 || (count < 0 && errno == EINTR)) {
    if (count > 0) unread.append(bytes, static_cast<size_t>(count));
    size_t begin = 0;
    for (size_t end; (end = unread.find('\n', begin)) != std::string::npos; begin = end + 1) {
      const absl::string_view text = absl::string_view(unread).substr(begin, end - begin);
      if (is_error) {
        TakeError(line, text);
      } else {
        TakeLine(line, text);
      }
    }
    unread.erase(0, begin);
    if (unread.size() > kLineKept) unread.clear();  // no line of ours is as long
  }
  if (count == 0) loop_->Remove(fd);  // the client's end comes by itself
}

void SshLines::TakeError(Line* line, absl::string_view text) {
  text = absl::StripSuffix(text, "\r");
  absl::StrAppend(&line->end.errors, text, "\n");
  if (line->end.errors.size() > kErrorsKept) line->end.errors.erase(0, line->end.errors.size() - kErrorsKept);
  if (line->end.greeted && absl::StartsWith(text, "muster: ")) callbacks_.say(std::string(text));
}

// Login shells may write what they like before.
void SshLines::TakeLine(Line* line, absl::string_view text) {
  const size_t mark = text.find(kLineMark);
  if (mark == absl::string_view::npos) return;
  text.remove_prefix(mark + sizeof kLineMark - 1);
  const size_t space = text.find(' ');
  const absl::string_view word = text.substr(0, space);
  const std::string rest(space == absl::string_view::npos ? "" : text.substr(space + 1));
  if (word == "found") {
    line->end.found = true;
    line->end.found_file = rest;
  } else if (word == "missing") {
    line->end.missing = true;
    line->end.searched_path = rest;
  } else if (word == "agent" && !line->end.greeted) {
    const std::pair<std::string, std::string> said = {rest.substr(0, rest.find(' ')),
                                                      rest.find(' ') == std::string::npos ? "" : rest.substr(rest.find(' ') + 1)};
    if (said.first == absl::StrCat(kLineProtocol)) {
      line->end.greeted = true;
      --logins_;
      if (line->patience) loop_->Cancel(*line->patience);
      line->patience.reset();
      return StartWaiting();
    }
    line->failure = SshFailure{absl::StrCat("the muster on ", line->start.host(),
                                            line->end.found ? absl::StrCat(" (", line->end.found_file, ")") : "", " is version ",
                                            said.second, ", which this one (", MUSTER_VERSION,
                                            ") cannot work with; install the same version there, or name another with "
                                            "--remote-muster PATH"),
                               SshRetry::kUseless};
    return Cut(line);
  }
  uint32_t node = 0;
  if (!absl::SimpleAtoi(rest.substr(0, rest.find(' ')), &node) || line->nodes.count(node) == 0) return;
  const std::string why = rest.find(' ') == std::string::npos ? "" : rest.substr(rest.find(' ') + 1);
  if (word == "up") {
    line->nodes[node] = true;
    callbacks_.up(node);
  } else if (word == "ended") {
    LeaveLine(line, node);
    callbacks_.ended(node, why);
  } else if (word == "failed") {
    LeaveLine(line, node);
    callbacks_.failed(node, SshFailure{why, SshRetry::kUseless});
  } else if (word == "adrift") {
    LeaveLine(line, node);
    callbacks_.adrift(node);
  }
}

void SshLines::LeaveLine(Line* line, uint32_t node) {
  line->nodes.erase(node);
  on_line_.erase(node);
}

void SshLines::OnClientEnded(Line* line, int wait_status) {
  line->end.wait_status = wait_status;
  for (const UniqueFd* fd : {&line->from, &line->errors}) Read(line, fd->get());
  if (!line->unread_errors.empty()) TakeError(line, std::exchange(line->unread_errors, ""));
  Release(line);
}

// Says what has become of all that is still on it.
void SshLines::Release(Line* line) {
  if (line->client != nullptr && !line->end.greeted) --logins_;
  if (line->writing) loop_->Remove(line->to.get());
  for (const UniqueFd* fd : {&line->from, &line->errors}) {
    if (*fd) loop_->Remove(fd->get());
  }
  if (line->patience) loop_->Cancel(*line->patience);
  const auto owned = std::find_if(lines_.begin(), lines_.end(), [line](const Line& one) { return &one == line; });
  std::list<Line> over;
  over.splice(over.begin(), lines_, owned);
  const SshFailure failure = line->failure ? *line->failure : DescribeFailedStart(line->start, line->end);
  const uint32_t head = line->start.node();
  const std::map<uint32_t, bool> nodes = line->nodes;
  for (const auto& [node, up] : nodes) on_line_.erase(node);
  const bool lives_on = line->start.through_agent();
  // The head first: it is what took the others with it.
  std::vector<std::pair<uint32_t, bool>> order(nodes.begin(), nodes.end());
  std::stable_partition(order.begin(), order.end(), [head](const auto& one) { return one.first == head; });
  for (const auto& [node, up] : order) {
    if (!up) {
      callbacks_.failed(node, failure);
    } else if (node != head || lives_on) {
      callbacks_.adrift(node);
    } else {
      callbacks_.ended(node, DescribeBrokenLine(line->start, line->end));
    }
  }
  StartWaiting();
}

}  // namespace muster
