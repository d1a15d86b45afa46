// What the agent does: the acts of its rows, and what it does on entering a state.
#include "launcher/agent/table/agent_table.h"

#include <algorithm>
#include <type_traits>

#include "absl/strings/str_cat.h"
#include "launcher/agent/table/agent_core.h"

namespace muster {

using agent::Kind;
using agent::State;
using agent::Timer;

namespace {

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
    case Timer::kHeartbeat:
      return Kind::kHeartbeat;
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
  set(State::kAsking, absl::Seconds(5), absl::Minutes(1));
  set(State::kReconfig, absl::Seconds(2), absl::Seconds(8));  // after the grace, as the next
  set(State::kStopping, absl::Seconds(7), absl::Seconds(8));
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
          const auto worker = workers_.find(e.slot);
          if (worker == workers_.end()) return Kind::kStale;
          const bool of_this = e.spawn == 0 || e.spawn == worker->second.spawn || options_.planted_ignore_spawn;
          return of_this ? kKindOf<T> : Kind::kStale;
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
      if (next_ != nullptr && message.generation() == next_->generation()) return Kind::kAbandonNext;
      return of_this ? Kind::kAbandon : Kind::kStale;
    case v1::CoordinatorMessage::kStop:
      return Kind::kStop;
    case v1::CoordinatorMessage::kMembers:
      return of_this ? Kind::kMembers : Kind::kStale;
    default:
      break;  // the shell's: signals, input, output
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
  const absl::Duration grace = Stopping() ? grace_ : absl::ZeroDuration();
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

void AgentTable::Core::ConnectFirst(const Event&) {
  connected_ = true;
  StartHeartbeat();
}

void AgentTable::Core::Connect(const Event&) {
  connected_ = true;
  actions_.push_back(agent::CancelTimer{Timer::kOrphan});
  StartHeartbeat();
  SendJoin();
  for (const v1::AgentMessage& message : told_) SendNow(message);
  if ((step_ >= 0 || checkpoint_step_ >= 0) && !prepare_->places().empty()) TellStep(prepare_->places(0).rank());
}

void AgentTable::Core::SendJoin() {
  v1::AgentMessage message = Message();
  *message.mutable_join() = join_;
  SendNow(std::move(message));
}

void AgentTable::Core::StartHeartbeat() { actions_.push_back(agent::SetTimer{Timer::kHeartbeat, options_.heartbeat_every}); }

void AgentTable::Core::Beat(const Event&) {
  v1::AgentMessage message = Message();
  message.mutable_heartbeat();
  SendNow(std::move(message));
  StartHeartbeat();
}

void AgentTable::Core::DisconnectFirst(const Event&) {
  connected_ = false;
  actions_.push_back(agent::CancelTimer{Timer::kHeartbeat});
}

void AgentTable::Core::Disconnect(const Event& event) {
  DisconnectFirst(event);
  Log(LogLevel::kWarning, absl::StrCat("no coordinator: workers are ended in ", absl::FormatDuration(options_.orphan_after),
                                       " unless it comes back"));
  actions_.push_back(agent::SetTimer{Timer::kOrphan, options_.orphan_after});
}

void AgentTable::Core::NoteCoordinator(const Event& event) {
  // A new coordinator never goes on preparing what the one before it has begun.
  if (MessageOf(event).incarnation() > incarnation_) next_.reset();
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
  if (Stopping()) return;
  reason_ = absl::StrCat("generation ", next_->generation(), " is being prepared");
  grace_ = absl::ZeroDuration();
}

// What was told of the last generation stays: a coordinator that starts anew has to know how it ended here.
void AgentTable::Core::StartSpare() {
  workers_.clear();
  begun_ = tree_ending_ = tree_ended_ = false;
}

void AgentTable::Core::SpawnWorkers() {
  generation_ = next_->generation();
  prepare_ = std::shared_ptr<const v1::Prepare>(next_, &next_->prepare());
  next_.reset();
  StartSpare();
  told_.clear();
  members_.reset();
  step_ = checkpoint_step_ = -1;
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
  for (const v1::Place& place : prepare_->places()) {
    const Worker& worker = workers_.at(place.slot());
    v1::Place* told = message.mutable_ready()->add_places();
    *told = place;
    told->set_spawn(worker.spawn);
    told->set_data_port(worker.data_port);
  }
  Tell(std::move(message));
}

void AgentTable::Core::BeginGeneration() {
  begun_ = true;
  actions_.push_back(agent::BeginGeneration{generation_, prepare_, members_});
}

void AgentTable::Core::NoteGo(const Event& event) {
  NoteCoordinator(event);
  members_sha256_ = MessageOf(event).go().members_sha256();
}

void AgentTable::Core::AskMembers() {
  v1::AgentMessage message = Message();
  message.mutable_members_request()->set_members_sha256(members_sha256_);
  SendNow(std::move(message));
}

void AgentTable::Core::AskAgain(const Event& event) {
  NoteGo(event);
  AskMembers();
}

void AgentTable::Core::TakeMembers(const Event& event) {
  NoteCoordinator(event);
  members_ = std::make_shared<const v1::Members>(MessageOf(event).members());
}

void AgentTable::Core::RefuseMembers(const Event& event) {
  CountStale(event);
  Log(LogLevel::kError,
      absl::StrCat("the table of the members of generation ", generation_, " is not the one that was announced"));
}

void AgentTable::Core::NoteAbandon(const Event& event) {
  NoteCoordinator(event);
  const v1::Abandon& abandon = MessageOf(event).abandon();
  reason_ = abandon.reason();
  grace_ = absl::Milliseconds(abandon.grace_ms());
  stop_signal_ = kTerminateSignal;
}

void AgentTable::Core::AbandonAgain(const Event& event) {
  NoteAbandon(event);
  if (!tree_ending_) actions_.push_back(agent::SetTimer{Timer::kGrace, grace_});
}

void AgentTable::Core::DropNext(const Event& event) {
  v1::AgentMessage message = Message();
  message.set_generation(next_->generation());
  message.mutable_cleared();
  NoteCoordinator(event);
  next_.reset();
  SendNow(std::move(message));
}

void AgentTable::Core::Abandon() {
  if (options_.planted_cleared_early) ReportCleared({});
  EndWorkersKindly();
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
