#include "launcher/process/coordinator_process.h"

#include <limits.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "launcher/agent/agent_options.h"
#include "launcher/job/write_file.h"
#include "launcher/process/endings.h"
#include "launcher/process/exit_codes.h"
#include "launcher/process/launch_options.h"
#include "launcher/process/make_starter.h"
#include "launcher/process/pod_tokens.h"
#include "launcher/process/signal_watch.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

using membership::State;

constexpr absl::Duration kSilenceCheck = absl::Seconds(1);
constexpr absl::Duration kSilenceToTell = absl::Seconds(3);
constexpr absl::Duration kSilenceToReplace = absl::Seconds(10);  // an agent of this machine that holds up a restart
constexpr absl::Duration kAgentsGo = absl::Seconds(5);           // to end by themselves when the job is over
constexpr absl::Duration kLastOutput = absl::Seconds(2);         // when the command has died

std::string HostName() {
  char name[HOST_NAME_MAX + 1] = {};
  return ::gethostname(name, sizeof name - 1) == 0 ? name : "localhost";
}

StopKind KindOf(v1::StopRequest::Kind kind) {
  switch (kind) {
    case v1::StopRequest::INTERRUPT:
      return StopKind::kInterrupt;
    case v1::StopRequest::HANGUP:
      return StopKind::kHangup;
    case v1::StopRequest::TIMEOUT:
      return StopKind::kTimeout;
    default:
      return StopKind::kTerminate;
  }
}

StopKind KindOf(int signal) {
  return signal == SIGINT ? StopKind::kInterrupt : signal == SIGHUP ? StopKind::kHangup : StopKind::kTerminate;
}

}  // namespace

absl::StatusOr<std::unique_ptr<CoordinatorProcess>> CoordinatorProcess::Create(CoordinatorProcessOptions options) {
  std::unique_ptr<CoordinatorProcess> process(new CoordinatorProcess);
  process->launch_ = std::move(options.launch);
  process->job_folder_ = std::move(options.job_folder);
  process->host_ = HostName();
  MUSTER_ASSIGN_OR_RETURN(process->loop_, EventLoop::Create());
  MUSTER_RETURN_IF_ERROR(process->TakeSignals());  // before anything that may start a thread
  if (!options.link) {
    process->Launch();
    return process;
  }
  LaunchLink::Callbacks callbacks;
  callbacks.message = [process = process.get()](const std::string& bytes) { process->OnCommand(bytes); };
  callbacks.closed = [process = process.get()](const absl::Status& why) { process->OnCommandGone(why); };
  MUSTER_ASSIGN_OR_RETURN(process->link_,
                          LaunchLink::Create(process->loop_.get(), std::move(options.link), std::move(callbacks)));
  return process;
}

CoordinatorProcess::~CoordinatorProcess() {
  agents_.reset();
  starter_.reset();
  server_.reset();
}

int CoordinatorProcess::Run() {
  loop_->Run();
  return exit_code_;
}

absl::Status CoordinatorProcess::TakeSignals() {
  MUSTER_ASSIGN_OR_RETURN(signals_,
                          WatchEndingSignals(loop_.get(), [this](int signal, const std::string& by) { OnSignal(signal, by); }));
  return absl::OkStatus();
}

// --- Beginning ---

void CoordinatorProcess::Launch() {
  launched_ = true;
  started_ = absl::Now();
  const absl::Status begun = Begin();
  if (begun.ok()) return;
  const bool disk = absl::IsResourceExhausted(begun) || absl::IsDataLoss(begun);
  const int exit_code = disk ? kExitCannotWrite : absl::IsInvalidArgument(begun) ? kExitUsage : kExitInternal;
  Fail(exit_code, "cannot start", std::string(begun.message()));
  reporter_.reset();  // it looks at the next, which must not begin with half of us
  coordinator_.reset();
  loop_->Post([this] { OnFinished(Judgement()); });
}

absl::Status CoordinatorProcess::Begin() {
  MUSTER_RETURN_IF_ERROR(CheckLaunch(launch_));
  if (job_folder_ == nullptr) {
    MUSTER_ASSIGN_OR_RETURN(job_folder_, JobFolder::Adopt(launch_.job_folder(), UniqueFd(kJobLockFd)));
  }
  slots_.emplace(&launch_);
  MUSTER_RETURN_IF_ERROR(BringUpStarter());  // first: it may move us into a network of our own
  MUSTER_RETURN_IF_ERROR(MakeOutput());
  MUSTER_RETURN_IF_ERROR(MakeCoordinator());
  MUSTER_RETURN_IF_ERROR(MakeServer());
  MakeInput();
  MakeAgents();
  if (launch_.timeout_seconds() > 0) {
    loop_->After(absl::Seconds(launch_.timeout_seconds()), [this] { OnTimeLimit(); });
  }
  agents_->StartAll();
  loop_->After(kSilenceCheck, [this] { LookForSilence(); });
  return absl::OkStatus();
}

absl::Status CoordinatorProcess::BringUpStarter() {
  Starter::Callbacks callbacks;
  callbacks.ended = [this](uint32_t node, const std::string& why) { OnAgentEnded(node, why); };
  callbacks.hopeless = [this](uint32_t node, const std::string& why) { agents_->Hopeless(node, why); };
  MUSTER_ASSIGN_OR_RETURN(starter_, MakeStarter(loop_.get(), launch_, job_folder_->path(), std::move(callbacks)));
  return absl::OkStatus();
}

absl::Status CoordinatorProcess::MakeOutput() {
  OutputWriterOptions options;
  options.attached = !launch_.detached();
  options.job_folder = job_folder_->path();
  options.workers = launch_.workers();
  const v1::OutputSettings& settings = launch_.job().output();
  options.marks = MarksOf(settings);
  options.color_stdout = settings.color_stdout();
  options.color_stderr = settings.color_stderr();
  if (settings.spill_bytes_max() > 0) options.spill_bytes_max = static_cast<int64_t>(settings.spill_bytes_max());
  MUSTER_ASSIGN_OR_RETURN(output_, OutputWriter::Create(loop_.get(), options, [this](bool hold) {
                            v1::CoordinatorMessage message = Message();
                            message.mutable_hold_output()->set_hold(hold);
                            SendToAll(message);
                          }));
  return absl::OkStatus();
}

void CoordinatorProcess::MakeInput() {
  InputRelay::Callbacks callbacks;
  callbacks.send = [this](uint32_t node, const v1::Input& input) {
    v1::CoordinatorMessage message = Message();
    *message.mutable_input() = input;
    server_->Send(node, message);
  };
  callbacks.taken = [this] {
    v1::CoordinatorReport report;
    report.mutable_input_taken();
    Report(std::move(report));
  };
  input_ = std::make_unique<InputRelay>(std::move(callbacks));
  const bool wanted = launch_.job().standard_input().readers() != v1::StdinSettings::NONE;
  if (is_attached() && !launch_.detached() && wanted) return;
  v1::Input end;
  end.set_end(true);
  input_->Offer(std::move(end));
}

absl::Status CoordinatorProcess::MakeCoordinator() {
  CoordinatorOptions options;
  MUSTER_ASSIGN_OR_RETURN(options.membership, MembershipOptionsOf(launch_));
  if (slots_->more_than_needed()) options.membership.nodes = slots_->needed();
  options.record_folder = job_folder_->path();
  Coordinator::Callbacks callbacks;
  callbacks.send = [this](uint32_t node, const v1::CoordinatorMessage& message) {
    if (!leaves_ || !message.has_stop()) return server_->Send(node, message);
    v1::CoordinatorMessage stop = message;
    stop.mutable_stop()->set_successor_comes(true);
    server_->Send(node, stop);
  };
  callbacks.finished = [this](const Judgement& judgement) { OnFinished(judgement); };
  callbacks.restarting = [this](const Judgement& why, uint64_t, uint32_t) { OnRestarting(why); };
  callbacks.happened = [this](const v1::JobEvent& event) { OnHappened(event); };
  callbacks.placed = [this](const std::vector<std::string>& lines) {
    for (const std::string& line : lines) Tell(line);
  };
  callbacks.log = [](LogLevel level, const std::string& line) { Log(level, line); };
  MUSTER_ASSIGN_OR_RETURN(coordinator_, Coordinator::Create(loop_.get(), std::move(options), std::move(callbacks)));
  reporter_ = std::make_unique<JobReporter>(loop_.get(), job_folder_->path(), FirstStatusOf(launch_, host_),
                                            &coordinator_->membership());
  return absl::OkStatus();
}

absl::Status CoordinatorProcess::MakeServer() {
  MUSTER_ASSIGN_OR_RETURN(authority_, Authority::Create(launch_.job_id()));
  AgentServerOptions options;
  options.job_id = launch_.job_id();
  options.listen = starter_->listen_address();
  options.port = static_cast<uint16_t>(launch_.port());
  options.authority = authority_.get();
  options.join_key = launch_.join_key();
  options.join_nodes = launch_.nodes();
  if (launch_.has_token_demand()) {
    options.check_identity = [this](uint32_t node, absl::string_view token) -> absl::Status {
      const auto identity = CheckPodToken(launch_.token_demand(), token, absl::Now());
      if (!identity.ok()) return absl::UnauthenticatedError(absl::StrCat("node ", node, ": ", identity.status().message()));
      Log(LogLevel::kInfo, absl::StrCat("node ", node, " is pod ", identity->pod, " (uid ", identity->pod_uid, ")",
                                        identity->node.empty() ? "" : absl::StrCat(" of machine ", identity->node)));
      return absl::OkStatus();
    };
  }
  AgentServer::Callbacks callbacks;
  callbacks.message = [this](uint32_t node, v1::AgentMessage message) { OnAgent(node, std::move(message)); };
  callbacks.lost = [this](uint32_t node, const std::string& why) { OnSessionLost(node, why); };
  callbacks.refused = [this](const ServerRefusal& refusal) { coordinator_->TurnedAway(refusal.what, refusal.from); };
  callbacks.log = [](LogLevel level, const std::string& line) { Log(level, line); };
  MUSTER_ASSIGN_OR_RETURN(server_, AgentServer::Create(loop_.get(), std::move(options), std::move(callbacks)));
  return absl::OkStatus();
}

void CoordinatorProcess::MakeAgents() {
  AgentKeeper::Options options;
  for (uint32_t node = 0; node < launch_.nodes(); ++node) {
    const bool named = node < static_cast<uint32_t>(launch_.hosts_size());
    options.names.push_back(named ? launch_.hosts(static_cast<int>(node)).name() : absl::StrCat("node ", node));
  }
  options.workers = launch_.workers();
  options.workers_min = launch_.workers_min() > 0 ? launch_.workers_min() : launch_.workers();
  AgentKeeper::Callbacks callbacks;
  callbacks.want = [this] { return WantOfAgents(); };
  callbacks.start = [this](uint32_t node, absl::Duration good_for) { return StartAgent(node, good_for); };
  callbacks.fewer_hoped_for = [this](uint32_t workers, uint32_t node) { coordinator_->FewerHopedFor(workers, node); };
  callbacks.not_enough = [this](const std::string& sentence) {
    Fail(kExitUnavailable, "not enough nodes", sentence);
    RequestStop(StopKind::kTerminate, Asker::kMuster, "");
  };
  agents_ = std::make_unique<AgentKeeper>(loop_.get(), starter_.get(), &*slots_, std::move(options), std::move(callbacks));
}

// Where agents find us. A wildcard is no address, so people get a name of this machine.
std::string CoordinatorProcess::CoordinatorPlace() const {
  std::string places;
  for (const std::string& offer : starter_->offers()) {
    const bool v6 = absl::StrContains(offer, ':');
    absl::StrAppend(&places, places.empty() ? "" : ",", v6 ? "[" : "", offer, v6 ? "]" : "", ":", server_->port());
  }
  if (!places.empty()) return places;
  std::string host = starter_->listen_address();
  if (host == "0.0.0.0" || host == "::") host = host_;
  if (absl::StrContains(host, ':')) host = absl::StrCat("[", host, "]");
  return absl::StrCat(host, ":", server_->port());
}

// --- The command ---

void CoordinatorProcess::OnCommand(const std::string& bytes) {
  v1::CommandMessage message;
  if (!message.ParseFromString(bytes)) return OnCommandGone(absl::InvalidArgumentError("it sent what is no message"));
  if (!launched_) {
    if (!message.has_launch()) return OnCommandGone(absl::InvalidArgumentError("its first message is no Launch"));
    launch_ = std::move(*message.mutable_launch());
    if (launch_.verbose()) {
      SetLogSink([](LogLevel, absl::string_view line) {
        const std::string text = absl::StrCat("muster: ", line, "\n");
        [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, text.data(), text.size());
      });
    }
    return Launch();
  }
  // Who asks a process that nobody has started by hand to end wants its place; agents that come by themselves find the next.
  const bool leaves = message.has_stop() && message.stop().kind() == v1::StopRequest::TERMINATE;
  if (leaves && launch_.successor_goes_on() && !stopping_ && !judgement_) return LeaveToSuccessor(message.stop().by());
  if (message.has_stop() && message.stop().kind() == v1::StopRequest::TERMINATE && !launch_.join_key().empty()) leaves_ = true;
  if (message.has_stop()) RequestStop(KindOf(message.stop().kind()), Asker::kCommand, message.stop().by());
  if (message.has_signal()) SendSignal(message.signal());
  if (message.has_input() && input_ != nullptr) input_->Offer(std::move(*message.mutable_input()));
}

void CoordinatorProcess::OnCommandGone(const absl::Status& why) {
  link_.reset();
  if (!launched_) {
    Log(LogLevel::kError,
        absl::StrCat("the command that started this coordinator has gone before it said what to run: ", why.message()));
    exit_code_ = kExitUsage;
    return loop_->Quit();
  }
  if (launch_.detached() || ending_) return;
  // As with mpirun, an attached job does not outlive its command.
  command_died_ = true;
  if (judgement_) return End();
  if (launch_.successor_goes_on() && !stopping_) return loop_->Quit();  // as if we had been killed with it
  // The first process of a container that is killed goes a moment before the others: its pod is made again.
  if (!launch_.join_key().empty()) leaves_ = true;
  Fail(kExitHangUp, "command gone", "the command that the job was attached to has gone, so the job was ended");
  EndNow(StopKind::kHangup);
}

// The job goes on without us: agents keep their workers, and our record says all that the next one must know.
void CoordinatorProcess::LeaveToSuccessor(const std::string& by) {
  if (std::exchange(left_, true)) return loop_->Quit();
  const auto leave = [this, by] {
    if (judgement_) return;  // it was over before we went
    v1::CoordinatorReport report;
    v1::Outcome* const outcome = report.mutable_outcome();
    outcome->set_goes_on(true);
    v1::Verdict* const verdict = outcome->mutable_verdict();
    verdict->set_exit_code(128 + SIGTERM);
    verdict->set_origin("muster");
    verdict->set_failure_class("stopped");
    verdict->set_rank(-1);
    verdict->set_host(host_);
    verdict->set_committed_step(coordinator_ != nullptr ? coordinator_->membership().committed_step() : -1);
    verdict->set_sentence(absl::StrCat("asked to leave its place (SIGTERM)", by.empty() ? "" : absl::StrCat(" by ", by),
                                       "; the job goes on under the coordinator that comes after this one"));
    Report(std::move(report));
    if (link_ == nullptr) return loop_->Quit();
    link_->WhenSent([this] { loop_->Quit(); });
  };
  output_ != nullptr ? output_->Flush(leave) : leave();
}

void CoordinatorProcess::OnSignal(int signal, const std::string& by) {
  if (signal == SIGUSR1 || signal == SIGUSR2) {  // the programs' own; muster has no use for them
    v1::Signal forwarded;
    forwarded.set_signal(static_cast<uint32_t>(signal));
    if (launched_ && coordinator_ != nullptr) SendSignal(forwarded);
    return;
  }
  if (!launched_) return loop_->Quit();
  RequestStop(KindOf(signal), Asker::kSignal, by);
}

void CoordinatorProcess::RequestStop(StopKind kind, Asker asker, const std::string& by) {
  if (!stop_requests_.Ask(asker)) return;
  // Only output is left to write, and nobody wants to wait for it.
  if (judgement_) return End();
  stopping_ = true;
  if (coordinator_ != nullptr) coordinator_->RequestStop(kind, by);
}

void CoordinatorProcess::EndNow(StopKind kind) {
  stopping_ = true;
  for (int i = 0; i < 2 && coordinator_ != nullptr; ++i) coordinator_->RequestStop(kind);
}

// Before anybody is ended: who is where?
void CoordinatorProcess::OnTimeLimit() {
  if (judgement_ || stopping_) return;
  std::set<uint32_t> nodes;
  const bool runs = coordinator_->membership().state() == State::kRunning;
  for (const v1::Node& node : coordinator_->membership().members().nodes()) {
    if (runs && node.node() < agents_->nodes() && agents_->has_session(node.node())) nodes.insert(node.node());
  }
  v1::CoordinatorMessage question = Message();
  question.mutable_rank_states_request();
  inquiry_.emplace(loop_.get());
  inquiry_->Start(
      nodes, kRankStatesPatience, [&](uint32_t node) { server_->Send(node, question); },
      [this](std::vector<v1::RankState> states) {
        if (judgement_) return;
        stopping_ = true;
        coordinator_->RequestStop(StopKind::kTimeout, "", std::move(states));
      });
}

void CoordinatorProcess::SendSignal(const v1::Signal& signal) {
  if (server_ == nullptr) return;
  v1::CoordinatorMessage message = Message();
  *message.mutable_signal() = signal;
  SendToAll(message);
}

void CoordinatorProcess::Report(v1::CoordinatorReport report) {
  if (link_ != nullptr) link_->Send(report);
}

// A line for the person who runs the job.
void CoordinatorProcess::Tell(const std::string& note) {
  if (!is_attached()) return Log(LogLevel::kWarning, note);
  v1::CoordinatorReport report;
  report.mutable_note()->set_text(note);
  Report(std::move(report));
}

// --- Agents ---

v1::CoordinatorMessage CoordinatorProcess::Message() const {
  v1::CoordinatorMessage message;
  message.set_job_id(launch_.job_id());
  message.set_generation(coordinator_->membership().generation());
  message.set_incarnation(coordinator_->membership().incarnation());
  return message;
}

void CoordinatorProcess::SendToAll(const v1::CoordinatorMessage& message) {
  for (uint32_t node = 0; node < agents_->nodes(); ++node) {
    if (agents_->has_session(node)) server_->Send(node, message);
  }
}

void CoordinatorProcess::OnAgent(uint32_t node, v1::AgentMessage message) {
  if (node >= agents_->nodes()) return;
  switch (message.kind_case()) {
    case v1::AgentMessage::kOutput:
      output_->Write(message.output());
      if (output_->reader_gone() && !stopping_ && !judgement_) {
        Fail(kExitBrokenPipe, "broken pipe", "the reader of muster's stdout has gone, so the job was ended");
        RequestStop(StopKind::kTerminate, Asker::kMuster, "");
      }
      return;
    case v1::AgentMessage::kStopAsked: {
      if (judgement_ || stop_requests_.has_asked(Asker::kBatchSystem)) return;  // one request, whoever passes it on
      const int signal = static_cast<int>(message.stop_asked().signal());
      return RequestStop(KindOf(signal), Asker::kBatchSystem, absl::StrCat("the batch system, on node ", node));
    }
    case v1::AgentMessage::kRankStates:
      if (inquiry_) inquiry_->Answered(node, message.rank_states());
      return;
    case v1::AgentMessage::kInputTaken:
      return input_->Taken(node, message.input_taken());
    case v1::AgentMessage::kOutputReady:
      if (message.output_ready().why_not().empty() || judgement_) break;
      Fail(kExitCannotWrite, "cannot write output", message.output_ready().why_not());
      return RequestStop(StopKind::kTerminate, Asker::kMuster, "");
    case v1::AgentMessage::kJoin:
      agents_->SessionBegan(node);
      if (output_->holding()) {
        v1::CoordinatorMessage hold = Message();
        hold.mutable_hold_output()->set_hold(true);
        server_->Send(node, std::move(hold));
      }
      return TakeJoin(node, std::move(message));
    case v1::AgentMessage::kReady:
      agents_->Ready(node);
      OnReady(message);
      break;
    default:
      break;
  }
  coordinator_->OnMessage(node, std::move(message));
}

// A node that gets no worker takes no part: its agent's session stands idle until it is ended.
void CoordinatorProcess::TakeJoin(uint32_t node, v1::AgentMessage message) {
  if (slots_->open()) {
    if (slots_->Hold(node, std::move(message))) FillHosts();
    return;
  }
  slots_->Learn(node, message.join());
  if (message.join().slots() == 0) message.mutable_join()->set_slots(slots_->of(node));
  if (slots_->of(node) > 0) coordinator_->OnMessage(node, std::move(message));
}

// All agents have joined and said how many cores they have: those are the slots of hosts whose slots nobody has listed.
void CoordinatorProcess::FillHosts() {
  if (const absl::Status filled = slots_->Fill(); !filled.ok()) {
    Fail(kExitUnavailable, "not enough slots", std::string(filled.message()));
    return RequestStop(StopKind::kTerminate, Asker::kMuster, "");
  }
  for (auto& [node, join] : slots_->TakeHeld()) {
    if (slots_->of(node) > 0 || node >= slots_->needed()) {
      TakeJoin(node, std::move(join));
      continue;
    }
    agents_->Release(node);
    coordinator_->FewerHopedFor(0, node);
    server_->Drop(node);
    starter_->End(node);
  }
}

void CoordinatorProcess::OnReady(const v1::AgentMessage& message) {
  if (message.generation() != ready_generation_) ready_.clear();
  ready_generation_ = message.generation();
  ready_[message.ready().places_size() > 0 ? message.ready().places(0).node() : 0] =
      static_cast<uint32_t>(message.ready().places_size());
  v1::CoordinatorReport report;
  for (const auto& [node, workers] : ready_) {
    report.mutable_progress()->set_started(report.progress().started() + workers);
  }
  report.mutable_progress()->set_workers(launch_.workers());
  Report(std::move(report));
}

void CoordinatorProcess::OnSessionLost(uint32_t node, const std::string& why) {
  if (node >= agents_->nodes()) return;
  agents_->SessionOver(node);
  input_->Lost(node);
  if (!slots_->LetGo(node)) coordinator_->AgentLost(node, why);
  // Its process may have gone with it, which nobody sees; whoever starts another needs a ticket.
  if (!starter_->sees_ends(node)) agents_->Replace(node);
}

void CoordinatorProcess::OnAgentEnded(uint32_t node, const std::string& why) {
  agents_->NoteEnd(node, why);
  if (agents_->SessionOver(node)) {
    server_->Drop(node);
    input_->Lost(node);
    if (!slots_->LetGo(node)) coordinator_->AgentLost(node, AgentEndText(why));
  }
  agents_->Replace(node);
}

absl::Status CoordinatorProcess::StartAgent(uint32_t node, absl::Duration ticket_good_for) {
  return starter_->Start(node, CoordinatorPlace(), ToText(authority_->MakeTicket(node, ticket_good_for)));
}

AgentKeeper::Want CoordinatorProcess::WantOfAgents() const {
  if (judgement_ || stopping_) return AgentKeeper::Want::kNo;
  const State now = coordinator_->membership().state();
  const bool undecided = now == State::kSettling || now == State::kQuiescing || now == State::kConcluding;
  return undecided ? AgentKeeper::Want::kUndecided : AgentKeeper::Want::kYes;
}

void CoordinatorProcess::LookForSilence() {
  // Who was stopped itself has heard nobody, and reads what was said meanwhile only after this.
  const int64_t last_ns = std::exchange(looked_for_silence_ns_, MonotonicNanoseconds());
  const bool was_away = looked_for_silence_ns_ - last_ns > absl::ToInt64Nanoseconds(kSilenceToTell);
  loop_->After(kSilenceCheck, [this] { LookForSilence(); });
  if (was_away && last_ns != 0) return;
  for (uint32_t node = 0; node < agents_->nodes(); ++node) {
    const absl::Duration silence = server_->SilentFor(node);
    if (silence < kSilenceToTell || silence == absl::InfiniteDuration()) continue;
    coordinator_->AgentSilent(node, silence);
    // Stopped, or stuck: another in its place is of more use than its return.
    if (silence >= kSilenceToReplace && coordinator_->membership().state() == State::kForming) starter_->End(node);
  }
}

// --- The job ---

void CoordinatorProcess::OnRestarting(const Judgement& why) {
  Tell(RestartNote(why, coordinator_->membership(), launch_.workers(), launch_.workers_min(), launch_.max_restarts()));
}

void CoordinatorProcess::OnHappened(const v1::JobEvent& event) {
  reporter_->Happened(event);
  const Membership& membership = coordinator_->membership();
  if (membership.state() != State::kRunning) return input_->Pause();
  input_->Running(membership.generation(), ReaderNodes(launch_.job().standard_input(), membership.members()));
  LetGoOfCommand();
}

void CoordinatorProcess::LetGoOfCommand() {
  if (!launch_.detached() || link_ == nullptr) return;
  v1::CoordinatorReport report;
  report.mutable_progress()->set_started(launch_.workers());
  report.mutable_progress()->set_workers(launch_.workers());
  link_->Send(report);
  link_->WhenSent([this] { link_.reset(); });
}

void CoordinatorProcess::Fail(int exit_code, std::string failure_class, std::string sentence) {
  v1::Verdict& verdict = override_.emplace();
  verdict.set_exit_code(exit_code);
  verdict.set_origin("muster");
  verdict.set_failure_class(std::move(failure_class));
  verdict.set_sentence(std::move(sentence));
  verdict.set_rank(-1);
  verdict.set_host(host_);
  verdict.set_committed_step(coordinator_ != nullptr ? coordinator_->membership().committed_step() : -1);
}

void CoordinatorProcess::OnFinished(const Judgement& judgement) {
  if (judgement_) return;
  judgement_ = judgement;
  if (override_) judgement_->verdict = *override_;
  if (reporter_ != nullptr) reporter_->Finished();
  // One that goes by itself may still give its workers their time.
  agents_deadline_ns_ = MonotonicNanoseconds() + absl::ToInt64Nanoseconds(std::max(kAgentsGo, KillGraceOf(launch_)));
  WaitForAgents();
}

// They end by themselves: each has said that nothing of it runs any more.
void CoordinatorProcess::WaitForAgents() {
  if (ending_) return;
  const bool sessions = agents_ != nullptr && agents_->any_session();
  if (server_ == nullptr || (starter_->running() == 0 && !sessions) || MonotonicNanoseconds() > agents_deadline_ns_) {
    if (starter_ != nullptr) starter_->EndAll();
    if (output_ == nullptr) return End();
    if (command_died_) loop_->After(kLastOutput, [this] { End(); });
    return output_->Flush([this] { End(); });
  }
  loop_->After(absl::Milliseconds(2), [this] { WaitForAgents(); });
}

JobResult CoordinatorProcess::Result() const {
  JobResult result;
  result.judgement = *judgement_;
  result.job_id = absl::BytesToHexString(launch_.job_id());
  result.command.assign(launch_.job().command().begin(), launch_.job().command().end());
  result.host = host_;
  result.workers = launch_.workers();
  result.started = started_;
  result.seconds = absl::ToDoubleSeconds(absl::Now() - started_);
  if (output_ != nullptr) result.lines_dropped = output_->lines_dropped();
  if (coordinator_ != nullptr) TakeMembership(coordinator_->membership(), &result);
  v1::Verdict& verdict = result.judgement.verdict;
  if (output_ != nullptr && output_->write_failed() && verdict.exit_code() == kExitOk) {
    // The job is done, but whoever wants its output must not believe it whole.
    verdict.set_exit_code(kExitCannotWrite);
    verdict.set_origin("muster");
    verdict.set_failure_class("cannot write output");
    verdict.set_sentence("all workers ended with 0, but some of their output could not be written");
  }
  return result;
}

void CoordinatorProcess::End() {
  if (std::exchange(ending_, true)) return;
  if (starter_ != nullptr) starter_->EndAll();
  const JobResult result = Result();
  const v1::Verdict& verdict = result.judgement.verdict;
  exit_code_ = verdict.exit_code();
  const std::string json = ReportJson(result);
  if (job_folder_ != nullptr) {
    const absl::Status kept = WriteFile(job_folder_->path() + "/verdict.json", json);
    if (!kept.ok() && exit_code_ != kExitCannotWrite) {
      Log(LogLevel::kWarning, absl::StrCat("cannot keep the verdict: ", kept.message()));
    }
  }
  if (link_ == nullptr) {
    if (!verdict.sentence().empty() && exit_code_ != kExitBrokenPipe && !command_died_)
      Log(LogLevel::kError, verdict.sentence());
    return loop_->Quit();
  }
  v1::CoordinatorReport report;
  *report.mutable_outcome()->mutable_verdict() = verdict;
  report.mutable_outcome()->set_report_json(json);
  link_->Send(report);
  link_->WhenSent([this] { loop_->Quit(); });
}

}  // namespace muster
