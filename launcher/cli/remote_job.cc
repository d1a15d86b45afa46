#include "launcher/cli/remote_job.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "launcher/agent/stdin_forwarder.h"
#include "launcher/cli/console.h"
#include "launcher/coordinator/verdict.h"
#include "launcher/process/endings.h"
#include "launcher/process/exit_codes.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/status.h"

extern char** environ;

namespace muster {
namespace {

constexpr size_t kInputBytesMax = 16 << 10;  // launch.proto
constexpr absl::Duration kSlowStop = absl::Milliseconds(500);
constexpr absl::Duration kCoordinatorGoes = absl::Seconds(10);
constexpr absl::Duration kAgentsGo = absl::Seconds(5);      // with their workers, by themselves
constexpr absl::Duration kStopUnheard = absl::Seconds(12);  // told to end at once a coordinator has ended within it
constexpr absl::Duration kStopMeant = absl::Seconds(2);     // a third Ctrl-C sooner is only impatience

// dup2 onto 3 and 4 must not hit a source that is still needed.
absl::StatusOr<UniqueFd> CopyAbove(int fd) {
  UniqueFd copy(::fcntl(fd, F_DUPFD_CLOEXEC, 10));
  if (!copy) return ErrnoToStatus(errno, "a descriptor for the coordinator");
  return copy;
}

// "was killed by SIGKILL", "exited with 3".
std::string HowEnded(int wait_status) {
  if (WIFSIGNALED(wait_status)) return absl::StrCat("was killed by ", SignalName(WTERMSIG(wait_status)));
  return absl::StrCat("exited with ", WEXITSTATUS(wait_status));
}

std::vector<pid_t> OurChildren() {
  std::ifstream file(absl::StrCat("/proc/self/task/", ::getpid(), "/children"));
  std::vector<pid_t> children;
  for (pid_t child; file >> child;) children.push_back(child);
  return children;
}

// What a dead coordinator has left to us: its agents, whose guards end all else once they are gone. What is still there after
// `patience` is killed, and what that leaves to us in turn. Returns when nothing is left, or could not be killed for as long again.
void EndWhatIsLeftToUs(absl::Duration patience) {
  for (const pid_t agent : OurChildren()) ::kill(agent, SIGKILL);
  const int64_t begin_ns = MonotonicNanoseconds();
  while (true) {
    pid_t ended;
    do {
      ended = ::waitpid(-1, nullptr, WNOHANG);
    } while (ended > 0 || (ended < 0 && errno == EINTR));
    const absl::Duration waited = absl::Nanoseconds(MonotonicNanoseconds() - begin_ns);
    if (ended < 0 || waited > 2 * patience) return;
    if (waited > patience) {
      for (const pid_t child : OurChildren()) ::kill(child, SIGKILL);
    }
    absl::SleepFor(absl::Milliseconds(2));
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<RemoteJob>> RemoteJob::Create(RemoteJobOptions options) {
  std::unique_ptr<RemoteJob> job(new RemoteJob(options.launch));
  MUSTER_ASSIGN_OR_RETURN(job->loop_, EventLoop::Create());
  MUSTER_ASSIGN_OR_RETURN(job->signals_,
                          JobSignals::Take(job->loop_.get(), [job = job.get()](int signal, const std::string& by) { job->OnSignal(signal, by); }));
  MUSTER_RETURN_IF_ERROR(job->StartCoordinator(options));
  v1::CommandMessage first;
  *first.mutable_launch() = job->launch_;
  if (first.ByteSizeLong() > kLaunchFrameBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat("the command line has ", first.ByteSizeLong() >> 20, " MiB; at most ",
                                                   kLaunchFrameBytesMax >> 20, " MiB can be passed on"));
  }
  job->link_->Send(first);
  if (job->launch_.job().pty()) job->SendWindowSize();
  const bool reads = job->launch_.job().standard_input().readers() != v1::StdinSettings::NONE;
  if (!job->launch_.detached() && reads) MUSTER_RETURN_IF_ERROR(job->ForwardStdin());
  return job;
}

RemoteJob::~RemoteJob() = default;

absl::Status RemoteJob::StartCoordinator(const RemoteJobOptions& options) {
  // So that agents whose coordinator dies are left to us. A shell that became us by exec may have left us children of its own; then
  // agents and theirs could not be told apart.
  inherits_agents_ = OurChildren().empty() && ::prctl(PR_SET_CHILD_SUBREAPER, 1) == 0;
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return ErrnoToStatus(errno, "socketpair");
  UniqueFd ours(ends[0]), ends_other(ends[1]);
  MUSTER_ASSIGN_OR_RETURN(const UniqueFd theirs, CopyAbove(ends_other.get()));
  MUSTER_ASSIGN_OR_RETURN(const UniqueFd lock, CopyAbove(options.job_lock));

  posix_spawn_file_actions_t files;
  posix_spawnattr_t attributes;
  ::posix_spawn_file_actions_init(&files);
  ::posix_spawnattr_init(&attributes);
  ::posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  if (launch_.detached()) {
    ::posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    ::posix_spawn_file_actions_addopen(&files, STDERR_FILENO, options.coordinator_log.c_str(), O_WRONLY | O_CREAT | O_APPEND,
                                       0600);
  }
  ::posix_spawn_file_actions_adddup2(&files, theirs.get(), kLaunchFd);
  ::posix_spawn_file_actions_adddup2(&files, lock.get(), kJobLockFd);
  sigset_t none_ignored;
  sigemptyset(&none_ignored);
  sigaddset(&none_ignored, SIGPIPE);
  ::posix_spawnattr_setsigmask(&attributes, &signals_->old_mask());
  ::posix_spawnattr_setsigdefault(&attributes, &none_ignored);
  // A group of its own: the terminal's Ctrl-C reaches us alone.
  ::posix_spawnattr_setpgroup(&attributes, 0);
  ::posix_spawnattr_setflags(&attributes,
                             static_cast<short>(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
                                                (launch_.detached() ? POSIX_SPAWN_SETSID : POSIX_SPAWN_SETPGROUP)));
  char name[] = "muster", subcommand[] = "coordinator";
  char* arguments[] = {name, subcommand, nullptr};
  const int error = ::posix_spawn(&coordinator_, launch_.agent_program().c_str(), &files, &attributes, arguments, environ);
  ::posix_spawn_file_actions_destroy(&files);
  ::posix_spawnattr_destroy(&attributes);
  if (error != 0) return ErrnoToStatus(error, "cannot start the job's coordinator");

  coordinator_pidfd_.Reset(static_cast<int>(::syscall(SYS_pidfd_open, coordinator_, 0)));
  if (!coordinator_pidfd_) return ErrnoToStatus(errno, "pidfd_open");
  LaunchLink::Callbacks callbacks;
  callbacks.message = [this](std::string bytes) { OnReport(bytes); };
  callbacks.closed = [this](absl::Status) { OnClosed(); };
  MUSTER_ASSIGN_OR_RETURN(link_, LaunchLink::Create(loop_.get(), std::move(ours), std::move(callbacks)));
  return absl::OkStatus();
}

RemoteResult RemoteJob::Run() {
  progress_.emplace(loop_.get(), launch_.workers());
  loop_->Run();
  progress_.reset();
  return *std::move(result_);
}

// --- What the coordinator says ---

void RemoteJob::OnReport(const std::string& bytes) {
  v1::CoordinatorReport report;
  if (!report.ParseFromString(bytes)) {
    Say("the job's coordinator sent what is no message");
    ::kill(coordinator_, SIGKILL);
    return;
  }
  switch (report.kind_case()) {
    case v1::CoordinatorReport::kProgress:
      all_started_ = report.progress().started() >= launch_.workers();
      return progress_->Started(report.progress().started());
    case v1::CoordinatorReport::kInputTaken:
      if (input_ == nullptr) return;
      return report.input_taken().closed() ? input_->Stop() : input_->Next();
    case v1::CoordinatorReport::kNote:
      return Say(report.note().text());
    case v1::CoordinatorReport::kOutcome: {
      RemoteResult result;
      result.verdict = report.outcome().verdict();
      result.report_json = report.outcome().report_json();
      result.goes_on = report.outcome().goes_on();
      return Leave(std::move(result));
    }
    case v1::CoordinatorReport::KIND_NOT_SET:
      return;
  }
}

// The first that is known holds.
void RemoteJob::Leave(RemoteResult result) {
  if (result_) return;
  result_ = std::move(result);
  progress_->End();
  // What the coordinator has made (agents, networks of nodes) is gone when it is.
  const absl::Status watched = loop_->Add(coordinator_pidfd_.get(), EPOLLIN, [this](uint32_t) {
    loop_->Remove(coordinator_pidfd_.get());
    ::waitpid(coordinator_, nullptr, 0);
    loop_->Quit();
  });
  if (!watched.ok()) return loop_->Quit();
  loop_->After(kCoordinatorGoes, [this] { LeaveWithoutCoordinator(); });
}

void RemoteJob::LeaveWithoutCoordinator() {
  ::kill(coordinator_, SIGKILL);
  ::waitpid(coordinator_, nullptr, 0);
  if (inherits_agents_) EndWhatIsLeftToUs(kAgentsGo);
  loop_->Quit();
}

// Without an Outcome: it lets go of us because its detached workers run, or has died, or found a defect in what we sent, which comes
// to the same.
void RemoteJob::OnClosed() {
  if (result_) return;
  pollfd ended = {coordinator_pidfd_.get(), POLLIN, 0};
  if (launch_.detached() && all_started_ && ::poll(&ended, 1, 0) == 0) {
    result_.emplace().runs_on = true;
    progress_->End();
    return loop_->Quit();
  }
  int status = 0;
  if (::poll(&ended, 1, static_cast<int>(absl::ToInt64Milliseconds(kCoordinatorGoes))) == 0) ::kill(coordinator_, SIGKILL);
  ::waitpid(coordinator_, &status, 0);
  if (inherits_agents_) EndWhatIsLeftToUs(kAgentsGo);
  result_ = CoordinatorLost(HowEnded(status));
  progress_->End();
  loop_->Quit();
}

RemoteResult RemoteJob::CoordinatorLost(const std::string& how) const {
  RemoteResult result;
  result.verdict.set_exit_code(kExitInternal);
  result.verdict.set_origin("muster");
  result.verdict.set_failure_class("coordinator lost");
  result.verdict.set_rank(-1);
  result.verdict.set_committed_step(-1);
  if (launch_.successor_goes_on()) {
    result.goes_on = true;
    result.verdict.set_exit_code(kExitUnavailable);
    result.verdict.set_sentence(absl::StrCat("the job's coordinator (process ", coordinator_, ") ", how,
                                             " before the job was over; its workers run on for the one that comes after it"));
    return result;
  }
  result.verdict.set_sentence(absl::StrCat("the job's coordinator (process ", coordinator_, ") ", how,
                                           " before the job was over; ",
                                           inherits_agents_ ? "its workers were ended"
                                                            : absl::StrCat("its agents end their workers within ",
                                                                                          launch_.ending().orphan_after_ms() > 0
                                                              ? static_cast<double>(launch_.ending().orphan_after_ms()) / 1e3
                                                              : kLocalOrphanSeconds,
                                                          " seconds")));
  return result;
}

// --- Signals ---

void RemoteJob::OnSignal(int signal, const std::string& by) {
  switch (signal) {
    case SIGINT:
      LeaveLineOfCtrlC();
      return RequestStop(v1::StopRequest::INTERRUPT, by);
    case SIGTERM:
      return RequestStop(v1::StopRequest::TERMINATE, by);
    case SIGHUP:
      return RequestStop(v1::StopRequest::HANGUP, by);
    case SIGTSTP:
      return PauseWithWorkers();
    case SIGCONT:
    case SIGUSR1:
    case SIGUSR2:
      return SendSignal(signal);
    case SIGWINCH:
      return SendWindowSize();
    default:
      return;
  }
}

void RemoteJob::RequestStop(v1::StopRequest::Kind kind, const std::string& by) {
  if (result_) return loop_->Quit();
  progress_->End();
  v1::CommandMessage message;
  message.mutable_stop()->set_kind(kind);
  message.mutable_stop()->set_by(by);
  link_->Send(message);
  if (++stops_ == 1) {
    loop_->After(kSlowStop, [this] {
      if (result_ || stops_ != 1) return;
      const uint32_t said_ms = launch_.job().ending().kill_grace_ms();
      Say(absl::StrCat("waiting up to ", absl::FormatDuration(said_ms > 0 ? absl::Milliseconds(said_ms) : kKillGrace),
                       " for the workers to end; Ctrl-C once more ends them now"));
    });
  } else if (stops_ == 2) {  // the coordinator ends the workers at once
    told_to_end_now_ns_ = MonotonicNanoseconds();
    loop_->After(kStopUnheard, [this] {
      if (!result_) {
        Say(absl::StrCat("the job's coordinator (process ", coordinator_, ") does not end it; Ctrl-C once more kills ",
                         "coordinator and workers"));
      }
    });
  } else if (absl::Nanoseconds(MonotonicNanoseconds() - told_to_end_now_ns_) > kStopMeant) {
    ::kill(coordinator_, SIGKILL);  // stuck, or stopped; the link's end tells us
  }
}

void RemoteJob::SendSignal(int signal) {
  v1::CommandMessage message;
  message.mutable_signal()->set_signal(static_cast<uint32_t>(signal));
  link_->Send(message);
}

void RemoteJob::SendWindowSize() {
  winsize size = {};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0) return;
  v1::CommandMessage message;
  message.mutable_signal()->set_signal(SIGWINCH);
  message.mutable_signal()->set_rows(size.ws_row);
  message.mutable_signal()->set_columns(size.ws_col);
  link_->Send(message);
}

// Workers and coordinator are in process groups of their own, which the terminal's Ctrl-Z does not reach.
void RemoteJob::PauseWithWorkers() {
  SendSignal(SIGSTOP);
  link_->WhenSent([] { ::kill(::getpid(), SIGSTOP); });
}

// --- Standard input ---

absl::Status RemoteJob::ForwardStdin() {
  MUSTER_ASSIGN_OR_RETURN(input_,
                          StdinPieces::Start(loop_.get(), STDIN_FILENO, kInputBytesMax, [this](std::string bytes, bool end) {
                            v1::CommandMessage message;
                            message.mutable_input()->set_bytes(std::move(bytes));
                            message.mutable_input()->set_end(end);
                            link_->Send(message);
                          }));
  input_->Next();
  return absl::OkStatus();
}

}  // namespace muster
