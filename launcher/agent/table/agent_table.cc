// What the agent does: the acts of its rows, and what it does on entering a state.
#include "launcher/agent/table/agent_table.h"

#include <algorithm>
#include <cerrno>
#include <type_traits>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "launcher/agent/table/agent_core.h"

namespace muster {

using agent::Kind;
using agent::State;
using agent::Timer;

namespace {

constexpr int kBlamesPerWorkerMax = 16;  // a worker may not fill our memory

// Signals and wait status as POSIX and Linux number them; this room includes nothing of the system. Source: signal(7),
// waitpid(2).
constexpr int kKillSignal = 9;
constexpr int kTerminateSignal = 15;
constexpr int SignalOf(int wait_status) { return wait_status & 0x7f; }
constexpr int ExitStatusOf(int wait_status) { return wait_status >> 8 & 0xff; }

template <typename T>
const T& As(const agent::Event& event) {
  return std::get<T>(event);
}

const v1::CoordinatorMessage& MessageOf(const agent::Event& event) { return As<agent::Received>(event).message; }

Kind KindOfTimer(Timer timer) {
  switch (timer) {
    case Timer::kWarn:
      return Kind::kWarn;
    case Timer::kEnd:
      return Kind::kEnd;
    case Timer::kGrace:
      return Kind::kGrace;
    case Timer::kOrphan:
      return Kind::kOrphan;
  }
  return Kind::kWarn;
}

// The events that are told apart by their type alone.
template <typename T>
constexpr Kind kKindOf = Kind::kStale;
template <>
constexpr Kind kKindOf<agent::Started> = Kind::kStarted;
template <>
constexpr Kind kKindOf<agent::PreflightDone> = Kind::kPreflightDone;
template <>
constexpr Kind kKindOf<agent::ChannelUp> = Kind::kChannelUp;
template <>
constexpr Kind kKindOf<agent::ChannelLost> = Kind::kChannelLost;
template <>
constexpr Kind kKindOf<agent::TreeEnded> = Kind::kTreeEnded;
template <>
constexpr Kind kKindOf<agent::GuardLost> = Kind::kGuardLost;
// And those of a slot; a slot without a worker makes them stale.
template <>
constexpr Kind kKindOf<agent::Spawned> = Kind::kSpawned;
template <>
constexpr Kind kKindOf<agent::SpawnFailed> = Kind::kSpawnFailed;
template <>
constexpr Kind kKindOf<agent::Ended> = Kind::kEnded;
template <>
constexpr Kind kKindOf<agent::WorkerJoined> = Kind::kWorkerJoined;
template <>
constexpr Kind kKindOf<agent::WorkerLeft> = Kind::kWorkerLeft;
template <>
constexpr Kind kKindOf<agent::WorkerLost> = Kind::kWorkerLost;
template <>
constexpr Kind kKindOf<agent::WorkerBlamed> = Kind::kWorkerBlamed;
template <>
constexpr Kind kKindOf<agent::StepReported> = Kind::kStepReported;

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
  return ending;
}

v1::Ending::Kind KindOfSpawnError(int error, const std::string& stage) {
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

std::array<StateLimit, agent::kStates> agent::Options::DefaultLimits() {
  std::array<StateLimit, kStates> limits;
  const auto set = [&limits](State state, absl::Duration warn, absl::Duration end) {
    limits[static_cast<size_t>(state)] = {warn, end};
  };
  set(State::kPreflight, absl::Seconds(5), absl::Minutes(1));
  set(State::kJoining, absl::Seconds(10), absl::Minutes(1));
  set(State::kSpawning, absl::Seconds(5), absl::Minutes(1));
  set(State::kReady, absl::Seconds(10), absl::InfiniteDuration());  // the coordinator's PREPARING and the orphan rule end it
  set(State::kReconfig, absl::Seconds(2), absl::Seconds(10));
  set(State::kStopping, absl::Seconds(7), absl::Seconds(8));  // after the grace
  return limits;
}

// --- The machine ---

agent::Actions AgentTable::Core::Step(absl::Time now, const Event& event) {
  now_ = now;
  Dispatch(KindOf(event), event);
  while (Dispatch(Kind::kConsider, event)) {
  }
  return std::move(actions_);
}

Kind AgentTable::Core::KindOf(const Event& event) const {
  return std::visit(
      [this](const auto& e) {
        using T = std::decay_t<decltype(e)>;
        if constexpr (std::is_same_v<T, agent::Received>) {
          return KindOfMessage(e.message);
        } else if constexpr (std::is_same_v<T, agent::TimerFired>) {
          return KindOfTimer(e.timer);
        } else if constexpr (requires { e.slot; }) {
          return workers_.contains(e.slot) ? kKindOf<T> : Kind::kStale;
        } else {
          return kKindOf<T>;
        }
      },
      event);
}

Kind AgentTable::Core::KindOfMessage(const v1::CoordinatorMessage& message) const {
  if (message.job_id() != options_.job_id || message.incarnation() < incarnation_) return Kind::kStale;
  const bool of_this = message.generation() == generation_;
  const uint64_t newest = next_ != nullptr ? next_->generation() : generation_;
  switch (message.kind_case()) {
    case v1::CoordinatorMessage::kJoined:
      return Kind::kJoined;
    case v1::CoordinatorMessage::kPrepare:
      return message.generation() > newest ? Kind::kPrepare : Kind::kStale;
    case v1::CoordinatorMessage::kGo:
      return of_this ? Kind::kGo : Kind::kStale;
    case v1::CoordinatorMessage::kAbandon:
      return of_this ? Kind::kAbandon : Kind::kStale;
    case v1::CoordinatorMessage::kStop:
      return Kind::kStop;
    case v1::CoordinatorMessage::kMembers:
      return Kind::kMembers;
    case v1::CoordinatorMessage::KIND_NOT_SET:
      break;
  }
  return Kind::kStale;
}

bool AgentTable::Core::Dispatch(Kind kind, const Event& event) {
  const Row& row = FindRow<Row>(Rows(), *this, state_, kind, event);
  if (row.act != nullptr) (this->*row.act)(event);
  if (!row.next) return false;
  Enter(*row.next);
  return true;
}

void AgentTable::Core::Enter(State state) {
  state_ = state;
  StartTimers(state);
  if (RowOf(state).enter != nullptr) (this->*RowOf(state).enter)();
}

void AgentTable::Core::StartTimers(State state) {
  const auto set = [this](Timer timer, absl::Duration after) {
    if (after == absl::InfiniteDuration()) {
      actions_.push_back(agent::CancelTimer{timer});
    } else {
      actions_.push_back(agent::SetTimer{timer, after});
    }
  };
  const StateLimit& limit = options_.limits[static_cast<size_t>(state)];
  const absl::Duration grace = state == State::kStopping ? grace_ : absl::ZeroDuration();
  set(Timer::kWarn, limit.warn + grace);
  set(Timer::kEnd, limit.end + grace);
}

void AgentTable::Core::Log(LogLevel level, std::string line) { actions_.push_back(agent::LogLine{level, std::move(line)}); }

v1::AgentMessage AgentTable::Core::Message() const {
  v1::AgentMessage message;
  message.set_job_id(options_.job_id);
  message.set_generation(generation_);
  return message;
}

// Sends and remembers.
void AgentTable::Core::Tell(v1::AgentMessage message) {
  told_.push_back(message);
  SendNow(std::move(message));
}

void AgentTable::Core::SendNow(v1::AgentMessage message) {
  if (!connected_) return;
  message.set_incarnation(incarnation_);
  actions_.push_back(agent::Send{std::move(message)});
}

uint64_t AgentTable::Core::Stamp() {
  last_stamp_ = std::max(last_stamp_ + 1, static_cast<uint64_t>(absl::ToUnixMillis(now_)));
  return last_stamp_;
}

// --- Starting, the stream ---

void AgentTable::Core::StartPreflight() { actions_.push_back(agent::RunPreflight{}); }

void AgentTable::Core::NotePreflight(const Event& event) { join_ = As<agent::PreflightDone>(event).join; }

void AgentTable::Core::FailPreflight(const Event& event) { status_ = As<agent::PreflightDone>(event).status; }

void AgentTable::Core::NoteGuardLostEarly(const Event&) {
  status_ = absl::UnavailableError("the guard died before any worker was started");
}

void AgentTable::Core::ConnectFirst(const Event&) { connected_ = true; }

void AgentTable::Core::Connect(const Event&) {
  connected_ = true;
  actions_.push_back(agent::CancelTimer{Timer::kOrphan});
  SendJoin();
  for (const v1::AgentMessage& message : told_) SendNow(message);
  if (step_ >= 0) {
    v1::AgentMessage message = Message();
    message.mutable_step_committed()->set_step(step_);
    SendNow(std::move(message));
  }
}

void AgentTable::Core::SendJoin() {
  v1::AgentMessage message = Message();
  *message.mutable_join() = join_;
  SendNow(std::move(message));
}

void AgentTable::Core::DisconnectFirst(const Event&) { connected_ = false; }

void AgentTable::Core::Disconnect(const Event&) {
  connected_ = false;
  Log(LogLevel::kWarning, absl::StrCat("no coordinator: workers are ended in ", absl::FormatDuration(options_.orphan_after),
                                       " unless it comes back"));
  actions_.push_back(agent::SetTimer{Timer::kOrphan, options_.orphan_after});
}

void AgentTable::Core::NoteCoordinator(const Event& event) {
  incarnation_ = std::max(incarnation_, MessageOf(event).incarnation());
}

void AgentTable::Core::CountStale(const Event&) { ++stale_messages_; }

// --- Generations ---

void AgentTable::Core::TakePrepare(const Event& event) {
  NoteCoordinator(event);
  next_ = std::make_shared<const v1::CoordinatorMessage>(MessageOf(event));
}

void AgentTable::Core::HoldPrepare(const Event& event) {
  TakePrepare(event);
  reason_ = absl::StrCat("generation ", next_->generation(), " is being prepared");
}

void AgentTable::Core::StartSpare() {
  workers_.clear();
  told_.clear();
  begun_ = tree_ending_ = tree_ended_ = false;
  step_ = -1;
}

void AgentTable::Core::SpawnWorkers() {
  generation_ = next_->generation();
  prepare_ = std::shared_ptr<const v1::Prepare>(next_, &next_->prepare());
  next_.reset();
  StartSpare();
  for (const v1::Place& place : prepare_->places()) {
    Worker& worker = workers_[place.slot()];
    worker.place = place;
    worker.spawn = ++spawns_[place.slot()];
    actions_.push_back(agent::Spawn{generation_, place, worker.spawn, prepare_});
  }
}

void AgentTable::Core::SendReady() {
  v1::AgentMessage message = Message();
  message.mutable_ready()->set_applied_step(-1);
  message.mutable_ready()->set_reserved_port(join_.master_port());
  Tell(std::move(message));
}

void AgentTable::Core::BeginGeneration() {
  begun_ = true;
  actions_.push_back(agent::BeginGeneration{generation_, prepare_});
}

void AgentTable::Core::NoteAbandon(const Event& event) {
  NoteCoordinator(event);
  reason_ = MessageOf(event).abandon().reason();
}

void AgentTable::Core::EndWorkersForGood() { EndTree(reason_); }

void AgentTable::Core::EndTree(const std::string& reason) {
  tree_ending_ = true;
  tree_ended_ = false;
  for (auto& [slot, worker] : workers_) worker.signals.insert(kKillSignal);
  if (begun_) actions_.push_back(agent::EndGeneration{reason});
  begun_ = false;
  actions_.push_back(agent::EndTree{});
}

// --- Workers ---

void AgentTable::Core::NoteSpawned(const Event& event) {
  const auto& spawned = As<agent::Spawned>(event);
  Worker& worker = workers_.at(spawned.slot);
  if (worker.phase != Phase::kSpawning) return;
  worker.phase = Phase::kAlive;
  worker.pid = spawned.pid;
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
  const bool names_program = kind != v1::Ending::SPAWN_FAILED;
  const size_t space = failed.stage.find(' ');
  TellNotStarted(worker, kind, failed.error,
                 names_program && space != std::string::npos ? failed.stage.substr(space + 1) : failed.stage);
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
  if (++worker.blames > kBlamesPerWorkerMax) return;
  v1::AgentMessage message = Message();
  v1::PeerBlamed* told = message.mutable_peer_blamed();
  told->set_rank(worker.place.rank());
  told->set_blamed_rank(blamed.blamed_rank);
  told->set_reason(blamed.reason);
  told->set_op_seq(blamed.op_seq);
  told->set_message(blamed.message);
  told->set_when_ms(Stamp());
  Tell(std::move(message));
}

void AgentTable::Core::NoteStep(const Event& event) {
  const auto& reported = As<agent::StepReported>(event);
  if (reported.step <= step_) return;  // all ranks report the same step; one message a node is enough
  step_ = reported.step;
  v1::AgentMessage message = Message();
  message.mutable_step_committed()->set_rank(workers_.at(reported.slot).place.rank());
  message.mutable_step_committed()->set_step(step_);
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
  Log(LogLevel::kError, "the guard process died; all workers of this node were ended");
  CloseUnreported(v1::Ending::GUARD_LOST, "the guard process died");
  if (begun_) actions_.push_back(agent::EndGeneration{"the guard process died"});
  begun_ = false;
  ReportStopped(event);
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
  actions_.push_back(agent::Gone{status_});
}

// --- Outside ---

AgentTable::AgentTable(agent::Options options) : core_(std::make_unique<Core>(std::move(options))) {}
AgentTable::AgentTable(AgentTable&&) noexcept = default;
AgentTable& AgentTable::operator=(AgentTable&&) noexcept = default;
AgentTable::~AgentTable() = default;

agent::Actions AgentTable::Step(absl::Time now, const agent::Event& event) { return core_->Step(now, event); }
State AgentTable::state() const { return core_->state_; }
uint64_t AgentTable::generation() const { return core_->generation_; }
uint64_t AgentTable::stale_messages() const { return core_->stale_messages_; }
size_t AgentTable::workers_alive() const { return core_->Alive(); }

}  // namespace muster
