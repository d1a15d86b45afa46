#include "launcher/process/agent_process.h"

#include <errno.h>
#include <limits.h>
#include <netdb.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "launcher/discovery/node_devices.h"
#include "launcher/process/endings.h"
#include "launcher/process/exit_codes.h"
#include "launcher/process/nccl_decision.h"
#include "launcher/process/own_place.h"
#include "launcher/process/signal_watch.h"
#include "runtime/base/log.h"
#include "runtime/base/status.h"

namespace muster {
namespace {

// The coordinator's end of the stream holds as much again; more belongs into the workers' pipes.
constexpr size_t kOutputBytesMax = 4 << 20;
constexpr absl::Duration kLastWords = absl::Seconds(2);
constexpr absl::Duration kLookAfter = absl::Seconds(1);  // a stream that breaks is mostly back by then

std::string HostName() {
  char name[HOST_NAME_MAX + 1] = {};
  return ::gethostname(name, sizeof name - 1) == 0 ? name : "localhost";
}

// As the log sink writes it.
void SayError(const std::string& sentence) { Log(LogLevel::kError, sentence); }

}  // namespace

absl::StatusOr<std::string> AddressTowards(const std::string& coordinator) {
  const size_t colon = coordinator.rfind(':');
  if (colon == std::string::npos) return absl::InvalidArgumentError(absl::StrCat(coordinator, " is not HOST:PORT"));
  const std::string host(absl::StripSuffix(absl::StripPrefix(coordinator.substr(0, colon), "["), "]"));
  addrinfo hints = {};
  hints.ai_socktype = SOCK_DGRAM;
  addrinfo* found = nullptr;
  const int error = ::getaddrinfo(host.c_str(), coordinator.substr(colon + 1).c_str(), &hints, &found);
  if (error != 0) return absl::NotFoundError(absl::StrCat("no address of ", host, ": ", ::gai_strerror(error)));
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> owner(found, ::freeaddrinfo);
  int why = 0;
  for (const addrinfo* one = found; one != nullptr; one = one->ai_next) {
    // Nothing is sent: connecting a datagram socket only asks for the route.
    const UniqueFd socket(::socket(one->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_storage address = {};
    socklen_t length = sizeof address;
    char text[NI_MAXHOST];
    if (socket && ::connect(socket.get(), one->ai_addr, one->ai_addrlen) == 0 &&
        ::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &length) == 0 &&
        ::getnameinfo(reinterpret_cast<sockaddr*>(&address), length, text, sizeof text, nullptr, 0, NI_NUMERICHOST) == 0) {
      return std::string(text);
    }
    why = errno;
  }
  return absl::UnavailableError(absl::StrCat("no way to ", host, ": ", ErrnoToStatus(why, "connect").message()));
}

absl::StatusOr<std::unique_ptr<AgentProcess>> AgentProcess::Create(AgentProcessOptions options) {
  std::unique_ptr<AgentProcess> process(new AgentProcess(std::move(options)));
  process->coordinator_ = process->options_.coordinator;
  process->ticket_ = process->options_.ticket;
  process->host_ = process->options_.host.empty() ? HostName() : process->options_.host;
  MUSTER_ASSIGN_OR_RETURN(process->loop_, EventLoop::Create());
  MUSTER_RETURN_IF_ERROR(process->TakeSignals());  // before anything that may start a thread
  MUSTER_RETURN_IF_ERROR(process->WatchLine());
  MUSTER_RETURN_IF_ERROR(process->MakeAgent());
  MUSTER_RETURN_IF_ERROR(process->MakeClient());
  return process;
}

AgentProcess::~AgentProcess() {
  if (asker_.joinable()) asker_.join();
  agent_.reset();  // ends the workers
  client_.reset();
}

absl::Status AgentProcess::TakeSignals() {
  MUSTER_ASSIGN_OR_RETURN(signals_,
                          WatchEndingSignals(loop_.get(), [this](int signal, const std::string& by) { OnSignal(signal, by); }));
  return absl::OkStatus();
}

absl::Status AgentProcess::WatchLine() {
  const int line = options_.line.get();
  if (line < 0) return absl::OkStatus();
  // Nothing ever comes by it but its end.
  return loop_->Add(line, EPOLLIN, [this, line](uint32_t) {
    loop_->Remove(line);
    Fail(kExitUnavailable, absl::StrCat("whoever started this agent has gone, so the workers on ", host_, " were ended"));
  });
}

absl::Status AgentProcess::MakeAgent() {
  AgentOptions agent;
  agent.job_id = options_.ticket.job_id;
  agent.host = host_;
  agent.network = FindOwnPlace(options_.environment, host_);
  agent.devices = ToMessage(ReadNodeDevices());
  agent.address = options_.address;
  agent.slots = options_.slots;
  agent.orphan_after = absl::ZeroDuration();  // waited for here, over all streams
  agent.guard_path = options_.guard_path;
  agent.session_folder = options_.session_folder->path();
  agent.streams.fed_stdin = true;
  agent.take_job = [this](const v1::JobSpec& job, AgentOptions* taken) { return TakeJob(job, taken); };
  Agent::Callbacks callbacks;
  callbacks.send = [this](v1::AgentMessage message) { Send(std::move(message)); };
  callbacks.gone = [this](absl::Status status) { OnGone(status); };
  callbacks.log = [](LogLevel level, const std::string& line) { Log(level, line); };
  MUSTER_ASSIGN_OR_RETURN(agent_, Agent::Create(loop_.get(), std::move(agent), std::move(callbacks)));
  output_ = std::make_unique<OutputBatch>(loop_.get(), [this](v1::Output output) { SendOutput(std::move(output)); });
  return absl::OkStatus();
}

// mpirun's rule: a folder that nobody has chosen need not be on every host.
std::string AgentProcess::FolderHere(const std::string& wanted) const {
  struct stat folder;
  if (!options_.home_if_no_folder || ::stat(wanted.c_str(), &folder) == 0 || errno != ENOENT) return wanted;
  for (const std::string& setting : options_.environment) {
    absl::string_view home = setting;
    if (!absl::ConsumePrefix(&home, "HOME=") || home.empty()) continue;
    Log(LogLevel::kWarning, absl::StrCat("there is no folder ", wanted, " on ", host_, ", so the workers there start in ", home,
                                         "; make it, or name another with -wdir"));
    return std::string(home);
  }
  return wanted;
}

absl::Status AgentProcess::TakeJob(const v1::JobSpec& job, AgentOptions* agent) {
  muster::TakeJob(job, agent);
  ending_ = job.ending();
  if (job.command().empty()) return absl::InvalidArgumentError("the coordinator named no program");
  agent->working_directory = FolderHere(job.working_directory());
  if (agent->applications.empty()) {
    MUSTER_ASSIGN_OR_RETURN(agent->program, options_.find_program(&agent->argv, agent->working_directory));
  }
  for (WorkerProgram& one : agent->applications) {
    if (one.argv.empty()) return absl::InvalidArgumentError("the coordinator named no program");
    MUSTER_ASSIGN_OR_RETURN(
        one.program,
        options_.find_program(&one.argv, one.working_directory.empty() ? agent->working_directory : one.working_directory));
  }
  agent->inherited_environment = options_.environment;
  OutputOptions& output = agent->streams.output;
  if (output.marks.host) output_->set_host(host_);
  output.deliver = [this](uint32_t rank, OutputStream which, absl::string_view text) {
    output_->Add(rank, which == OutputStream::kStderr, text);
  };
  output.must_wait = [this] { return MustWait(); };
  output.files_failed = [this] {
    v1::AgentMessage message;
    message.set_job_id(options_.ticket.job_id);
    message.mutable_output()->set_files_failed(true);
    Send(std::move(message));
  };
  return absl::OkStatus();
}

absl::Status AgentProcess::MakeClient() {
  AgentClientOptions client;
  client.coordinator = coordinator_;
  client.ticket = ticket_;
  client.identity_token = options_.identity_token;
  AgentClient::Callbacks callbacks;
  callbacks.up = [this] {
    joined_ = true;
    rejoining_ = false;
    StopWaiting();
    for (v1::Output& output : std::exchange(waiting_, {})) SendOutput(std::move(output));
    if (agent_ != nullptr) agent_->ChannelUp();
  };
  callbacks.down = [this] { WaitForCoordinator(); };
  callbacks.resumed = [this] { StopWaiting(); };
  callbacks.message = [this](v1::CoordinatorMessage message) { OnMessage(std::move(message)); };
  callbacks.refused = [this](absl::Status why) { OnRefused(why); };
  callbacks.log = [](LogLevel level, const std::string& line) { Log(level, line); };
  MUSTER_ASSIGN_OR_RETURN(client_, AgentClient::Create(loop_.get(), std::move(client), std::move(callbacks)));
  return absl::OkStatus();
}

int AgentProcess::Run() {
  agent_->Start();
  WaitForCoordinator();
  loop_->Run();
  agent_.reset();  // what is left of its tree ends before we do
  return exit_code_;
}

// --- The stream ---

void AgentProcess::OnMessage(v1::CoordinatorMessage message) {
  incarnation_ = std::max(incarnation_, message.incarnation());
  if (message.has_stop() && message.stop().successor_comes() && options_.ask_for_successor) has_successor_ = true;
  if (message.has_hold_output()) {
    hold_output_ = message.hold_output().hold();
  } else if (agent_ != nullptr) {
    agent_->OnMessage(std::move(message));
  }
}

void AgentProcess::Send(v1::AgentMessage message) {
  output_->Flush();  // the lines of a worker come before the news of its end
  client_->Send(std::move(message));
}

void AgentProcess::SendOutput(v1::Output output) {
  if (rejoining_) return waiting_.push_back(std::move(output));  // bounded: workers wait, see MustWait
  v1::AgentMessage message;
  message.set_job_id(options_.ticket.job_id);
  *message.mutable_output() = std::move(output);
  client_->Send(std::move(message));
}

bool AgentProcess::MustWait() const {
  return hold_output_ || rejoining_ || client_->unacknowledged_bytes() + output_->held_bytes() > kOutputBytesMax;
}

// Training goes on without the coordinator, but not for ever: it may never come back, and somebody else may want the node.
void AgentProcess::WaitForCoordinator() {
  stream_is_up_ = false;
  if (options_.ask_for_successor && !look_ && !asker_.joinable() && !leaving_) {
    look_ = loop_->After(kLookAfter, [this] { LookForSuccessor(); });
  }
  if (orphan_ || leaving_) return;
  orphan_ = loop_->After(options_.orphan_after, [this] {
    orphan_.reset();
    Fail(kExitUnavailable,
         absl::StrCat(joined_ ? "lost the coordinator at " : "no coordinator answers at ", coordinator_, " for ",
                      absl::FormatDuration(options_.orphan_after), joined_ ? ", so the workers on this node were ended" : ""));
  });
}

void AgentProcess::LookForSuccessor() {
  look_.reset();
  if (stream_is_up_ || leaving_) return;
  asker_ = std::thread([this] {
    auto fetched = options_.ask_for_successor();
    loop_->Post([this, fetched = std::move(fetched)]() mutable {
      asker_.join();
      OnSuccessor(std::move(fetched));
    });
  });
}

// A coordinator that is lost with its record is made again as one of another job, which knows nothing of ours; one that has found its
// record goes on with the job, under an authority of its own.
void AgentProcess::OnSuccessor(absl::StatusOr<FetchedTicket> fetched) {
  if (stream_is_up_ || leaving_) return;
  if (!fetched.ok() || fetched->ticket.job_id == options_.ticket.job_id) {
    look_ = loop_->After(kLookAfter, [this] { LookForSuccessor(); });
    if (fetched.ok() && fetched->ticket.authority_pem != ticket_.authority_pem) Rejoin(*std::move(fetched));
    return;
  }
  has_successor_ = true;
  const std::string place = fetched->coordinator;
  successor_ = *std::move(fetched);
  Fail(kExitUnavailable, absl::StrCat("lost the coordinator at ", coordinator_, "; another has come in its place, at ", place,
                                      ", so the workers on ", host_, " were ended and begin anew under it"));
}

void AgentProcess::Rejoin(FetchedTicket fetched) {
  Log(LogLevel::kWarning, absl::StrCat("the coordinator at ", coordinator_, " was lost; another goes on with the job at ",
                                       fetched.coordinator, ", and the workers on ", host_, " go on under it"));
  coordinator_ = std::move(fetched.coordinator);
  ticket_ = std::move(fetched.ticket);
  // What else is under way the agent's table tells anew.
  for (v1::AgentMessage& message : client_->unacknowledged()) {
    if (message.has_output()) waiting_.push_back(std::move(*message.mutable_output()));
  }
  if (const absl::Status made = MakeClient(); !made.ok()) {
    return Log(LogLevel::kError, absl::StrCat("cannot join the coordinator at ", coordinator_, ": ", made.message()));
  }
  hold_output_ = false;  // it was the other's wish
  rejoining_ = true;
}

void AgentProcess::StopWaiting() {
  stream_is_up_ = true;
  if (look_) loop_->Cancel(*look_);
  look_.reset();
  if (orphan_) loop_->Cancel(*orphan_);
  orphan_.reset();
}

void AgentProcess::OnRefused(const absl::Status& why) {
  refused_ = true;
  Fail(kExitRefused, std::string(why.message()));
}

// --- The end ---

void AgentProcess::OnGone(const absl::Status& status) {
  if (leaving_) return;
  if (!status.ok()) {
    exit_code_ = kExitInternal;
    SayError(absl::StrCat("the agent on ", host_, " cannot work: ", status.message()));
  }
  if (status.ok() && has_successor_) {
    exit_code_ = kExitUnavailable;
    SayError("the coordinator was asked to leave its place; waiting for the one that comes after it");
  }
  Leave();
}

// This node's part ends as the job would: kindly, once; asked twice, or with nothing to end, at once.
void AgentProcess::OnSignal(int signal, const std::string& by) {
  // Programs' own. Whoever sends them to a whole container, as batch systems do, has sent them to the workers too.
  if (signal == SIGUSR1 || signal == SIGUSR2) return;
  if (options_.signals_stop_job && joined_ && stream_is_up_ && !leaving_) {
    // Batch systems send it more than once; what they mean by "now" is SIGKILL.
    if (std::exchange(told_to_stop_, true)) return;
    v1::AgentMessage message;
    message.set_job_id(options_.ticket.job_id);
    message.set_incarnation(incarnation_);
    message.mutable_stop_asked()->set_signal(static_cast<uint32_t>(signal));
    return Send(std::move(message));
  }
  if (leaving_) return loop_->Quit();
  const std::string how =
      absl::StrCat("asked to end by ", ::sigabbrev_np(signal), by.empty() ? "" : absl::StrCat(" (", by, ")"));
  if (asked_ || agent_ == nullptr || !agent_->has_output()) {
    return Fail(128 + signal, absl::StrCat(how, "; the workers on ", host_, " are ended"));
  }
  asked_ = true;
  exit_code_ = 128 + signal;
  const absl::Duration grace = ending_.kill_grace_ms() > 0 ? absl::Milliseconds(ending_.kill_grace_ms()) : kKillGrace;
  SayError(absl::StrCat(how, "; the workers on ", host_, " have ", absl::FormatDuration(grace), " to end"));
  v1::AgentMessage message;
  message.set_job_id(options_.ticket.job_id);
  message.set_incarnation(incarnation_);
  message.mutable_asked_to_end()->set_signal(static_cast<uint32_t>(signal));
  message.mutable_asked_to_end()->set_by(by);
  Send(std::move(message));
  agent_->EndWorkers(grace, static_cast<int>(ending_.stop_signal()), how);
}

void AgentProcess::Fail(int exit_code, const std::string& sentence) {
  if (leaving_) return;
  exit_code_ = exit_code;
  SayError(sentence);
  loop_->Post([this] {  // never from inside a call of the agent's
    agent_.reset();
    Leave();
  });
}

void AgentProcess::Leave() {
  if (leaving_) return;
  leaving_ = true;
  if (orphan_) loop_->Cancel(*orphan_);
  orphan_.reset();
  if (look_) loop_->Cancel(*look_);
  look_.reset();
  if (refused_) return loop_->Quit();  // the client calls nothing any more
  output_->Flush();
  // Without a stream nobody would hear the last words.
  client_->Close(stream_is_up_ ? kLastWords : absl::ZeroDuration(), [this] { loop_->Quit(); });
}

}  // namespace muster
