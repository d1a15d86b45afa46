#include "launcher/process/coordinator_process.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "launcher/hosts/host_slots.h"
#include "launcher/job/write_file.h"
#include "launcher/process/endings.h"
#include "launcher/placement/place.h"
#include "launcher/process/exit_codes.h"
#include "launcher/process/seating.h"
#include "launcher/process/signal_watch.h"
#include "launcher/starter/local_starter.h"
#include "launcher/starter/slurm_starter.h"
#include "launcher/starter/ssh_starter.h"
#include "launcher/starter/ticket_files.h"
#include "proto/muster/v1/control_memory.h"
#include "runtime/base/clock.h"
#include "runtime/base/log.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

using membership::State;

constexpr absl::Duration kSilenceCheck = absl::Seconds(1);
constexpr absl::Duration kSilenceToTell = absl::Seconds(3);
constexpr absl::Duration kSilenceToReplace = absl::Seconds(10);       // an agent of this machine that holds up a restart
constexpr absl::Duration kStartAgainFirst = absl::Milliseconds(100);  // doubled with each start in vain
constexpr absl::Duration kStartAgainLast = absl::Seconds(5);
constexpr absl::Duration kLookAgain = absl::Milliseconds(20);
constexpr uint32_t kStartsInVainMax = 3;
constexpr absl::Duration kOthersFail = absl::Seconds(3);  // from the first host that cannot be had
constexpr absl::Duration kAgentsGo = absl::Seconds(5);    // to end by themselves when the job is over
constexpr absl::Duration kLastOutput = absl::Seconds(2);  // when the command has died
constexpr absl::Duration kTicketForChild = absl::Minutes(10);  // many logins wait for each other
constexpr absl::Duration kTicketForPerson = absl::Hours(24);

std::string HostName() {
  char name[HOST_NAME_MAX + 1] = {};
  return ::gethostname(name, sizeof name - 1) == 0 ? name : "localhost";
}

std::string RandomBytes(size_t bytes) {
  std::string text(bytes, '\0');
  MUSTER_CHECK(::getentropy(text.data(), bytes) == 0, "getentropy");
  return text;
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

LocalStarterOptions::Network NetworkOf(v1::Launch::NodeNetwork network) {
  switch (network) {
    case v1::Launch::NAMESPACES:
      return LocalStarterOptions::Network::kNamespaces;
    case v1::Launch::HOST:
      return LocalStarterOptions::Network::kHost;
    default:
      return LocalStarterOptions::Network::kAuto;
  }
}

// Starters say "killed by SIGKILL" of an agent's process, or a sentence.
std::string SubjectOf(const std::string& why) {
  if (absl::StartsWith(why, "killed by ")) return "its process was ";
  return absl::StartsWith(why, "exited with ") ? "its process " : "";
}

absl::Status CheckLaunch(const v1::Launch& launch) {
  if (launch.job_id().size() != 16 || launch.job().command().empty() || launch.workers() == 0 || launch.nodes() == 0 ||
      launch.nodes() > launch.workers() || launch.workers_min() > launch.workers() || launch.job_folder().empty()) {
    return absl::InvalidArgumentError("the command's Launch is not complete; install both from one build");
  }
  uint64_t of_applications = 0;
  for (const v1::Application& one : launch.job().applications()) {
    of_applications += one.workers();
    if (one.command().empty() || one.workers() == 0) of_applications = ~uint64_t{0} >> 1;
  }
  if (launch.job().applications_size() > 0 && of_applications != launch.workers()) {
    return absl::InvalidArgumentError("the command's programs do not add up to its workers; install both from one build");
  }
  if (launch.hosts().empty()) return absl::OkStatus();
  uint64_t slots = 0;
  uint32_t open = 0;
  bool named = true;
  for (const v1::LaunchHost& host : launch.hosts()) {
    slots += host.slots();
    open += host.slots() == 0 ? 1 : 0;
    named = named && !host.name().empty();
  }
  const bool fits = open == 0 ? slots == launch.workers() : open == launch.nodes();
  if (static_cast<uint32_t>(launch.hosts_size()) != launch.nodes() || !fits || !named) {
    return absl::InvalidArgumentError(absl::StrCat("the command's Launch has ", launch.hosts_size(), " hosts with ", slots,
                                                   " slots for ", launch.nodes(), " nodes and ", launch.workers(),
                                                   " workers; install both from one build"));
  }
  return absl::OkStatus();
}

// Where a pattern (ppr:N:OBJECT) fills the nodes of this machine one after the other; empty: there is none, or this machine cannot
// be read, which its agents will say.
std::vector<uint32_t> SlotsOfPattern(const v1::Launch& launch) {
  const auto policy = PolicyOf(launch.job().placement());
  if (!policy.ok() || policy->per_object == 0) return {};
  const auto machine = Topology::Discover();
  if (!machine.ok()) return {};
  return DefaultSlots(*policy, launch.workers(), launch.nodes(), *machine);
}

// How many workers each node holds: what the host list says, else as even as can be.
std::vector<uint32_t> SlotsOf(const v1::Launch& launch) {
  if (launch.hosts().empty() && launch.starter() == v1::Launch::LOCAL && launch.job().has_placement()) {
    if (std::vector<uint32_t> slots = SlotsOfPattern(launch); !slots.empty()) return slots;
  }
  if (launch.hosts().empty()) return SpreadSlots(launch.workers(), launch.nodes());
  std::vector<uint32_t> slots;
  for (const v1::LaunchHost& host : launch.hosts()) slots.push_back(host.slots());
  return slots;
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
  for (NodeState& node : nodes_) {
    if (node.timer) loop_->Cancel(*node.timer);
  }
  starter_.reset();
  server_.reset();
}

int CoordinatorProcess::Run() {
  loop_->Run();
  return exit_code_;
}

absl::Status CoordinatorProcess::TakeSignals() {
  MUSTER_ASSIGN_OR_RETURN(signals_, WatchEndingSignals(loop_.get(), [this](int signal, const std::string& by) { OnSignal(signal, by); }));
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
  slots_ = SlotsOf(launch_);
  slots_open_ = std::count(slots_.begin(), slots_.end(), 0u) > 0;
  nodes_.resize(launch_.nodes());
  MUSTER_RETURN_IF_ERROR(MakeStarter());  // first: it may move us into a network of our own
  OutputWriterOptions output;
  output.attached = !launch_.detached();
  output.job_folder = job_folder_->path();
  output.workers = launch_.workers();
  MUSTER_ASSIGN_OR_RETURN(output_, OutputWriter::Create(loop_.get(), output, [this](bool hold) {
                            v1::CoordinatorMessage message = Message();
                            message.mutable_hold_output()->set_hold(hold);
                            SendToAll(message);
                          }));
  MUSTER_RETURN_IF_ERROR(MakeCoordinator());
  MUSTER_RETURN_IF_ERROR(MakeServer());
  input_ = std::make_unique<InputRelay>(InputRelay::Callbacks{[this](const v1::Input& input) {
                                                                v1::CoordinatorMessage message = Message();
                                                                *message.mutable_input() = input;
                                                                for (const v1::Place& place :
                                                                     coordinator_->membership().members().places()) {
                                                                  if (place.rank() == 0) server_->Send(place.node(), message);
                                                                }
                                                              },
                                                              [this] {
                                                                v1::CoordinatorReport report;
                                                                report.mutable_input_taken();
                                                                Report(std::move(report));
                                                              }});
  if (!is_attached() || launch_.detached()) {
    v1::Input end;
    end.set_end(true);
    input_->Offer(std::move(end));
  }
  if (launch_.timeout_seconds() > 0) {
    loop_->After(absl::Seconds(launch_.timeout_seconds()), [this] { OnTimeLimit(); });
  }
  for (uint32_t node = 0; node < launch_.nodes(); ++node) StartAgent(node);
  loop_->After(kSilenceCheck, [this] { LookForSilence(); });
  return absl::OkStatus();
}

absl::Status CoordinatorProcess::MakeStarter() {
  const auto say = [](const std::string& line) { Log(LogLevel::kWarning, line); };
  Starter::Callbacks callbacks;
  callbacks.ended = [this](uint32_t node, const std::string& why) { OnAgentEnded(node, why); };
  callbacks.hopeless = [this](uint32_t node, const std::string& why) {
    nodes_[node].last_end = why;
    GiveUp(node, why);
  };
  switch (launch_.starter()) {
    case v1::Launch::NONE: {
      const std::string listen = launch_.listen().empty() ? "0.0.0.0" : launch_.listen();
      starter_ = std::make_unique<TicketFiles>(job_folder_->path(), listen, say);
      return absl::OkStatus();
    }
    case v1::Launch::SSH:
      return MakeSshStarter(std::move(callbacks));
    case v1::Launch::SLURM:
      return MakeSlurmStarter(std::move(callbacks));
    case v1::Launch::LOCAL:
      break;
    default:
      return absl::InvalidArgumentError(absl::StrCat("this version of muster has no starter ",
                                                     v1::Launch::Starter_Name(launch_.starter()),
                                                     "; use --starter local, or start agents by hand with muster coordinator"));
  }
  LocalStarterOptions local;
  local.nodes = launch_.nodes();
  for (const v1::LaunchHost& host : launch_.hosts()) local.host_names.push_back(host.name());
  local.network = NetworkOf(launch_.node_network());
  local.program = launch_.agent_program();
  const double orphan_seconds =
      launch_.ending().orphan_after_ms() > 0 ? static_cast<double>(launch_.ending().orphan_after_ms()) / 1e3 : kLocalOrphanSeconds;
  local.arguments = {"--orphan-after", absl::StrCat(orphan_seconds)};
  if (!launch_.temporary_folder().empty()) {
    local.arguments.insert(local.arguments.end(), {"--temporary-folder", launch_.temporary_folder()});
  }
  if (launch_.verbose()) local.arguments.push_back("--verbose");
  MUSTER_ASSIGN_OR_RETURN(starter_, LocalStarter::Create(loop_.get(), std::move(local), std::move(callbacks), say));
  return absl::OkStatus();
}

absl::Status CoordinatorProcess::MakeSshStarter(Starter::Callbacks callbacks) {
  SshStarterOptions ssh;
  for (const v1::LaunchHost& host : launch_.hosts()) ssh.hosts.push_back({host.name(), host.user(), host.is_here()});
  if (ssh.hosts.empty()) return absl::InvalidArgumentError("--starter ssh needs hosts: name them with -H or --hostfile");
  ssh.ssh = launch_.ssh();
  ssh.program = launch_.agent_program();
  ssh.listen = launch_.listen();
  if (launch_.ending().orphan_after_ms() > 0) {
    ssh.arguments.insert(ssh.arguments.end(),
                         {"--orphan-after", absl::StrCat(static_cast<double>(launch_.ending().orphan_after_ms()) / 1e3)});
  }
  if (launch_.ssh().home_if_no_folder()) ssh.arguments.push_back("--home-if-no-folder");
  if (launch_.verbose()) ssh.arguments.push_back("--verbose");
  const auto say = [](const std::string& line) {
    const std::string text = line + "\n";  // an agent's, which says whose it is
    [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, text.data(), text.size());
  };
  MUSTER_ASSIGN_OR_RETURN(starter_, SshStarter::Create(loop_.get(), std::move(ssh), std::move(callbacks), say));
  return absl::OkStatus();
}

absl::Status CoordinatorProcess::MakeSlurmStarter(Starter::Callbacks callbacks) {
  SlurmStarterOptions slurm;
  for (const v1::LaunchHost& host : launch_.hosts()) slurm.hosts.push_back(host.name());
  if (slurm.hosts.empty()) return absl::InvalidArgumentError("--starter slurm needs the nodes of an allocation; begin with salloc or sbatch");
  slurm.remote_muster = launch_.ssh().remote_muster();
  slurm.program = launch_.agent_program();
  slurm.listen = launch_.listen();
  if (launch_.ending().orphan_after_ms() > 0) {
    slurm.arguments.insert(slurm.arguments.end(),
                           {"--orphan-after", absl::StrCat(static_cast<double>(launch_.ending().orphan_after_ms()) / 1e3)});
  }
  if (launch_.ssh().home_if_no_folder()) slurm.arguments.push_back("--home-if-no-folder");
  if (launch_.verbose()) slurm.arguments.push_back("--verbose");
  const auto say = [](const std::string& line) {
    const std::string text = line + "\n";  // an agent's, which says whose it is
    [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, text.data(), text.size());
  };
  MUSTER_ASSIGN_OR_RETURN(starter_, SlurmStarter::Create(loop_.get(), std::move(slurm), std::move(callbacks), say));
  return absl::OkStatus();
}

absl::Status CoordinatorProcess::MakeCoordinator() {
  CoordinatorOptions options;
  membership::Options& rules = options.membership;
  rules.job_id = launch_.job_id();
  rules.command = launch_.job().command(0);
  rules.job = launch_.job();
  rules.workers = launch_.workers();
  for (const v1::Application& one : launch_.job().applications()) rules.applications.push_back({one.workers(), one.command(0)});
  if (launch_.job().has_placement()) {
    MUSTER_ASSIGN_OR_RETURN(rules.place, MakePlaceFunction(launch_.job().placement()));
  }
  rules.workers_min = launch_.workers_min();
  rules.max_restarts = launch_.max_restarts();
  if (launch_.last_call_ms() > 0) rules.last_call = absl::Milliseconds(launch_.last_call_ms());
  rules.user_grace = KillGrace();
  rules.failure_grace =
      launch_.ending().failure_grace_ms() > 0 ? absl::Milliseconds(launch_.ending().failure_grace_ms()) : kFailureGrace;
  rules.stop_signal = static_cast<int>(launch_.job().ending().stop_signal());
  rules.random_bytes = RandomBytes;
  rules.timeout_text = absl::StrFormat("--timeout %g", launch_.timeout_seconds());
  options.record_folder = job_folder_->path();
  Coordinator::Callbacks callbacks;
  callbacks.send = [this](uint32_t node, const v1::CoordinatorMessage& message) { server_->Send(node, message); };
  callbacks.finished = [this](const Judgement& judgement) { OnFinished(judgement); };
  callbacks.restarting = [this](const Judgement& why, uint64_t, uint32_t) { OnRestarting(why); };
  callbacks.happened = [this](const v1::JobEvent& event) { OnHappened(event); };
  callbacks.placed = [this](const std::vector<std::string>& lines) { OnPlaced(lines); };
  callbacks.log = [](LogLevel level, const std::string& line) { Log(level, line); };
  MUSTER_ASSIGN_OR_RETURN(coordinator_, Coordinator::Create(loop_.get(), std::move(options), std::move(callbacks)));

  JobStatus status;
  status.job_id = absl::BytesToHexString(launch_.job_id());
  status.command = launch_.text();
  status.name = launch_.name();
  status.launched_from = host_;
  status.workers = launch_.workers();
  status.workers_min = launch_.workers_min() > 0 ? launch_.workers_min() : launch_.workers();
  status.nodes_wanted = launch_.nodes();
  status.detached = launch_.detached();
  status.max_restarts = launch_.max_restarts();
  status.checkpoint_path = launch_.job().checkpoint().path();
  reporter_ = std::make_unique<JobReporter>(loop_.get(), job_folder_->path(), std::move(status), &coordinator_->membership());
  return absl::OkStatus();
}

absl::Status CoordinatorProcess::MakeServer() {
  MUSTER_ASSIGN_OR_RETURN(authority_, Authority::Create(launch_.job_id()));
  AgentServerOptions options;
  options.job_id = launch_.job_id();
  options.listen = starter_->listen_address();
  options.port = static_cast<uint16_t>(launch_.port());
  options.authority = authority_.get();
  AgentServer::Callbacks callbacks;
  callbacks.message = [this](uint32_t node, v1::AgentMessage message) { OnAgent(node, std::move(message)); };
  callbacks.lost = [this](uint32_t node, const std::string& why) { OnSessionLost(node, why); };
  callbacks.refused = [this](const ServerRefusal& refusal) { coordinator_->TurnedAway(refusal.what, refusal.from); };
  callbacks.log = [](LogLevel level, const std::string& line) { Log(level, line); };
  MUSTER_ASSIGN_OR_RETURN(server_, AgentServer::Create(loop_.get(), std::move(options), std::move(callbacks)));
  return absl::OkStatus();
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
  Fail(kExitHangUp, "command gone", "the command that the job was attached to has gone, so the job was ended");
  EndNow(StopKind::kHangup);
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

// A batch system sends its SIGTERM to every process of a job: what comes once by the command and once as a signal is one request.
void CoordinatorProcess::RequestStop(StopKind kind, Asker asker, const std::string& by) {
  const auto has_asked = [this](Asker one) { return asked_[static_cast<size_t>(one)]; };
  const bool known = has_asked(Asker::kCommand) || has_asked(Asker::kSignal) || has_asked(Asker::kBatchSystem);
  const bool again = std::exchange(asked_[static_cast<size_t>(asker)], true);
  if (asker != Asker::kMuster && !again && known) return;
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
    if (runs && node.node() < nodes_.size() && nodes_[node.node()].has_session) nodes.insert(node.node());
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

absl::Duration CoordinatorProcess::KillGrace() const {
  const uint32_t said_ms = launch_.job().ending().kill_grace_ms();
  return said_ms > 0 ? absl::Milliseconds(said_ms) : kKillGrace;
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

// --- Agents ---

v1::CoordinatorMessage CoordinatorProcess::Message() const {
  v1::CoordinatorMessage message;
  message.set_job_id(launch_.job_id());
  message.set_generation(coordinator_->membership().generation());
  message.set_incarnation(coordinator_->membership().incarnation());
  return message;
}

void CoordinatorProcess::SendToAll(const v1::CoordinatorMessage& message) {
  for (uint32_t node = 0; node < nodes_.size(); ++node) {
    if (nodes_[node].has_session) server_->Send(node, message);
  }
}

void CoordinatorProcess::OnAgent(uint32_t node, v1::AgentMessage message) {
  if (node >= nodes_.size()) return;
  switch (message.kind_case()) {
    case v1::AgentMessage::kOutput:
      output_->Write(message.output());
      if (output_->reader_gone() && !stopping_ && !judgement_) {
        Fail(kExitBrokenPipe, "broken pipe", "the reader of muster's stdout has gone, so the job was ended");
        RequestStop(StopKind::kTerminate, Asker::kMuster, "");
      }
      return;
    case v1::AgentMessage::kStopAsked: {
      if (judgement_ || asked_[static_cast<size_t>(Asker::kBatchSystem)]) return;  // one request, whoever passes it on
      const int signal = static_cast<int>(message.stop_asked().signal());
      return RequestStop(KindOf(signal), Asker::kBatchSystem,
                         absl::StrCat("the batch system, on node ", node));
    }
    case v1::AgentMessage::kRankStates:
      if (inquiry_) inquiry_->Answered(node, message.rank_states());
      return;
    case v1::AgentMessage::kInputTaken:
      return input_->Taken(message.input_taken());
    case v1::AgentMessage::kJoin:
      nodes_[node].has_session = true;
      if (output_->holding()) {
        v1::CoordinatorMessage hold = Message();
        hold.mutable_hold_output()->set_hold(true);
        server_->Send(node, std::move(hold));
      }
      return TakeJoin(node, std::move(message));
    case v1::AgentMessage::kReady:
      nodes_[node].starts_in_vain = 0;
      OnReady(message);
      break;
    default:
      break;
  }
  coordinator_->OnMessage(node, std::move(message));
}

// A node that gets no worker takes no part: its agent's session stands idle until it is ended.
void CoordinatorProcess::TakeJoin(uint32_t node, v1::AgentMessage message) {
  if (slots_open_) {
    joins_held_[node] = std::move(message);
    if (joins_held_.size() == nodes_.size()) FillHosts();
    return;
  }
  if (message.join().slots() == 0) message.mutable_join()->set_slots(slots_[node]);
  if (slots_[node] > 0) coordinator_->OnMessage(node, std::move(message));
}

// All agents have joined and said how many cores they have: those are the slots of hosts whose slots nobody has listed.
void CoordinatorProcess::FillHosts() {
  std::vector<Host> hosts;
  for (uint32_t node = 0; node < nodes_.size(); ++node) {
    const v1::LaunchHost& listed = launch_.hosts(static_cast<int>(node));
    const uint32_t cores = std::clamp<uint32_t>(joins_held_.at(node).join().usable_cores(), 1, v1::kLocalRanksMax);
    Host& host = hosts.emplace_back();
    host.name = listed.name();
    host.slots = listed.slots_listed() > 0 ? listed.slots_listed() : cores;
    host.slots_given = true;
    host.slots_max = listed.slots_max() > 0 ? listed.slots_max() : v1::kLocalRanksMax;
  }
  const auto shares = FillBySlot(hosts, {.workers = launch_.workers(), .oversubscribe = launch_.oversubscribe()});
  if (!shares.ok()) {
    Fail(kExitUnavailable, "not enough slots", std::string(shares.status().message()));
    return RequestStop(StopKind::kTerminate, Asker::kMuster, "");
  }
  slots_open_ = false;
  size_t next = 0;
  for (uint32_t node = 0; node < nodes_.size(); ++node) {
    const bool used = next < shares->size() && (*shares)[next].host.name == hosts[node].name;
    slots_[node] = used ? static_cast<uint32_t>((*shares)[next++].workers) : 0;
  }
  std::map<uint32_t, v1::AgentMessage> joins = std::exchange(joins_held_, {});
  for (auto& [node, join] : joins) {
    if (slots_[node] > 0) {
      TakeJoin(node, std::move(join));
      continue;
    }
    nodes_[node].given_up = true;
    nodes_[node].has_session = false;
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
  if (node >= nodes_.size()) return;
  nodes_[node].has_session = false;
  if (joins_held_.erase(node) == 0) coordinator_->AgentLost(node, why);
  // Its process may have gone with it, which nobody sees; whoever starts another needs a ticket.
  if (!starter_->sees_ends(node)) StartAgentLater(node);
}

void CoordinatorProcess::OnAgentEnded(uint32_t node, const std::string& why) {
  nodes_[node].last_end = why;
  if (std::exchange(nodes_[node].has_session, false)) {
    server_->Drop(node);
    const bool held = joins_held_.erase(node) > 0;
    if (!held) coordinator_->AgentLost(node, absl::StrCat(SubjectOf(why), why));
  }
  StartAgentLater(node);
}

void CoordinatorProcess::StartAgent(uint32_t node) {
  const absl::Duration good_for = starter_->sees_ends(node) ? kTicketForChild : kTicketForPerson;
  const JoinTicket ticket = authority_->MakeTicket(node, good_for);
  ++nodes_[node].starts_in_vain;
  const absl::Status started = starter_->Start(node, CoordinatorPlace(), ToText(ticket));
  if (started.ok()) return;
  nodes_[node].last_end = std::string(started.message());
  StartAgentLater(node);
}

// An agent whose job goes on is started again, unless it ends again and again before it could do anything.
void CoordinatorProcess::StartAgentLater(uint32_t node) {
  NodeState& state = nodes_[node];
  if (judgement_ || stopping_ || state.given_up || state.timer) return;
  if (starter_->sees_ends(node) && state.starts_in_vain >= kStartsInVainMax) {
    return GiveUp(node, absl::StrCat("the agent of ", NodeText(node), " was started ", state.starts_in_vain,
                                     " times in vain; the last time ", SubjectOf(state.last_end), state.last_end));
  }
  const absl::Duration delay = kStartAgainFirst * (1 << std::min(state.starts_in_vain, 10u));
  state.timer = loop_->After(std::min(delay, kStartAgainLast), [this, node] {
    nodes_[node].timer.reset();
    if (judgement_ || stopping_) return;
    const State now = coordinator_->membership().state();
    if (now == State::kSettling || now == State::kQuiescing || now == State::kConcluding) {
      // Whether the job goes on is being found out.
      nodes_[node].timer = loop_->After(kLookAgain, [this, node] {
        nodes_[node].timer.reset();
        StartAgentLater(node);
      });
    } else {
      StartAgent(node);
    }
  });
}

void CoordinatorProcess::GiveUp(uint32_t node, const std::string& why) {
  NodeState& state = nodes_[node];
  if (judgement_ || stopping_ || state.given_up) return;
  state.given_up = true;
  uint32_t slots = 0;
  for (uint32_t other = 0; other < nodes_.size(); ++other) slots += nodes_[other].given_up ? 0 : slots_[other];
  if (slots >= (launch_.workers_min() > 0 ? launch_.workers_min() : launch_.workers())) {
    Log(LogLevel::kWarning, absl::StrCat(why, "; the job goes on without it"));
    uint32_t wanted = 0;
    for (const uint32_t one : slots_) wanted += one;
    return coordinator_->FewerHopedFor(wanted - slots);
  }
  reasons_.push_back(why);
  if (reasons_.size() > 1) return;
  // Who has several hosts to mend wants to know all of them.
  not_enough_deadline_ns_ = MonotonicNanoseconds() + absl::ToInt64Nanoseconds(kOthersFail);
  ConcludeNotEnough();
}

void CoordinatorProcess::ConcludeNotEnough() {
  if (judgement_ || stopping_) return;
  const bool undecided =
      std::any_of(nodes_.begin(), nodes_.end(), [](const NodeState& node) { return !node.given_up && !node.has_session; });
  if (undecided && MonotonicNanoseconds() < not_enough_deadline_ns_) {
    loop_->After(kLookAgain, [this] { ConcludeNotEnough(); });
    return;
  }
  constexpr size_t kTold = 5;
  for (size_t i = 1; i < std::min(reasons_.size(), kTold); ++i) Log(LogLevel::kError, reasons_[i]);
  std::string sentence = reasons_[0];
  if (reasons_.size() > kTold) {
    absl::StrAppend(&sentence, "; and ", reasons_.size() - kTold, " more hosts could not be started");
  }
  Fail(kExitUnavailable, "not enough nodes", sentence);
  RequestStop(StopKind::kTerminate, Asker::kMuster, "");
}

// "node 3", or its host's name.
std::string CoordinatorProcess::NodeText(uint32_t node) const {
  if (node < static_cast<uint32_t>(launch_.hosts_size())) return launch_.hosts(static_cast<int>(node)).name();
  return absl::StrCat("node ", node);
}

void CoordinatorProcess::LookForSilence() {
  // Who was stopped itself has heard nobody, and reads what was said meanwhile only after this.
  const int64_t last_ns = std::exchange(looked_for_silence_ns_, MonotonicNanoseconds());
  const bool was_away = looked_for_silence_ns_ - last_ns > absl::ToInt64Nanoseconds(kSilenceToTell);
  loop_->After(kSilenceCheck, [this] { LookForSilence(); });
  if (was_away && last_ns != 0) return;
  for (uint32_t node = 0; node < nodes_.size(); ++node) {
    const absl::Duration silence = server_->SilentFor(node);
    if (silence < kSilenceToTell || silence == absl::InfiniteDuration()) continue;
    coordinator_->AgentSilent(node, silence);
    // Stopped, or stuck: another in its place is of more use than its return.
    if (silence >= kSilenceToReplace && coordinator_->membership().state() == State::kForming) starter_->End(node);
  }
}

// --- The job ---

void CoordinatorProcess::OnRestarting(const Judgement& why) {
  const std::string note =
      RestartNote(why, coordinator_->membership(), launch_.workers(), launch_.workers_min(), launch_.max_restarts());
  if (is_attached()) {
    v1::CoordinatorReport report;
    report.mutable_note()->set_text(note);
    Report(std::move(report));
  } else {
    Log(LogLevel::kWarning, note);
  }
}

void CoordinatorProcess::OnPlaced(const std::vector<std::string>& lines) {
  for (const std::string& line : lines) {
    if (is_attached()) {
      v1::CoordinatorReport report;
      report.mutable_note()->set_text(line);
      Report(std::move(report));
    } else {
      Log(LogLevel::kWarning, line);
    }
  }
}

void CoordinatorProcess::OnHappened(const v1::JobEvent& event) {
  reporter_->Happened(event);
  const Membership& membership = coordinator_->membership();
  if (membership.state() != State::kRunning) return input_->Pause();
  input_->Running(membership.generation());
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
  agents_deadline_ns_ = MonotonicNanoseconds() + absl::ToInt64Nanoseconds(std::max(kAgentsGo, KillGrace()));
  WaitForAgents();
}

// They end by themselves: each has said that nothing of it runs any more.
void CoordinatorProcess::WaitForAgents() {
  if (ending_) return;
  const bool sessions = std::any_of(nodes_.begin(), nodes_.end(), [](const NodeState& node) { return node.has_session; });
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
