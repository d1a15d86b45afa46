#include "launcher/process/agent_front.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "launcher/process/exit_codes.h"
#include "launcher/process/signal_watch.h"
#include "launcher/starter/ssh_command.h"
#include "runtime/base/log.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

constexpr absl::Duration kOthersGo = absl::Seconds(2);  // less than who waits for us waits

}  // namespace

absl::StatusOr<std::unique_ptr<AgentFront>> AgentFront::Create(std::string program, std::string host) {
  // A process that is stopped does not notice the end of its input: the end of whoever holds it here (sshd) wakes it.
  if (::prctl(PR_SET_PDEATHSIG, SIGCONT) != 0) return ErrnoToStatus(errno, "ask for a signal at the parent's end");
  std::unique_ptr<AgentFront> front(new AgentFront(std::move(program), std::move(host)));
  MUSTER_ASSIGN_OR_RETURN(front->loop_, EventLoop::Create());
  AgentFront* const self = front.get();
  MUSTER_ASSIGN_OR_RETURN(front->signals_, WatchEndingSignals(front->loop_.get(), [self](int signal, const std::string&) {
                            self->OnSignal(signal);
                          }));
  SshLines::Callbacks callbacks;
  callbacks.up = [self](uint32_t node) { self->Say(absl::StrCat("up ", node)); };
  callbacks.failed = [self](uint32_t node, const SshFailure& why) {
    self->Say(absl::StrCat("failed ", node, " ", why.sentence));
    self->QuitIfIdle();
  };
  callbacks.ended = [self](uint32_t node, const std::string& why) {
    self->Say(absl::StrCat("ended ", node, " ", why));
    self->QuitIfIdle();
  };
  callbacks.adrift = [self](uint32_t node) {
    self->Say(absl::StrCat("adrift ", node));
    self->QuitIfIdle();
  };
  callbacks.say = [](const std::string& line) {
    const std::string text = line + "\n";
    [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, text.data(), text.size());
  };
  front->lines_ = std::make_unique<SshLines>(front->loop_.get(), std::move(callbacks));
  return front;
}

int AgentFront::Run() {
  Say(absl::StrCat("agent ", kLineProtocol, " ", MUSTER_VERSION));
  ::fcntl(STDIN_FILENO, F_SETFL, O_NONBLOCK);
  const absl::Status watched = loop_->Add(STDIN_FILENO, EPOLLIN, [this](uint32_t) { OnInput(); });
  if (!watched.ok()) {
    Log(LogLevel::kError, absl::StrCat("standard input cannot be waited for (", watched.message(), "); give a pipe"));
    return kExitUsage;
  }
  loop_->Run();
  return exit_code_;
}

// Nobody may be there any more, which the end of the input tells.
void AgentFront::Say(const std::string& line) {
  const std::string text = absl::StrCat(kLineMark, line, "\n");
  [[maybe_unused]] const ssize_t written = ::write(STDOUT_FILENO, text.data(), text.size());
}

void AgentFront::OnInput() {
  char bytes[64 << 10];
  const ssize_t count = ::read(STDIN_FILENO, bytes, sizeof bytes);
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (count <= 0) return OnInputOver();
  unread_.append(bytes, static_cast<size_t>(count));
  size_t begin = 0;
  for (size_t end; (end = unread_.find('\n', begin)) != std::string::npos; begin = end + 1) {
    TakeLine(absl::string_view(unread_).substr(begin, end - begin));
  }
  unread_.erase(0, begin);
  if (unread_.size() > kLineBytesMax) OnInputOver();
}

void AgentFront::TakeLine(absl::string_view text) {
  if (!begun_) {
    auto start = AgentStartFromLine(std::string(text));
    absl::Status begun = start.status();
    if (start.ok()) {
      if (!host_.empty() && start->host() != host_) return;  // another's
      start_ = *std::move(start);
      begun = Begin();
    }
    if (begun.ok()) return;
    Log(LogLevel::kError, begun.message());
    exit_code_ = start.ok() ? kExitInternal : kExitUsage;
    return EndEverything();
  }
  uint32_t node = 0;
  if (text == "end all") return EndEverything();
  if (!absl::ConsumePrefix(&text, "end ") || !absl::SimpleAtoi(text, &node)) return;
  if (node != start_.node()) return lines_->End(node);
  if (agent_ != nullptr) KillAgentTree(agent_->pid());
}

void AgentFront::OnInputOver() {
  loop_->Remove(STDIN_FILENO);
  input_over_ = true;
  // Whoever holds our line has died without a word; our agent has its own way to the coordinator.
  if (begun_ && start_.through_agent()) return QuitIfIdle();
  EndEverything();
}

absl::Status AgentFront::Begin() {
  begun_ = true;
  MUSTER_RETURN_IF_ERROR(StartAgent());
  Say(absl::StrCat("up ", start_.node()));
  for (v1::AgentStart& child : *start_.mutable_children()) lines_->Start(std::move(child));
  start_.clear_children();
  return absl::OkStatus();
}

absl::Status AgentFront::StartAgent() {
  int ticket[2], line[2];
  if (::pipe2(ticket, O_CLOEXEC) != 0) return ErrnoToStatus(errno, "a pipe for a ticket");
  UniqueFd ticket_read(ticket[0]), ticket_write(ticket[1]);
  if (::pipe2(line, O_CLOEXEC) != 0) return ErrnoToStatus(errno, "a pipe to the agent");
  UniqueFd line_read(line[0]);
  agent_line_.Reset(line[1]);
  // A ticket is far shorter than what a pipe holds.
  const std::string text = start_.ticket() + "\n";
  if (::write(ticket_write.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
    return ErrnoToStatus(errno, "write a ticket");
  }
  ChildOptions options;
  options.program = program_;
  options.words = {"muster",        "agent",
                   "--coordinator", start_.coordinator(),
                   "--ticket-fd",   absl::StrCat(kFrontTicketFd),
                   "--line-fd",     absl::StrCat(kFrontLineFd),
                   "--host",        start_.host()};
  if (start_.signals_stop_job()) options.words.push_back("--signals-stop-job");
  options.words.insert(options.words.end(), start_.arguments().begin(), start_.arguments().end());
  // What it prints is for people: standard output belongs to the lines of the start.
  options.descriptors = {{ticket_read.get(), kFrontTicketFd}, {line_read.get(), kFrontLineFd}, {STDERR_FILENO, STDOUT_FILENO}};
  MUSTER_ASSIGN_OR_RETURN(agent_, Child::Start(loop_.get(), options, [this](int status) { OnAgentEnded(status); }));
  return absl::OkStatus();
}

void AgentFront::OnAgentEnded(int wait_status) {
  agent_.reset();
  Say(absl::StrCat("ended ", start_.node(), " ", HowItEnded(wait_status)));
  QuitIfIdle();
}

void AgentFront::EndEverything() {
  if (agent_ != nullptr) KillAgentTree(agent_->pid());
  lines_->EndAll(kOthersGo);
  QuitIfIdle();
}

// This host is to be left: its agent goes kindly, and nodes that were started from here live on by their sessions. Asked twice: now.
void AgentFront::OnSignal(int signal) {
  if (start_.signals_stop_job() && agent_ != nullptr) return;  // the agent gets it too, and answers
  if (std::exchange(exit_code_, 128 + signal) > 128) return EndEverything();
  lines_->LetGo();
  if (agent_ != nullptr) ::kill(agent_->pid(), signal);
  QuitIfIdle();
}

void AgentFront::QuitIfIdle() {
  if (agent_ == nullptr && lines_->empty()) loop_->Quit();
}

}  // namespace muster
