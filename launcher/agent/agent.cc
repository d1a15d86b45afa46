#include "launcher/agent/agent.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <algorithm>
#include <utility>
#include <variant>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "launcher/agent/environment.h"
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

}  // namespace

void TakeJob(const v1::JobSpec& job, AgentOptions* options) {
  options->argv.assign(job.command().begin(), job.command().end());
  options->program = options->argv.empty() ? "" : options->argv[0];
  options->chosen_environment.assign(job.environment().begin(), job.environment().end());
  options->working_directory = job.working_directory();
  options->checkpoint = job.checkpoint();
  options->output.tag = job.tag_output();
  options->output.timestamp = job.timestamp_output();
  options->output.pass_partial_lines = job.pass_partial_lines();
  options->pty_stdout = job.pty();
}

absl::StatusOr<std::unique_ptr<Agent>> Agent::Create(EventLoop* loop, AgentOptions options, Callbacks callbacks) {
  std::unique_ptr<Agent> agent(new Agent(loop, std::move(options), std::move(callbacks)));
  if (!agent->options_.take_job) MUSTER_RETURN_IF_ERROR(agent->MakeOutput());
  return agent;
}

Agent::Agent(EventLoop* loop, AgentOptions options, Callbacks callbacks)
    : loop_(loop),
      options_(std::move(options)),
      callbacks_(std::move(callbacks)),
      table_(agent::Options{.job_id = options_.job_id}) {}

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
    if (message.has_joined()) TakeJobOnce(message.joined());
    if (message.has_signal() && message.signal().signal() == SIGWINCH) {
      return SetWindowSize(static_cast<uint16_t>(message.signal().rows()), static_cast<uint16_t>(message.signal().columns()));
    }
    if (message.has_signal()) return SignalWorkers(static_cast<int>(message.signal().signal()));
    if (message.has_input() && options_.fed_stdin) {
      input_ = std::move(*message.mutable_input());
      return FeedStdin();
    }
  }
  Post(agent::Received{std::move(message)});
}

void Agent::TakeJobOnce(const v1::Joined& joined) {
  if (!options_.take_job || has_output() || !job_taken_.ok()) return;
  job_taken_ = options_.take_job(joined.job(), &options_);
  if (job_taken_.ok()) job_taken_ = MakeOutput();
  if (!job_taken_.ok()) callbacks_.log(LogLevel::kError, absl::StrCat("this node cannot run the job: ", job_taken_.message()));
}

absl::Status Agent::MakeOutput() {
  MUSTER_ASSIGN_OR_RETURN(output_, OutputForwarder::Create(loop_, options_.output));
  return absl::OkStatus();
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
  loop_->Post([this, alive = alive_, event = std::make_shared<agent::Event>(std::move(event))] {
    if (*alive) Step(*event);
  });
}

void Agent::Step(const agent::Event& event) {
  agent::Actions actions = table_.Step(absl::Now(), event);
  for (agent::Action& action : actions) std::visit([this](auto& one) { Do(one); }, action);
}

// --- Preflight ---

GuardClient::Events Agent::GuardEvents() {
  GuardClient::Events events;
  events.spawned = [this](uint32_t slot, pid_t pid, UniqueFd pidfd) {
    Worker& worker = workers_[slot];
    worker.started = true;
    worker.pidfd = std::move(pidfd);
    for (const int signal : std::exchange(worker.early_signals, {})) guard_->Signal(slot, signal);
    if (callbacks_.started) callbacks_.started(++started_);
    Post(agent::Spawned{slot, pid});
  };
  events.spawn_failed = [this](uint32_t slot, int error, std::string stage) {
    workers_.erase(slot);
    Post(agent::SpawnFailed{slot, error, std::move(stage)});
  };
  events.ended = [this](uint32_t slot, int wait_status) { OnEnded(slot, wait_status); };
  events.tree_ended = [this] {
    if (has_output()) output_->DrainAll();
    Post(agent::TreeEnded{});
  };
  events.lost = [this] {
    if (has_output()) output_->DrainAll();
    workers_.clear();
    guard_lost_ = true;
    Post(agent::GuardLost{});
  };
  return events;
}

WorkerPort::Events Agent::PortEvents() {
  WorkerPort::Events events;
  events.joined = [this](uint32_t slot) { Post(agent::WorkerJoined{slot}); };
  events.left = [this](uint32_t slot) { Post(agent::WorkerLeft{slot}); };
  events.lost = [this](uint32_t slot) { Post(agent::WorkerLost{slot}); };
  events.blamed = [this](uint32_t slot, uint32_t blamed_rank, v1::AbortReason reason, uint64_t op_seq, std::string message) {
    Post(agent::WorkerBlamed{slot, blamed_rank, static_cast<uint32_t>(reason), op_seq, std::move(message)});
  };
  events.step_committed = [this](uint32_t slot, int64_t step) { Post(agent::StepReported{slot, step}); };
  return events;
}

absl::StatusOr<v1::Join> Agent::Preflight() {
  v1::Join join;
  join.set_host(options_.host);
  join.set_slots(options_.slots);
  join.set_address(options_.address);
  join.set_master_port(options_.master_port);
  if (options_.master_port == 0) {
    MUSTER_ASSIGN_OR_RETURN(ReservedPort port, ReservedPort::Reserve());
    join.set_master_port(port.port());
    reserved_port_ = std::move(port);
  }
  MUSTER_ASSIGN_OR_RETURN(port_, WorkerPort::Create(loop_, PortEvents()));
  MUSTER_ASSIGN_OR_RETURN(guard_, GuardClient::Start(loop_, options_.guard_path, options_.session_folder, GuardEvents()));
  RaiseOpenFilesLimit();
  kills_before_ = ReadOutOfMemoryKills();
  return join;
}

void Agent::Do(agent::RunPreflight&) {
  auto join = Preflight();
  Post(agent::PreflightDone{join.status(), join.ok() ? *join : v1::Join()});
}

// --- Workers ---

absl::Status Agent::OpenStreams(uint32_t rank, Worker* worker, SpawnRequest* request) {
  if (options_.pty_stdout) {
    MUSTER_ASSIGN_OR_RETURN(OutputChannel channel, OpenOutputPty(options_.output.stdout_fd));
    worker->pty.Reset(::fcntl(channel.our_end.get(), F_DUPFD_CLOEXEC, 0));
    if (window_size_) ::ioctl(worker->pty.get(), TIOCSWINSZ, &*window_size_);
    request->stdout_fd = std::move(channel.worker_end);
    request->controlling_terminal = true;
    MUSTER_RETURN_IF_ERROR(output_->AddStream(rank, OutputStream::kStdout, std::move(channel.our_end)));
  } else {
    MUSTER_ASSIGN_OR_RETURN(OutputChannel channel, OpenOutputPipe());
    request->stdout_fd = std::move(channel.worker_end);
    MUSTER_RETURN_IF_ERROR(output_->AddStream(rank, OutputStream::kStdout, std::move(channel.our_end)));
  }
  MUSTER_ASSIGN_OR_RETURN(OutputChannel errors, OpenOutputPipe());
  request->stderr_fd = std::move(errors.worker_end);
  MUSTER_RETURN_IF_ERROR(output_->AddStream(rank, OutputStream::kStderr, std::move(errors.our_end)));
  if (rank == 0 && options_.stdin_fd >= 0) {
    MUSTER_ASSIGN_OR_RETURN(StdinPipe input, OpenStdinPipe());
    request->stdin_fd = std::move(input.worker_end);
    MUSTER_ASSIGN_OR_RETURN(stdin_, StdinForwarder::Start(loop_, options_.stdin_fd, std::move(input.our_end)));
  } else if (rank == 0 && options_.fed_stdin) {
    MUSTER_ASSIGN_OR_RETURN(StdinPipe input, OpenStdinPipe());
    request->stdin_fd = std::move(input.worker_end);
    MUSTER_ASSIGN_OR_RETURN(fed_stdin_, FedStdin::Start(loop_, std::move(input.our_end), [this](bool closed) {
                              v1::AgentMessage message;
                              message.set_job_id(options_.job_id);
                              message.mutable_input_taken()->set_closed(closed);
                              callbacks_.send(std::move(message));
                            }));
    FeedStdin();
  } else {
    MUSTER_ASSIGN_OR_RETURN(request->stdin_fd, OpenEmptyStdin());
  }
  return absl::OkStatus();
}

// Input may come before its reader.
void Agent::FeedStdin() {
  if (fed_stdin_ == nullptr || !input_) return;
  fed_stdin_->Feed(std::move(*input_->mutable_bytes()), input_->end());
  input_.reset();
}

absl::StatusOr<SpawnRequest> Agent::Request(const agent::Spawn& action) {
  SpawnRequest request;
  MUSTER_RETURN_IF_ERROR(job_taken_);
  if (!has_output()) return absl::FailedPreconditionError("the coordinator never said what the job is");
  request.slot = action.place.slot();
  request.program = options_.program;
  request.argv = options_.argv;
  request.working_directory = options_.working_directory;
  WorkerPlace place;
  place.job_id = absl::BytesToHexString(options_.job_id);
  place.socket_name = port_->socket_name();
  place.temporary_folder = options_.session_folder;
  place.master_address = action.prepare->master_address();
  place.master_port = action.prepare->master_port();
  place.rank = action.place.rank();
  place.world_size = action.prepare->world_size();
  place.local_rank = action.place.local_rank();
  place.local_world_size = static_cast<uint32_t>(action.prepare->places_size());
  place.group_rank = action.prepare->group_rank();
  place.nodes = std::max(1u, action.prepare->nodes());
  place.slot = action.place.slot();
  place.restarts = action.prepare->restarts();
  request.env = WorkerEnvironment(options_.inherited_environment, options_.chosen_environment, place);
  Worker& worker = workers_[request.slot];
  worker = Worker{.rank = place.rank};
  MUSTER_RETURN_IF_ERROR(OpenStreams(place.rank, &worker, &request));
  return request;
}

void Agent::Do(agent::Spawn& action) {
  auto request = Request(action);
  if (request.ok()) {
    guard_->Spawn(*std::move(request));
  } else {
    workers_.erase(action.place.slot());
    const int error = absl::IsResourceExhausted(request.status()) ? EMFILE : EIO;
    const bool streams = job_taken_.ok() && has_output();
    Post(agent::SpawnFailed{action.place.slot(), error,
                            streams ? "its pipes, see ulimit -n" : std::string(request.status().message())});
  }
}

void Agent::OnEnded(uint32_t slot, int wait_status) {
  port_->WorkerEnded(slot, wait_status);
  const auto worker = workers_.find(slot);
  if (worker != workers_.end()) {
    output_->Drain(worker->second.rank);
    workers_.erase(worker);
  }
  const LastOperation last = port_->LastOperationOf(slot);
  agent::Ended ended;
  ended.slot = slot;
  ended.wait_status = wait_status;
  ended.had_joined = port_->HasJoined(slot);
  ended.had_left = port_->HasLeft(slot);
  ended.last_op_seq = last.op_seq;
  ended.last_op = last.description;
  if (WIFSIGNALED(wait_status) && WTERMSIG(wait_status) == SIGKILL) ended.out_of_memory = NewOutOfMemoryKill(kills_before_);
  Post(std::move(ended));
}

void Agent::Do(agent::ExpectWorker& action) { port_->ExpectWorker(action.slot, static_cast<pid_t>(action.pid)); }

void Agent::Do(agent::SignalWorker& action) { guard_->Signal(action.slot, action.signal); }

void Agent::Do(agent::EndTree&) {
  if (guard_ != nullptr && !guard_lost_) {
    guard_->EndTree();
  } else {
    Post(agent::TreeEnded{});
  }
}

// --- Generations ---

void Agent::Do(agent::BeginGeneration& action) {
  LocalGeneration generation;
  generation.generation = action.generation;
  generation.job_id = options_.job_id;
  generation.key = action.prepare->key();
  generation.world_size = action.prepare->world_size();
  generation.restarts = action.prepare->restarts();
  generation.host = options_.host;
  for (const v1::Place& place : action.prepare->places()) generation.places.push_back({place.slot(), place.rank()});
  if (absl::Status status = port_->BeginGeneration(generation); !status.ok()) {
    callbacks_.log(LogLevel::kError,
                   absl::StrCat("no control memory for generation ", action.generation, ": ", status.message()));
    port_->EndGeneration(std::string(status.message()));
  }
}

void Agent::Do(agent::EndGeneration& action) { port_->EndGeneration(action.reason); }

// --- The rest ---

void Agent::Do(agent::Send& action) { callbacks_.send(std::move(action.message)); }

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
  loop_->Post([this, alive = alive_, status = action.status] {
    if (*alive) callbacks_.gone(status);
  });
}

}  // namespace muster
