#include "launcher/cli/local_job.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <climits>
#include <filesystem>
#include <set>
#include <system_error>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "launcher/cli/console.h"
#include "launcher/job/job_folder.h"
#include "launcher/process/endings.h"
#include "launcher/process/exit_codes.h"
#include "launcher/process/seating.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

constexpr uint32_t kNode = 0;  // the only agent's number
constexpr absl::Duration kSlowStop = absl::Milliseconds(500);
constexpr absl::Duration kReaderCheck = absl::Milliseconds(10);
constexpr absl::Duration kSignalsCheck = absl::Milliseconds(1);
constexpr absl::Duration kAgentGoes = absl::Seconds(2);

std::string HostName() {
  char name[HOST_NAME_MAX + 1] = {};
  return ::gethostname(name, sizeof name - 1) == 0 ? name : "localhost";
}

std::string RandomBytes(size_t bytes) {
  std::string text(bytes, '\0');
  MUSTER_CHECK(::getentropy(text.data(), bytes) == 0, "getentropy");
  return text;
}

}  // namespace

absl::StatusOr<std::unique_ptr<LocalJob>> LocalJob::Create(LocalJobOptions options) {
  std::unique_ptr<LocalJob> job(new LocalJob(std::move(options)));
  job->host_ = HostName();
  MUSTER_ASSIGN_OR_RETURN(job->loop_, EventLoop::Create());
  MUSTER_ASSIGN_OR_RETURN(job->signals_,
                          JobSignals::Take(job->loop_.get(), [job = job.get()](int signal, const std::string& by) { job->OnSignal(signal, by); }));
  MUSTER_RETURN_IF_ERROR(job->MakeAgent());  // first: its guard gets ready while the record is made durable
  MUSTER_RETURN_IF_ERROR(job->MakeCoordinator());
  return job;
}

LocalJob::~LocalJob() = default;

absl::Status LocalJob::MakeCoordinator() {
  CoordinatorOptions options;
  options.membership.job_id = options_.job_id;
  options.membership.command = CommandText(options_.run.command);
  options.membership.workers = static_cast<uint32_t>(options_.run.workers);
  for (const RunApplication& one : options_.run.applications) {
    options.membership.applications.push_back({static_cast<uint32_t>(one.workers), one.command[0]});
  }
  options.membership.workers_min = static_cast<uint32_t>(options_.run.workers_min);
  options.membership.max_restarts = static_cast<uint32_t>(options_.run.max_restarts);
  options.membership.output_files = !options_.run.output.output.file_pattern().empty();
  if (options_.run.last_call_seconds > 0) options.membership.last_call = absl::Seconds(options_.run.last_call_seconds);
  options.membership.random_bytes = RandomBytes;
  if (options_.run.placement.wanted()) {
    MUSTER_ASSIGN_OR_RETURN(options.membership.place, MakePlaceFunction(PlacementOf(options_.run.placement)));
  }
  const EndingOptions& ending = options_.run.ending;
  options.membership.timeout_text = absl::StrFormat("--timeout %g", ending.timeout_seconds);
  options.membership.user_grace = ending.kill_grace();
  options.membership.failure_grace = ending.failure_grace();
  options.membership.stop_signal = ending.stop_signal;
  options.record_folder = options_.job_folder;
  options.durability = Durability::kProcess;  // with this machine's end the job is over
  Coordinator::Callbacks callbacks;
  callbacks.send = [this](uint32_t, const v1::CoordinatorMessage& message) { agent_->OnMessage(message); };
  callbacks.finished = [this](const Judgement& judgement) { OnFinished(judgement); };
  callbacks.restarting = [this](const Judgement& why, uint64_t, uint32_t) {
    Say(RestartNote(why, coordinator_->membership(), options_.run.workers, options_.run.workers_min,
                    options_.run.max_restarts));
    restarting_ = true;
    if (agent_gone_) ReplaceAgent();
  };
  callbacks.happened = [this](const v1::JobEvent& event) { reporter_->Happened(event); };
  callbacks.placed = [](const std::vector<std::string>& lines) {
    for (const std::string& line : lines) Say(line);
  };
  callbacks.log = [](LogLevel level, const std::string& line) { Log(level, line); };
  MUSTER_ASSIGN_OR_RETURN(coordinator_, Coordinator::Create(loop_.get(), std::move(options), std::move(callbacks)));
  JobStatus status;
  status.job_id = absl::BytesToHexString(options_.job_id);
  status.command = CommandText(options_.run.command);
  status.name = options_.run.name;
  status.launched_from = host_;
  status.workers = options_.run.workers;
  status.workers_min = options_.run.workers_min;
  status.max_restarts = options_.run.max_restarts;
  status.checkpoint_path = options_.run.checkpoint_path;
  status.output_files = options_.run.output.output.file_pattern();
  status.output_files_only = options_.run.output.output.files_only();
  reporter_.emplace(loop_.get(), options_.job_folder, std::move(status), &coordinator_->membership());
  return absl::OkStatus();
}

absl::Status LocalJob::MakeAgent() {
  const RunOptions& run = options_.run;
  AgentOptions options;
  options.job_id = options_.job_id;
  options.host = host_;
  options.slots = static_cast<uint32_t>(run.workers);
  options.master_port = static_cast<uint16_t>(run.master_port);
  options.guard_path = options_.guard_path;
  options.session_folder = options_.session_folder;
  options.program = options_.program.path;
  options.argv = options_.program.argv;
  options.inherited_environment = options_.environment;
  options.chosen_environment = run.environment;
  options.working_directory = run.working_directory;
  if (run.placement.wanted()) options.placement = PlacementOf(run.placement);
  for (size_t i = 0; i < run.applications.size(); ++i) {
    const RunApplication& one = run.applications[i];
    options.applications.push_back({options_.programs[i].path, options_.programs[i].argv, one.environment,
                                    one.working_directory, static_cast<uint32_t>(one.workers)});
  }
  options.checkpoint.set_path(run.checkpoint_path);
  options.checkpoint.set_every_steps(run.checkpoint_every);
  options.checkpoint.set_keep(static_cast<int32_t>(run.checkpoint_keep));
  v1::JobSpec streams;
  AddOutput(run.output, true, &streams);
  streams.set_pty(run.pty || ::isatty(STDOUT_FILENO) == 1);
  TakeStreams(streams, &options.streams);
  options.streams.output.spill_folder = options_.job_folder;
  options.streams.output.copy = [this](uint32_t rank, OutputStream which, absl::string_view text) {
    logs_->Write(rank, which == OutputStream::kStderr, text);
  };
  if (!logs_) logs_.emplace(options_.job_folder, run.workers);
  if (options.streams.stdin_readers.kind != StdinReaders::Kind::kNone) options.streams.stdin_fd = STDIN_FILENO;
  Agent::Callbacks callbacks;
  callbacks.send = [this](v1::AgentMessage message) {
    if (message.has_rank_states()) {
      if (inquiry_) inquiry_->Answered(kNode, message.rank_states());
      return;
    }
    if (message.has_output_ready() && !message.output_ready().why_not().empty()) {
      return CannotWriteOutput(message.output_ready().why_not());
    }
    coordinator_->OnMessage(kNode, std::move(message));
  };
  callbacks.gone = [this](absl::Status status) { OnAgentGone(status); };
  callbacks.log = [](LogLevel level, const std::string& line) { Log(level, line); };
  callbacks.started = [this](uint32_t started) { OnStarted(started); };
  MUSTER_ASSIGN_OR_RETURN(agent_, Agent::Create(loop_.get(), std::move(options), std::move(callbacks)));
  return absl::OkStatus();
}

JobResult LocalJob::Run() {
  JobResult result;
  result.started = absl::Now();
  const int64_t begin = MonotonicNanoseconds();
  WatchReader();
  progress_.emplace(loop_.get(), options_.run.workers);
  if (options_.run.ending.timeout_seconds > 0) {
    loop_->After(absl::Seconds(options_.run.ending.timeout_seconds), [this] { OnTimeLimit(); });
  }
  agent_->Start();
  agent_->ChannelUp();
  loop_->Run();

  result.job_id = absl::BytesToHexString(options_.job_id);
  result.command = options_.run.command;
  result.host = host_;
  result.workers = options_.run.workers;
  TakeMembership(coordinator_->membership(), &result);
  result.seconds = static_cast<double>(MonotonicNanoseconds() - begin) / 1e9;
  if (agent_ != nullptr) {
    lines_dropped_ += agent_->output().lines_dropped();
    write_failed_ = write_failed_ || agent_->output().WriteFailed();
  }
  result.lines_dropped = lines_dropped_;
  result.judgement = *judgement_;
  if (write_failed_ && result.judgement.verdict.exit_code() == kExitOk) {
    v1::Verdict& verdict = result.judgement.verdict;  // the job is done, but whoever wants its output must not believe it whole
    verdict.set_exit_code(kExitCannotWrite);
    verdict.set_origin("muster");
    verdict.set_failure_class("cannot write output");
    verdict.set_sentence("all workers ended with 0, but some of their output could not be written");
  }
  if (!cannot_write_.empty()) {
    v1::Verdict& verdict = result.judgement.verdict;
    verdict.set_exit_code(kExitCannotWrite);
    verdict.set_origin("muster");
    verdict.set_failure_class("cannot write output");
    verdict.set_sentence(cannot_write_);
  } else if (reader_gone_) {
    v1::Verdict& verdict = result.judgement.verdict;
    verdict.set_exit_code(kExitBrokenPipe);
    verdict.set_origin("muster");
    verdict.set_failure_class("broken pipe");
    verdict.set_sentence("the reader of muster's stdout has gone, so the job was ended");
  }
  return result;
}

// --- Signals ---

void LocalJob::OnSignal(int signal, const std::string& by) {
  switch (signal) {
    case SIGINT:
      LeaveLineOfCtrlC();
      return RequestStop(StopKind::kInterrupt, by);
    case SIGTERM:
      return RequestStop(StopKind::kTerminate, by);
    case SIGHUP:
      return RequestStop(StopKind::kHangup, by);
    case SIGTSTP:
      return PauseWithWorkers();
    case SIGCONT:
      pausing_ = false;
      return agent_->SignalWorkers(signal);
    case SIGUSR1:
    case SIGUSR2:  // between a batch system and the program; muster has no use for them
      return agent_->SignalWorkers(signal);
    case SIGWINCH:
      return agent_->CopyWindowSize(STDOUT_FILENO);
    default:
      return;
  }
}

// Before anybody is ended: who is where?
void LocalJob::OnTimeLimit() {
  if (judgement_ || stopping_) return;
  v1::CoordinatorMessage question;
  question.set_job_id(options_.job_id);
  question.mutable_rank_states_request();
  inquiry_.emplace(loop_.get());
  inquiry_->Start(
      agent_gone_ || agent_ == nullptr ? std::set<uint32_t>() : std::set<uint32_t>{kNode}, kRankStatesPatience,
      [&](uint32_t) { agent_->OnMessage(question); },
      [this](std::vector<v1::RankState> states) { RequestStop(StopKind::kTimeout, "", std::move(states)); });
}

// Nothing has started yet.
void LocalJob::CannotWriteOutput(const std::string& why) {
  cannot_write_ = why;
  RequestStop(StopKind::kTerminate, "");
}

void LocalJob::RequestStop(StopKind kind, const std::string& by, std::vector<v1::RankState> states) {
  if (judgement_.has_value()) {
    // Only output is left to write, and nobody wants to wait for it.
    if (kind != StopKind::kTimeout) loop_->Quit();
    return;
  }
  coordinator_->RequestStop(kind, by, std::move(states));
  progress_->End();
  if (!stopping_) loop_->After(kSlowStop, [this] { ShowStopping(); });
  stopping_ = true;
}

// Workers are in process groups of their own, which the terminal's Ctrl-Z does not reach.
void LocalJob::PauseWithWorkers() {
  pausing_ = true;
  agent_->SignalWorkers(SIGSTOP);
  StopWhenWorkersAreTold();
}

// A worker may print before the guard's word that it runs has come, which its signal waits for. Were we to stop first it would
// run on.
void LocalJob::StopWhenWorkersAreTold() {
  if (!pausing_) return;
  if (agent_->signals_wait()) {
    loop_->After(kSignalsCheck, [this] { StopWhenWorkersAreTold(); });
    return;
  }
  pausing_ = false;
  ::kill(::getpid(), SIGSTOP);
}

void LocalJob::OnStarted(uint32_t started) {
  progress_->Started(started);
  restarting_ = false;
  if (started < options_.run.workers) return;
  Log(LogLevel::kInfo, absl::StrCat("job ", absl::BytesToHexString(options_.job_id), ": ", started, " workers of ",
                                    options_.program.path, " started"));
}

void LocalJob::ShowStopping() {
  const size_t alive = agent_->workers_alive();
  if (judgement_ || reader_gone_ || alive == 0) return;
  Say(absl::StrCat("waiting up to ", absl::FormatDuration(options_.run.ending.kill_grace()), " for ", alive, alive == 1 ? " worker" : " workers",
                   " to end; Ctrl-C once more ends them now"));
}

// --- The end ---

// Like any command in a pipe muster ends when what it writes is no longer read: with the first write that fails, not before.
void LocalJob::WatchReader() {
  if (::isatty(STDOUT_FILENO) == 1) return;  // its end is SIGHUP
  stdout_watch_.Reset(::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0));
  // A file cannot be waited for and has no reader to lose.
  const absl::Status watched = loop_->Add(stdout_watch_.get(), 0, [this](uint32_t) {
    loop_->Remove(stdout_watch_.get());
    CheckReader();
  });
  if (!watched.ok()) stdout_watch_.Reset();
}

void LocalJob::CheckReader() {
  if (judgement_) return;
  if (agent_->output().ReaderGone(OutputStream::kStdout)) {
    reader_gone_ = true;
    RequestStop(StopKind::kTerminate, "");
  } else {
    loop_->After(kReaderCheck, [this] { CheckReader(); });
  }
}

void LocalJob::OnFinished(const Judgement& judgement) {
  if (judgement_) return;
  judgement_ = judgement;
  reporter_->Finished();
  progress_->End();
  // The agent goes with its last message; a defect there must not keep the verdict from the user.
  if (agent_gone_) {
    EndWhenAllIsWritten();
  } else {
    loop_->After(kAgentGoes, [this] {
      if (!agent_gone_) EndWhenAllIsWritten();
    });
  }
}

void LocalJob::OnAgentGone(const absl::Status& status) {
  agent_gone_ = true;
  if (!status.ok() && !judgement_) Judge(status);
  if (judgement_) return EndWhenAllIsWritten();
  if (restarting_) ReplaceAgent();
}

// The agent went, with its guard say, but the job goes on: another one takes its place, as a starter would see to it.
void LocalJob::ReplaceAgent() {
  agent_->output().DrainAll();
  agent_->output().Flush([this] {
    loop_->Post([this] {
      if (judgement_ || !agent_gone_) return;
      lines_dropped_ += agent_->output().lines_dropped();
      write_failed_ = write_failed_ || agent_->output().WriteFailed();
      agent_.reset();
      // The guard has removed it with what was in it.
      std::error_code error;
      std::filesystem::create_directory(options_.session_folder, error);
      std::filesystem::permissions(options_.session_folder, std::filesystem::perms::owner_all, error);
      if (const absl::Status status = MakeAgent(); !status.ok()) {
        Judge(status);
        loop_->Quit();
        return;
      }
      agent_gone_ = false;
      agent_->Start();
      agent_->ChannelUp();
    });
  });
}

// Ends a job that has no coordinator's verdict.
void LocalJob::Judge(const absl::Status& status) {
  judgement_.emplace();
  judgement_->verdict.set_exit_code(kExitInternal);
  judgement_->verdict.set_origin("muster");
  judgement_->verdict.set_failure_class("cannot start");
  judgement_->verdict.set_rank(-1);
  judgement_->verdict.set_host(host_);
  judgement_->verdict.set_committed_step(-1);
  judgement_->verdict.set_sentence(absl::StrCat(status.message()));
}

void LocalJob::EndWhenAllIsWritten() {
  agent_->output().DrainAll();
  agent_->output().Flush([this] { loop_->Quit(); });
}

}  // namespace muster
