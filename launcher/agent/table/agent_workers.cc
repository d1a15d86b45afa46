// How the agent follows its workers, tells of their ends, and ends them.
#include <algorithm>
#include <cerrno>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "launcher/agent/table/agent_core.h"

namespace muster {

using agent::Timer;

namespace {

constexpr int kBlamesPerWorkerMax = 16;  // a worker may not fill our memory

// Signals and wait status as POSIX and Linux number them; this room includes nothing of the system. Source: signal(7),
// waitpid(2).
constexpr int kKillSignal = 9;
constexpr int SignalOf(int wait_status) { return wait_status & 0x7f; }
constexpr int ExitStatusOf(int wait_status) { return wait_status >> 8 & 0xff; }

v1::Ending EndingOf(const agent::Ended& ended) {
  v1::Ending ending;
  if (!ended.out_of_memory.empty()) {
    ending.set_kind(v1::Ending::OUT_OF_MEMORY);
    ending.set_detail(ended.out_of_memory);
  } else if (SignalOf(ended.wait_status) == 0) {
    ending.set_kind(v1::Ending::EXITED);
    ending.set_code(ExitStatusOf(ended.wait_status));
  } else {
    ending.set_kind(v1::Ending::SIGNALED);
    ending.set_code(SignalOf(ended.wait_status));
  }
  ending.set_program_error(ended.program_error);
  ending.set_program_trace(ended.program_trace);
  return ending;
}

v1::Ending::Kind KindOfSpawnError(int error, const std::string& stage) {
  if (absl::StartsWith(stage, "output: ")) return v1::Ending::OUTPUT_FAILED;
  if (!absl::StartsWith(stage, "exec")) return v1::Ending::SPAWN_FAILED;
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      return v1::Ending::NOT_FOUND;
    case EACCES:
    case EPERM:
    case ENOEXEC:
    case EISDIR:
    case ETXTBSY:
      return v1::Ending::NOT_EXECUTABLE;
    default:
      return v1::Ending::SPAWN_FAILED;
  }
}

}  // namespace

// --- Workers ---

void AgentTable::Core::NoteSpawned(const Event& event) {
  const auto& spawned = As<agent::Spawned>(event);
  Worker& worker = workers_.at(spawned.slot);
  if (worker.phase != Phase::kSpawning) return;
  worker.phase = Phase::kAlive;
  worker.pid = spawned.pid;
  worker.data_port = spawned.data_port;
  actions_.push_back(agent::ExpectWorker{spawned.slot, spawned.pid});
}

void AgentTable::Core::NoteSpawnedLate(const Event& event) {
  const auto& spawned = As<agent::Spawned>(event);
  Worker& worker = workers_.at(spawned.slot);
  if (worker.phase != Phase::kSpawning) return;
  worker.phase = Phase::kAlive;
  worker.pid = spawned.pid;
  if (!tree_ending_) Signal(spawned.slot, worker, stop_signal_);
}

void AgentTable::Core::NoteSpawnFailed(const Event& event) {
  const auto& failed = As<agent::SpawnFailed>(event);
  Worker& worker = workers_.at(failed.slot);
  if (worker.phase != Phase::kSpawning) return;
  const v1::Ending::Kind kind = KindOfSpawnError(failed.error, failed.stage);
  const bool names_object = kind != v1::Ending::SPAWN_FAILED;  // behind the first word: the program, or the file
  const size_t space = failed.stage.find(' ');
  TellNotStarted(worker, kind, failed.error,
                 names_object && space != std::string::npos ? failed.stage.substr(space + 1) : failed.stage);
}

void AgentTable::Core::NoteNeverStarted(const Event&) {
  for (auto& [slot, worker] : workers_) {
    if (worker.phase == Phase::kSpawning) TellNotStarted(worker, v1::Ending::TIMED_OUT, 0, "the guard did not answer");
  }
}

void AgentTable::Core::TellNotStarted(Worker& worker, v1::Ending::Kind kind, int error, const std::string& detail) {
  worker.phase = Phase::kNotStarted;
  v1::AgentMessage message = Message();
  v1::PrepareFailed* failed = message.mutable_prepare_failed();
  failed->set_slot(worker.place.slot());
  failed->mutable_ending()->set_kind(kind);
  failed->mutable_ending()->set_code(error);
  failed->mutable_ending()->set_detail(detail);
  Tell(std::move(message));
}

void AgentTable::Core::NoteEnded(const Event& event) {
  const auto& ended = As<agent::Ended>(event);
  Worker& worker = workers_.at(ended.slot);
  if (worker.phase == Phase::kOver) return;
  worker.phase = Phase::kOver;
  v1::Ending ending = EndingOf(ended);
  const bool by_us =
      ending.kind() == v1::Ending::EXITED || (ending.kind() == v1::Ending::SIGNALED && worker.signals.contains(ending.code()));
  if (by_us && worker.lost_unasked && Stopping()) ending.set_detail("its session was lost before, as by exec");
  // One that left by itself was about to end: it may have left too early.
  const bool about_to_end = worker.left_unasked && ending.kind() == v1::Ending::EXITED && ending.code() == 0;
  TellEnded(worker, std::move(ending), Stopping() && by_us && !worker.lost_unasked && !about_to_end, &ended);
}

void AgentTable::Core::TellEnded(const Worker& worker, v1::Ending ending, bool expected, const agent::Ended* ended) {
  v1::AgentMessage message = Message();
  v1::WorkerEnded* told = message.mutable_worker_ended();
  told->set_slot(worker.place.slot());
  told->set_rank(worker.place.rank());
  told->set_spawn(worker.spawn);
  told->set_pid(worker.pid);
  *told->mutable_ending() = std::move(ending);
  told->set_expected(expected);
  told->set_when_ms(Stamp());
  if (ended != nullptr) {
    told->set_had_joined(ended->had_joined);
    told->set_had_left(ended->had_left);
    told->set_last_op_seq(ended->last_op_seq);
    told->set_last_op(ended->last_op);
  }
  Tell(std::move(message));
}

void AgentTable::Core::NoteLost(const Event& event) { workers_.at(As<agent::WorkerLost>(event).slot).lost_unasked = true; }

void AgentTable::Core::NoteLeft(const Event& event) { workers_.at(As<agent::WorkerLeft>(event).slot).left_unasked = true; }

void AgentTable::Core::NoteBlame(const Event& event) {
  const auto& blamed = As<agent::WorkerBlamed>(event);
  Worker& worker = workers_.at(blamed.slot);
  if (++(blamed.of_some_ranks ? worker.blames_of_some_ranks : worker.blames) > kBlamesPerWorkerMax) return;
  v1::AgentMessage message = Message();
  v1::PeerBlamed* told = message.mutable_peer_blamed();
  told->set_rank(worker.place.rank());
  told->set_blamed_rank(blamed.blamed_rank);
  told->set_reason(blamed.reason);
  told->set_op_seq(blamed.op_seq);
  told->set_message(blamed.message);
  told->set_exit_code(blamed.exit_code);
  told->set_of_some_ranks(blamed.of_some_ranks);
  told->set_step(step_);
  told->set_when_ms(Stamp());
  Tell(std::move(message));
}

void AgentTable::Core::NoteStep(const Event& event) {
  const auto& reported = As<agent::StepReported>(event);
  // All ranks report the same step; one message a node is enough.
  if (reported.step <= step_ && reported.checkpoint_step <= checkpoint_step_) return;
  step_ = std::max(step_, reported.step);
  checkpoint_step_ = std::max(checkpoint_step_, reported.checkpoint_step);
  TellStep(workers_.at(reported.slot).place.rank());
}

void AgentTable::Core::TellStep(uint32_t rank) {
  v1::AgentMessage message = Message();
  message.mutable_step_committed()->set_rank(rank);
  message.mutable_step_committed()->set_step(step_);
  message.mutable_step_committed()->set_checkpoint_step(checkpoint_step_);
  SendNow(std::move(message));
}

// --- Stopping ---

void AgentTable::Core::NoteStop(const Event& event) {
  NoteCoordinator(event);
  const v1::Stop& stop = MessageOf(event).stop();
  grace_ = absl::Milliseconds(stop.grace_ms());
  stop_signal_ = stop.signal() != 0 ? static_cast<int>(stop.signal()) : kTerminateSignal;
  reason_ = stop.reason();
}

void AgentTable::Core::StopAgain(const Event& event) {
  NoteStop(event);
  if (!tree_ending_) actions_.push_back(agent::SetTimer{Timer::kGrace, grace_});
}

void AgentTable::Core::StopAsOrphan(const Event&) {
  grace_ = absl::ZeroDuration();
  reason_ = absl::StrCat("no coordinator for ", absl::FormatDuration(options_.orphan_after));
  Log(LogLevel::kError, absl::StrCat(reason_, ": the workers of this node are ended"));
}

void AgentTable::Core::StopUnjoined(const Event&) {
  grace_ = absl::ZeroDuration();
  reason_ = "no coordinator took this node in";
  status_ = absl::UnavailableError(reason_);
}

void AgentTable::Core::StopWithoutMembers(const Event&) {
  grace_ = absl::ZeroDuration();
  reason_ = absl::StrCat("the coordinator did not tell the members of generation ", generation_);
  status_ = absl::UnavailableError(reason_);
  Log(LogLevel::kError, absl::StrCat(reason_, ": the workers of this node are ended"));
}

void AgentTable::Core::EndWorkersKindly() {
  if (grace_ == absl::ZeroDuration() || tree_ending_) return;
  actions_.push_back(agent::SetTimer{Timer::kGrace, grace_});
  for (auto& [slot, worker] : workers_) {
    if (worker.phase == Phase::kAlive) Signal(slot, worker, stop_signal_);
  }
}

void AgentTable::Core::Signal(uint32_t slot, Worker& worker, int signal) {
  worker.signals.insert(signal);
  actions_.push_back(agent::SignalWorker{slot, signal});
}

void AgentTable::Core::EndTree(const std::string& reason) {
  tree_ending_ = true;
  tree_ended_ = false;
  for (auto& [slot, worker] : workers_) worker.signals.insert(kKillSignal);
  if (begun_) actions_.push_back(agent::EndGeneration{reason});
  begun_ = false;
  actions_.push_back(agent::EndTree{});
}

void AgentTable::Core::EndTreeNow(const Event&) {
  if (tree_ending_) return;
  actions_.push_back(agent::CancelTimer{Timer::kGrace});
  EndTree(reason_);
}

void AgentTable::Core::NoteTreeEnded(const Event&) {
  tree_ended_ = true;
  CloseUnreported(v1::Ending::UNKNOWN, "its end was not seen");
}

// Nothing of the tree is left, so a worker whose end was not reported has ended too.
void AgentTable::Core::CloseUnreported(v1::Ending::Kind kind, const std::string& detail) {
  for (auto& [slot, worker] : workers_) {
    if (worker.phase != Phase::kAlive && worker.phase != Phase::kSpawning) continue;
    worker.phase = Phase::kOver;
    v1::Ending ending;
    ending.set_kind(kind);
    ending.set_detail(detail);
    TellEnded(worker, std::move(ending), Stopping() && !worker.lost_unasked, nullptr);
  }
}

void AgentTable::Core::NoteGuardLost(const Event& event) {
  Log(LogLevel::kInfo, "the guard process died; all workers of this node were ended");  // the verdict says so to all
  CloseUnreported(v1::Ending::GUARD_LOST, "the guard process died");
  if (begun_) actions_.push_back(agent::EndGeneration{"the guard process died"});
  begun_ = false;
  ReportStopped(event);
}

void AgentTable::Core::ReportCleared(const Event&) {
  v1::AgentMessage message = Message();
  message.mutable_cleared();
  Tell(std::move(message));
}

void AgentTable::Core::ReportStopped(const Event&) {
  v1::AgentMessage message = Message();
  message.mutable_stopped();
  Tell(std::move(message));
}

void AgentTable::Core::GiveUp(const Event&) {
  status_ =
      absl::DeadlineExceededError(absl::StrCat("gave up waiting for ", RowOf(state_).waits_for, " (", RowOf(state_).name, ")"));
  Log(LogLevel::kError, std::string(status_.message()));
}

void AgentTable::Core::Warn(const Event&) {
  Log(LogLevel::kWarning,
      absl::StrCat("still waiting for ", RowOf(state_).waits_for, " (", RowOf(state_).name, ", generation ", generation_, ")"));
}

void AgentTable::Core::Finish() {
  actions_.push_back(agent::CancelTimer{Timer::kGrace});
  actions_.push_back(agent::CancelTimer{Timer::kOrphan});
  actions_.push_back(agent::CancelTimer{Timer::kHeartbeat});
  actions_.push_back(agent::Gone{status_});
}

}  // namespace muster
