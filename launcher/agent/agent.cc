#include "launcher/agent/agent.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <utility>
#include <variant>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "launcher/agent/nccl_files.h"
#include "launcher/agent/network_interface.h"
#include "launcher/agent/peer_table.h"
#include "launcher/agent/process_state.h"
#include "launcher/agent/program_error.h"
#include "launcher/agent/worker_request.h"
#include "launcher/mpi/mpi_world.h"
#include "runtime/base/clock.h"
#include "runtime/base/status.h"

namespace muster {

namespace {

// A worker takes five descriptors or so of ours. Workers keep the limit that the user has chosen: they are the guard's
// children.
void RaiseOpenFilesLimit() {
  rlimit limit = {};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

// "it ended with status 1", "it was killed by signal 9 (SIGKILL)"
std::string WaitStatusText(int wait_status) {
  if (!WIFSIGNALED(wait_status)) return absl::StrCat("it ended with status ", WEXITSTATUS(wait_status));
  const char* const name = ::sigabbrev_np(WTERMSIG(wait_status));
  return absl::StrCat("it was killed by signal ", WTERMSIG(wait_status),
                      name == nullptr ? "" : absl::StrCat(" (SIG", name, ")"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Agent>> Agent::Create(EventLoop* loop, AgentOptions options, Callbacks callbacks) {
  if (options.network_interface.empty()) options.network_interface = InterfaceWith(options.address);
  std::unique_ptr<Agent> agent(new Agent(loop, std::move(options), std::move(callbacks)));
  agent->begun_guard_ = GuardClient::Begin(agent->options_.guard_path, agent->options_.session_folder);
  if (!agent->options_.take_job) MUSTER_RETURN_IF_ERROR(agent->MakeStreams());
  return agent;
}

Agent::Agent(EventLoop* loop, AgentOptions options, Callbacks callbacks)
    : loop_(loop),
      options_(std::move(options)),
      callbacks_(std::move(callbacks)),
      table_(agent::Options{.job_id = options_.job_id, .orphan_after = options_.orphan_after}),
      topology_(loop, options_.job_id,
                {.send =
                     [this](v1::NodeTopology topology) {
                       v1::AgentMessage message = NewMessage();
                       *message.mutable_topology() = std::move(topology);
                       callbacks_.send(std::move(message));
                     },
                 .log = [this](LogLevel level, const std::string& line) { callbacks_.log(level, line); }}),
      refusals_(loop,
                [this](v1::Refusal refusal) {
                  v1::AgentMessage message = NewMessage();
                  *message.mutable_refusal() = std::move(refusal);
                  callbacks_.send(std::move(message));
                }),
      exchange_([this](v1::AgentMessage message) {
        message.set_job_id(options_.job_id);
        message.set_generation(table_.generation());
        message.set_incarnation(incarnation_);
        PostCall([this, message = std::move(message)] { callbacks_.send(message); });
      }) {}

Agent::~Agent() {
  *alive_ = false;
  for (const auto& timer : timers_) {
    if (timer) loop_->Cancel(*timer);
  }
}

void Agent::Start() { Post(agent::Started{}); }
void Agent::ChannelUp() { Post(agent::ChannelUp{}); }
void Agent::ChannelLost() { Post(agent::ChannelLost{}); }

void Agent::OnMessage(v1::CoordinatorMessage message) {
  if (message.job_id() == options_.job_id) {
    incarnation_ = std::max(incarnation_, message.incarnation());
    if (message.has_joined()) {
      TakeJobOnce(message.joined());
      if (options_.placement && job_taken_.ok()) PostCall([this] { topology_.Tell(!workers_.empty()); });
      if (!options_.streams.file_pattern.empty()) PostCall([this] { TellOutputReady(); });
    }
    if (message.has_signal() && message.signal().signal() == SIGWINCH) {
      return SetWindowSize(static_cast<uint16_t>(message.signal().rows()), static_cast<uint16_t>(message.signal().columns()));
    }
    if (message.has_rank_states_request()) return TellRankStates();
    if (NodeExchange::Takes(message)) return exchange_.Take(std::move(message));
    if (message.has_signal()) return SignalWorkers(static_cast<int>(message.signal().signal()));
    if (message.has_input() && has_output()) {
      return streams_->Feed(std::move(*message.mutable_input()->mutable_bytes()), message.input().end());
    }
  }
  Post(agent::Received{std::move(message)});
}

// What is known from the flight records and /proc; a worker whose end was seen is the coordinator's to know.
void Agent::TellRankStates() {
  v1::AgentMessage message = NewMessage();
  v1::RankStates* told = message.mutable_rank_states();
  const auto now_ns = static_cast<uint64_t>(MonotonicNanoseconds());
  for (const auto& [slot, worker] : workers_) {
    v1::RankState* state = told->add_states();
    state->set_rank(worker.rank);
    state->set_step(worker.step);
    state->set_joined(port_->HasJoined(slot));
    state->set_left(port_->HasLeft(slot));
    const LastOperation last = port_->LastOperationOf(slot);
    state->set_op_seq(last.op_seq);
    state->set_op(last.brief);
    state->set_op_finished(last.finished);
    state->set_communicator(last.communicator);
    if (last.op_seq != 0 && now_ns > last.changed_ns) state->set_op_ms((now_ns - last.changed_ns) / 1'000'000);
    const pid_t session = port_->SessionProcessOf(slot);
    const pid_t pid = session > 0 ? session : worker.pid;
    const ProcessState process = pid > 0 ? ReadProcessState(pid) : ProcessState();
    state->set_pid(pid);
    if (process.letter != 0) state->set_process_state(std::string(1, process.letter));
    state->set_wait_channel(process.wait_channel);
    state->set_cpu_ms(process.cpu_ms);
  }
  PostCall([this, message = std::move(message)] { callbacks_.send(message); });
}

void Agent::EndWorkers(absl::Duration grace, int signal, const std::string& reason) {
  v1::CoordinatorMessage message;
  message.set_job_id(options_.job_id);
  message.set_generation(table_.generation());
  message.set_incarnation(incarnation_);
  message.mutable_stop()->set_grace_ms(static_cast<uint32_t>(absl::ToInt64Milliseconds(grace)));
  message.mutable_stop()->set_signal(static_cast<uint32_t>(signal));
  message.mutable_stop()->set_reason(reason);
  Post(agent::Received{std::move(message)});
}

void Agent::TakeJobOnce(const v1::Joined& joined) {
  if (!options_.take_job || has_output() || !job_taken_.ok()) return;
  job_taken_ = options_.take_job(joined.job(), &options_);
  if (job_taken_.ok()) job_taken_ = MakeStreams();
  if (!job_taken_.ok()) callbacks_.log(LogLevel::kError, absl::StrCat("this node cannot run the job: ", job_taken_.message()));
}

absl::Status Agent::MakeStreams() {
  options_.streams.job_id = absl::BytesToHexString(options_.job_id);
  options_.streams.output.host = options_.host;
  options_.streams.output.errors = [this](uint32_t rank, absl::string_view text) { error_tails_.Add(rank, text); };
  MUSTER_ASSIGN_OR_RETURN(streams_, WorkerStreams::Create(loop_, options_.streams, [this](bool closed) {
                            v1::AgentMessage message = NewMessage();
                            message.mutable_input_taken()->set_closed(closed);
                            callbacks_.send(std::move(message));
                          }));
  return absl::OkStatus();
}

// Also where the job cannot be taken: its workers say why.
void Agent::TellOutputReady() {
  v1::AgentMessage message = NewMessage();
  const absl::Status checked = has_output() ? streams_->CheckFiles() : absl::OkStatus();
  message.mutable_output_ready()->set_why_not(std::string(checked.message()));
  callbacks_.send(std::move(message));
}

void Agent::SignalWorkers(int signal) {
  for (auto& [slot, worker] : workers_) {
    // Before its exec a worker would be ended by what its program knows how to take.
    if (worker.started) {
      guard_->Signal(slot, signal);
    } else {
      worker.early_signals.push_back(signal);
    }
  }
}

bool Agent::signals_wait() const {
  return std::any_of(workers_.begin(), workers_.end(), [](const auto& entry) { return !entry.second.early_signals.empty(); });
}

void Agent::CopyWindowSize(int terminal_fd) {
  for (const auto& [slot, worker] : workers_) {
    if (worker.pty) muster::CopyWindowSize(terminal_fd, worker.pty.get());
  }
}

void Agent::SetWindowSize(uint16_t rows, uint16_t columns) {
  window_size_ = winsize{.ws_row = rows, .ws_col = columns, .ws_xpixel = 0, .ws_ypixel = 0};
  for (const auto& [slot, worker] : workers_) {
    if (worker.pty) ::ioctl(worker.pty.get(), TIOCSWINSZ, &*window_size_);
  }
}

// Events are always posted: an action's own answer must not step the table while it is being carried out.
void Agent::Post(agent::Event event) {
  PostCall([this, event = std::move(event)] { Step(event); });
}

void Agent::PostCall(std::function<void()> call) {
  loop_->Post([alive = alive_, call = std::move(call)] {
    if (*alive) call();
  });
}

// What this shell says without the table.
v1::AgentMessage Agent::NewMessage() const {
  v1::AgentMessage message;
  message.set_job_id(options_.job_id);
  message.set_generation(table_.generation());
  message.set_incarnation(incarnation_);
  return message;
}

void Agent::Step(const agent::Event& event) {
  agent::Actions actions = table_.Step(absl::Now(), event);
  for (agent::Action& action : actions) std::visit([this](auto& one) { Do(one); }, action);
}

// --- Preflight ---

GuardClient::Events Agent::GuardEvents() {
  GuardClient::Events events;
  events.spawned = [this](uint32_t slot, pid_t pid, UniqueFd pidfd) {
    if (slot == kPmixSlot) return;
    Worker& worker = workers_[slot];
    worker.started = true;
    worker.pid = pid;
    worker.pidfd = std::move(pidfd);
    for (const int signal : std::exchange(worker.early_signals, {})) guard_->Signal(slot, signal);
    if (callbacks_.started) callbacks_.started(++started_);
    Post(agent::Spawned{.slot = slot, .pid = pid, .data_port = worker.listener.port, .spawn = worker.spawn});
  };
  events.spawn_failed = [this](uint32_t slot, int error, std::string stage) {
    if (slot == kPmixSlot) return OnPmixGone(std::string(ErrnoToStatus(error, stage).message()));
    const uint32_t spawn = workers_[slot].spawn;
    workers_.erase(slot);
    Post(agent::SpawnFailed{.slot = slot, .error = error, .stage = std::move(stage), .spawn = spawn});
  };
  // After what came before it: the port hears of an end only once it expects the worker.
  events.ended = [this](uint32_t slot, int wait_status) {
    PostCall([this, slot, wait_status] { OnEnded(slot, wait_status); });
  };
  events.tree_ended = [this] { PostCall([this] { OnTreeEnded(); }); };
  events.lost = [this] {
    guard_lost_ = true;
    PostCall([this] {
      if (has_output()) output().DrainAll();
      EndMpi();
      workers_.clear();
      Step(agent::GuardLost{});
    });
  };
  return events;
}

WorkerPort::Events Agent::PortEvents() {
  WorkerPort::Events events;
  events.joined = [this](uint32_t slot, uint32_t spawn) { Post(agent::WorkerJoined{slot, spawn}); };
  events.left = [this](uint32_t slot, uint32_t spawn) { Post(agent::WorkerLeft{slot, spawn}); };
  events.lost = [this](uint32_t slot, uint32_t spawn) { Post(agent::WorkerLost{slot, spawn}); };
  events.blamed = [this](uint32_t slot, uint32_t spawn, uint32_t blamed_rank, v1::AbortReason reason, uint64_t op_seq,
                         std::string message, bool of_some_ranks) {
    Post(agent::WorkerBlamed{.slot = slot,
                             .blamed_rank = blamed_rank,
                             .reason = static_cast<uint32_t>(reason),
                             .op_seq = op_seq,
                             .message = std::move(message),
                             .spawn = spawn,
                             .of_some_ranks = of_some_ranks});
  };
  events.step_committed = [this](uint32_t slot, uint32_t spawn, int64_t step, int64_t checkpoint_step) {
    if (const auto worker = workers_.find(slot); worker != workers_.end() && worker->second.spawn == spawn) {
      worker->second.step = std::max(worker->second.step, step);
    }
    Post(agent::StepReported{.slot = slot, .step = step, .checkpoint_step = checkpoint_step, .spawn = spawn});
  };
  events.refused = [this](RefusalCount refused) { refusals_.Add(std::move(refused)); };
  return events;
}

absl::StatusOr<v1::Join> Agent::Preflight() {
  v1::Join join;
  join.set_host(options_.host);
  join.set_slots(options_.slots);
  usable_cores_ = FindUsableCores().count();
  join.set_usable_cores(static_cast<uint32_t>(usable_cores_));
  join.set_address(options_.address);
  if (!options_.network.source().empty()) *join.mutable_network() = options_.network;
  if (options_.devices.ports_size() > 0) *join.mutable_devices() = options_.devices;
  join.set_master_port(options_.master_port);
  if (options_.master_port == 0) {
    MUSTER_ASSIGN_OR_RETURN(ReservedPort port, ReservedPort::Reserve());
    join.set_master_port(port.port());
    reserved_port_ = std::move(port);
  }
  MUSTER_ASSIGN_OR_RETURN(port_, WorkerPort::Create(loop_, PortEvents()));
  MUSTER_ASSIGN_OR_RETURN(BegunGuard begun, std::move(begun_guard_));
  MUSTER_ASSIGN_OR_RETURN(guard_, GuardClient::Start(loop_, std::move(begun), GuardEvents()));
  RaiseOpenFilesLimit();
  kills_before_ = ReadOutOfMemoryKills();
  return join;
}

void Agent::Do(agent::RunPreflight&) {
  auto join = Preflight();
  Post(agent::PreflightDone{join.status(), join.ok() ? *join : v1::Join()});
}

// --- Workers ---

// Once a generation, before its first worker.
absl::Status Agent::BeginStreams(const agent::Spawn& action) {
  if (!has_output()) return absl::OkStatus();  // said where the worker is made
  std::vector<uint32_t> ranks;
  for (const v1::Place& place : action.prepare->places()) ranks.push_back(place.rank());
  return streams_->BeginGeneration(action.generation, action.prepare->restarts() == 0, ranks);
}

// What cannot be written NCCL does without.
void Agent::PrepareNccl(const v1::Prepare& prepare) {
  nccl_ = WorkerNccl();
  if (options_.nccl_environment_off || (prepare.nodes() < 2 && !prepare.has_nccl())) return;
  std::vector<std::string> environment = options_.inherited_environment;
  environment.insert(environment.end(), options_.chosen_environment.begin(), options_.chosen_environment.end());
  nccl_.configured = ConfiguredNcclVariables(environment);
  if (prepare.nccl().topology_xml().empty()) return;
  const auto file = WriteNcclTopology(options_.session_folder, prepare.nccl().topology_xml());
  if (!file.ok()) {
    callbacks_.log(LogLevel::kWarning,
                   absl::StrCat("NCCL is told nothing of the PCI bus of ", options_.host, ": ", file.status().message()));
    return;
  }
  nccl_.topology_file = *file;
}

absl::StatusOr<SpawnRequest> Agent::Request(const agent::Spawn& action) {
  MUSTER_RETURN_IF_ERROR(job_taken_);
  if (!has_output()) return absl::FailedPreconditionError("the coordinator never said what the job is");
  WorkerMpi mpi;
  // Without a server its place is named all the same, where nobody listens: a library that finds no name is a world of one, and silent.
  mpi.ports = mpi_ != nullptr ? mpi_->ports() : MpiPorts{MpiNameSpace(options_.job_id, action.generation), 1, 1};
  if (mpi_ != nullptr) mpi.shared_memory_folder = mpi_->shared_memory_folder();
  mpi.more_ranks_than_cores = action.prepare->places_size() > usable_cores_;
  MUSTER_ASSIGN_OR_RETURN(SpawnRequest request, WorkerRequest(options_, action, port_->socket_name(), mpi, nccl_));
  // What the rank's last process has left is not this one's.
  error_tails_.Forget(action.place.rank());
  if (!options_.session_folder.empty()) {
    ::unlink(ProgramErrorFile(options_.session_folder, action.place.rank()).c_str());
  }
  Worker& worker = workers_[request.slot];
  worker = Worker{.rank = action.place.rank(), .spawn = action.spawn};
  spawned_[worker.rank] = {request.slot, worker.spawn};
  if (action.prepare->nodes() > 1) {
    MUSTER_ASSIGN_OR_RETURN(worker.listener, OpenDataListener(options_.address));
  }
  MUSTER_RETURN_IF_ERROR(streams_->Open(action.place.rank(), &request, &worker.pty));
  if (window_size_ && worker.pty) ::ioctl(worker.pty.get(), TIOCSWINSZ, &*window_size_);
  return request;
}

void Agent::Do(agent::Spawn& action) {
  if (action.generation != spawning_) {
    spawning_ = action.generation;
    started_ = 0;
    spawned_.clear();
    mpi_blamed_.clear();
    kills_before_ = ReadOutOfMemoryKills();
    topology_.Settle(*action.prepare);
    PrepareNccl(*action.prepare);
    OpenMpi(action.generation);
    streams_begun_ = BeginStreams(action);
  }
  auto request = streams_begun_.ok() ? Request(action) : absl::StatusOr<SpawnRequest>(streams_begun_);
  if (request.ok()) return guard_->Spawn(*std::move(request));
  workers_.erase(action.place.slot());
  Post(streams_begun_.ok() ? NoRequest(options_, action, job_taken_, request.status()) : NoOutput(action, streams_begun_));
}

// What the program itself has said of its failure.
std::optional<ProgramError> Agent::ErrorOf(uint32_t rank, int wait_status) const {
  if (wait_status == 0) return std::nullopt;
  if (!options_.session_folder.empty()) {
    if (auto error = ReadProgramError(ProgramErrorFile(options_.session_folder, rank))) return error;
  }
  constexpr int kUncaughtException = 1;  // what Python exits with
  // After MPI_Abort, which mpi4py calls for one, a rank ends with any code, or as we end it.
  const bool may_be = (WIFEXITED(wait_status) && WEXITSTATUS(wait_status) == kUncaughtException) || mpi_blamed_.contains(rank);
  return may_be ? ParseTraceback(error_tails_.Of(rank)) : std::nullopt;
}

void Agent::OnEnded(uint32_t slot, int wait_status) {
  if (slot == kPmixSlot) return OnPmixGone(WaitStatusText(wait_status));
  const auto worker = workers_.find(slot);
  if (worker == workers_.end()) return;
  const uint32_t spawn = worker->second.spawn, rank = worker->second.rank;
  TellMpiOfEnd(rank, wait_status);
  output().Drain(rank);
  workers_.erase(worker);
  port_->WorkerEnded(slot, spawn, wait_status);
  const LastOperation last = port_->LastOperationOf(slot);
  agent::Ended ended;
  ended.slot = slot;
  ended.spawn = spawn;
  ended.wait_status = wait_status;
  ended.had_joined = port_->HasJoined(slot);
  ended.had_left = port_->HasLeft(slot);
  ended.last_op_seq = last.op_seq;
  ended.last_op = last.description;
  if (auto error = ErrorOf(rank, wait_status)) {
    ended.program_error = std::move(error->error);
    ended.program_trace = std::move(error->trace);
  }
  if (WIFSIGNALED(wait_status) && WTERMSIG(wait_status) == SIGKILL) ended.out_of_memory = NewOutOfMemoryKill(kills_before_);
  Step(ended);
}

void Agent::OnTreeEnded() {
  // The streams of this generation end here: those of the next one's workers are others, though their ranks may be the same.
  if (has_output()) streams_->EndGeneration();
  port_->ForgetWorkers();
  if (!guard_lost_) guard_->RemoveSharedMemory();
  Step(agent::TreeEnded{});
}

void Agent::Do(agent::ExpectWorker& action) {
  const auto worker = workers_.find(action.slot);
  if (worker == workers_.end()) return;  // the guard is lost, and all with it
  port_->ExpectWorker(action.slot, worker->second.spawn, static_cast<pid_t>(action.pid),
                      std::move(worker->second.listener.socket));
}

void Agent::Do(agent::SignalWorker& action) { guard_->Signal(action.slot, action.signal); }

void Agent::Do(agent::EndTree&) {
  EndMpi();
  if (guard_ != nullptr && !guard_lost_) {
    guard_->EndTree();
  } else {
    Post(agent::TreeEnded{});
  }
}

// --- Generations ---

absl::Status Agent::Begin(const agent::BeginGeneration& action) {
  const v1::Prepare& prepare = *action.prepare;
  LocalGeneration generation;
  generation.generation = action.generation;
  generation.job_id = options_.job_id;
  generation.key = prepare.key();
  generation.world_size = prepare.world_size();
  generation.nodes = std::max(1u, prepare.nodes());
  generation.restarts = prepare.restarts();
  generation.host = options_.host;
  generation.checkpoint = options_.checkpoint;
  generation.places.resize(static_cast<size_t>(prepare.places_size()));
  for (const v1::Place& place : prepare.places()) {
    if (place.local_rank() >= generation.places.size()) return absl::InternalError("a local rank beyond this node's");
    generation.places[place.local_rank()] = {place.slot(), place.rank()};
  }
  if (generation.nodes > 1) {
    if (action.members == nullptr) return absl::InternalError("several nodes, but no table of their members");
    if (!RanksFollowEachOther(*action.members)) {
      // For programs without muster's collectives any order will do.
      port_->EndGeneration(
          absl::StrCat("muster's collectives need the ranks of a node to follow each other, and the order that --map-by ",
                       options_.placement ? options_.placement->map_by() : "", " or --rank-by ",
                       options_.placement ? options_.placement->rank_by() : "",
                       " asks for deals them out over the nodes; add --rank-by slot, or use --map-by slot"));
      return absl::OkStatus();
    }
    MUSTER_ASSIGN_OR_RETURN(generation.peers, PeersOf(*action.members, generation.world_size));
  }
  return port_->BeginGeneration(generation);
}

void Agent::Do(agent::BeginGeneration& action) {
  BeginMpi(action);
  const absl::Status begun = Begin(action);
  if (begun.ok()) return;
  callbacks_.log(LogLevel::kError, absl::StrCat("generation ", action.generation, " cannot begin here: ", begun.message()));
  port_->EndGeneration(std::string(begun.message()));
}

void Agent::Do(agent::EndGeneration& action) { port_->EndGeneration(action.reason); }

// --- The rest ---

void Agent::Do(agent::Send& action) {
  if (action.message.has_stopped()) refusals_.Flush();  // nobody listens to what comes after it
  callbacks_.send(std::move(action.message));
}

void Agent::Do(agent::SetTimer& action) {
  auto& timer = timers_[static_cast<int>(action.timer)];
  if (timer) loop_->Cancel(*timer);
  timer.reset();
  if (action.after == absl::InfiniteDuration()) return;
  timer = loop_->After(action.after, [this, which = action.timer] {
    timers_[static_cast<int>(which)].reset();
    Post(agent::TimerFired{which});
  });
}

void Agent::Do(agent::CancelTimer& action) {
  auto& timer = timers_[static_cast<int>(action.timer)];
  if (timer) loop_->Cancel(*timer);
  timer.reset();
}

void Agent::Do(agent::LogLine& action) { callbacks_.log(action.level, action.line); }

void Agent::Do(agent::Gone& action) {
  if (guard_ != nullptr && !guard_lost_) guard_->Finish();  // it ends while the coordinator writes its last words
  loop_->Post([this, alive = alive_, status = action.status] {
    if (*alive) callbacks_.gone(status);
  });
}

}  // namespace muster
