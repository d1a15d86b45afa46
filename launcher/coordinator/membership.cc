// What the coordinator does: the acts of its rows, and what it does on entering a state.
#include "launcher/coordinator/membership.h"

#include <algorithm>
#include <type_traits>

#include "absl/strings/str_cat.h"
#include "launcher/coordinator/membership_core.h"

namespace muster {

using membership::Kind;
using membership::State;
using membership::Timer;

namespace {

Kind KindOfMessage(const v1::AgentMessage& message) {
  switch (message.kind_case()) {
    case v1::AgentMessage::kJoin:
      return Kind::kJoin;
    case v1::AgentMessage::kReady:
      return Kind::kReady;
    case v1::AgentMessage::kPrepareFailed:
      return Kind::kPrepareFailed;
    case v1::AgentMessage::kWorkerEnded:
      return Kind::kWorkerEnded;
    case v1::AgentMessage::kPeerBlamed:
      return Kind::kPeerBlamed;
    case v1::AgentMessage::kStepCommitted:
      return Kind::kStepCommitted;
    case v1::AgentMessage::kStopped:
      return Kind::kStopped;
    case v1::AgentMessage::kHeartbeat:
      return Kind::kHeartbeat;
    case v1::AgentMessage::kMembersRequest:
      return Kind::kMembersRequest;
    case v1::AgentMessage::kCleared:
    case v1::AgentMessage::kOutput:
    case v1::AgentMessage::kRefusal:
    case v1::AgentMessage::KIND_NOT_SET:
      break;
  }
  return Kind::kStale;
}

}  // namespace

std::array<StateLimit, membership::kStates> membership::Options::DefaultLimits() {
  std::array<StateLimit, kStates> limits;
  const auto set = [&limits](State state, absl::Duration warn, absl::Duration end) {
    limits[static_cast<size_t>(state)] = {warn, end};
  };
  set(State::kRecover, absl::Seconds(5), absl::Minutes(1));
  set(State::kResuming, absl::Seconds(5), absl::Minutes(1));
  set(State::kForming, absl::Seconds(10), absl::Minutes(1));
  set(State::kTaking, absl::Seconds(5), absl::Minutes(1));
  set(State::kPreparing, absl::Seconds(10), absl::Minutes(2));
  set(State::kCommitting, absl::Seconds(5), absl::Minutes(1));
  set(State::kSettling, absl::InfiniteDuration(), absl::Milliseconds(100));
  set(State::kQuiescing, absl::Seconds(7), absl::Seconds(10));
  set(State::kConcluding, absl::Seconds(5), absl::Seconds(30));
  return limits;
}

// --- The machine ---

membership::Actions Membership::Core::Step(absl::Time now, const Event& event) {
  now_ = now;
  Dispatch(KindOf(event), event);
  while (Dispatch(Kind::kConsider, event)) {
  }
  return std::move(actions_);
}

Kind Membership::Core::KindOf(const Event& event) const {
  return std::visit(
      [this](const auto& e) {
        using T = std::decay_t<decltype(e)>;
        if constexpr (std::is_same_v<T, membership::RecordLoaded>) return Kind::kRecordLoaded;
        if constexpr (std::is_same_v<T, membership::Appended>) return Kind::kAppended;
        if constexpr (std::is_same_v<T, membership::AppendFailed>) return Kind::kAppendFailed;
        if constexpr (std::is_same_v<T, membership::AgentLost>)
          return agents_.contains(e.node) ? Kind::kAgentLost : Kind::kStale;
        if constexpr (std::is_same_v<T, membership::AgentSilent>)
          return agents_.contains(e.node) ? Kind::kAgentSilent : Kind::kStale;
        if constexpr (std::is_same_v<T, membership::StopRequested>) return Kind::kStopRequested;
        if constexpr (std::is_same_v<T, membership::TimerFired>) {
          return e.timer == Timer::kWarn ? Kind::kWarn : e.timer == Timer::kEnd ? Kind::kEnd : Kind::kStep;
        }
        if constexpr (std::is_same_v<T, membership::Received>) return IsStale(e) ? Kind::kStale : KindOfMessage(e.message);
      },
      event);
}

bool Membership::Core::IsStale(const membership::Received& received) const {
  const v1::AgentMessage& message = received.message;
  if (message.job_id() != job_id_ || message.incarnation() > incarnation_) return true;
  if (message.has_join()) return false;
  const auto agent = agents_.find(received.node);
  if (agent == agents_.end() || agent->second.lost || !agent->second.returned) return true;
  const bool of_no_generation = message.has_stopped() || message.has_heartbeat();
  return !of_no_generation && (!agent->second.member || message.generation() != generation_);
}

bool Membership::Core::Dispatch(Kind kind, const Event& event) {
  const Row& row = FindRow<Row>(Rows(), *this, state_, kind, event);
  if (row.act != nullptr) (this->*row.act)(event);
  if (!row.next) return false;
  Enter(*row.next);
  return true;
}

void Membership::Core::Enter(State state) {
  state_ = state;
  StartTimers(state);
  if (RowOf(state).enter != nullptr) (this->*RowOf(state).enter)();
}

absl::Duration Membership::Core::EndAfter(State state) const {
  const absl::Duration end = options_.limits[static_cast<size_t>(state)].end;
  return state == State::kQuiescing ? end + Grace() : end;
}

void Membership::Core::StartTimers(State state) {
  const auto set = [this](Timer timer, absl::Duration after) {
    if (after == absl::InfiniteDuration()) {
      actions_.push_back(membership::CancelTimer{timer});
    } else {
      actions_.push_back(membership::SetTimer{timer, after});
    }
  };
  set(Timer::kWarn, options_.limits[static_cast<size_t>(state)].warn);
  set(Timer::kEnd, EndAfter(state));
}

void Membership::Core::Log(LogLevel level, std::string line) {
  actions_.push_back(membership::LogLine{level, std::move(line)});
}

void Membership::Core::Append(v1::RecordEntry entry, bool wait) {
  entry.set_job_id(job_id_);
  entry.set_incarnation(incarnation_);
  const uint64_t sequence = next_sequence_++;
  if (wait) awaited_ = sequence;
  if (options_.planted_announce_early) durable_ = sequence;
  actions_.push_back(membership::AppendRecord{sequence, std::move(entry)});
}

void Membership::Core::Tell(uint32_t node, v1::CoordinatorMessage message) {
  message.set_job_id(job_id_);
  message.set_incarnation(incarnation_);
  if (message.generation() == 0) message.set_generation(generation_);
  actions_.push_back(membership::Send{node, std::move(message)});
}

// --- Record ---

void Membership::Core::Load(const Event& event) {
  for (const v1::RecordEntry& entry : As<membership::RecordLoaded>(event).entries) {
    job_id_ = entry.job_id();
    incarnation_ = std::max(incarnation_, entry.incarnation());
    if (entry.has_generation_taken()) {
      generation_ = std::max(generation_, entry.generation_taken().generation());
      formed_ = false;
    }
    if (entry.has_generation_formed() && entry.generation_formed().generation() == generation_)
      Adopt(entry.generation_formed());
    if (entry.has_step()) evidence_.committed_step = std::max(evidence_.committed_step, entry.step().committed_step());
  }
  recorded_step_ = evidence_.committed_step;
  ++incarnation_;
  v1::RecordEntry entry;
  entry.mutable_started()->set_unix_ms(absl::ToUnixMillis(now_));
  entry.mutable_started()->set_command(options_.command);
  Append(std::move(entry), true);
}

void Membership::Core::LoadVerdict(const Event& event) {
  for (const v1::RecordEntry& entry : As<membership::RecordLoaded>(event).entries) {
    job_id_ = entry.job_id();
    incarnation_ = std::max(incarnation_, entry.incarnation());
    if (entry.has_generation_taken()) generation_ = std::max(generation_, entry.generation_taken().generation());
    if (entry.has_verdict()) judgement_.verdict = entry.verdict().verdict();
  }
  evidence_.committed_step = judgement_.verdict.committed_step();
}

void Membership::Core::Adopt(const v1::GenerationFormed& formed) {
  formed_ = true;
  members_ = formed.members();
  evidence_.committed_step = std::max(evidence_.committed_step, formed.committed_step());
  agents_.clear();
  evidence_.members.clear();
  for (const v1::Node& node : members_.nodes()) {
    Agent& agent = agents_[node.node()];
    agent.member = true;
    agent.join.set_host(node.host());
    agent.join.set_address(node.address());
  }
  for (const v1::Place& place : members_.places()) {
    evidence_.members.push_back({place.rank(), place.slot(), place.node(), HostOf(place.node())});
  }
}

void Membership::Core::NoteDurable(const Event& event) {
  durable_ = std::max(durable_, As<membership::Appended>(event).sequence);
}

void Membership::Core::NoteWriteError(const Event& event) {
  if (evidence_.fault) return;  // the verdict says it
  Log(LogLevel::kError, absl::StrCat("the job's record cannot be written any more: ",
                                     std::string(As<membership::AppendFailed>(event).status.message())));
}

void Membership::Core::FailToWrite(const Event& event) {
  SetFault(73, "cannot write state", std::string(As<membership::AppendFailed>(event).status.message()));
}

void Membership::Core::RecordSilent(const Event&) {
  SetFault(73, "cannot write state",
           absl::StrCat("the job's record on disk did not answer within ", absl::FormatDuration(EndAfter(state_)),
                        ": look at the file system that holds it"));
}

void Membership::Core::SetFault(int exit_code, std::string failure_class, std::string sentence) {
  if (evidence_.fault || evidence_.stop) return;
  evidence_.fault = Evidence::Fault{exit_code, std::move(failure_class), std::move(sentence)};
}

// --- Joining ---

void Membership::Core::NoteJoin(const Event& event) {
  const auto& received = As<membership::Received>(event);
  Agent& agent = agents_[received.node];
  const bool lost_its_workers = agent.member && received.message.generation() != generation_;
  agent.join = received.message.join();
  agent.generation = received.message.generation();
  agent.returned = true;
  agent.greeted = false;
  if (!agent.member) agent.lost = false;
  if (lost_its_workers && !agent.lost) {
    LoseAgent(received.node, agent, "it was started anew and its workers are gone");
    agent.lost = false;  // the new one is there and has to be stopped
  }
}

void Membership::Core::Greet(const Event& event) {
  NoteJoin(event);
  GreetPending();
}

void Membership::Core::GreetAndStop(const Event& event) {
  Greet(event);
  SendStop(As<membership::Received>(event).node, absl::ZeroDuration());
}

void Membership::Core::GreetPending() {
  for (auto& [node, agent] : agents_) {
    if (agent.returned && !agent.greeted && !agent.lost) GreetAgent(node, agent);
  }
}

void Membership::Core::GreetAgent(uint32_t node, Agent& agent) {
  agent.greeted = true;
  v1::CoordinatorMessage joined;
  joined.mutable_joined()->set_node(node);
  Tell(node, std::move(joined));
  if (agent.generation != 0 && !agent.member) {
    v1::CoordinatorMessage abandon;
    abandon.set_generation(agent.generation);
    abandon.mutable_abandon()->set_reason("the coordinator ended before this generation was formed");
    Tell(node, std::move(abandon));
  }
  Log(LogLevel::kInfo, absl::StrCat("node ", node, " (", agent.join.host(), ") joined, slots=", agent.join.slots()));
}

void Membership::Core::Forget(const Event& event) {
  const auto& lost = As<membership::AgentLost>(event);
  const auto agent = agents_.find(lost.node);
  Log(LogLevel::kWarning,
      absl::StrCat("node ", lost.node, " (", agent->second.join.host(), ") went before it had a place: ", lost.why));
  if (agent->second.member) {
    agent->second.returned = false;
  } else {
    agents_.erase(agent);
  }
}

void Membership::Core::MarkAbsent(const Event& event) {
  Agent& agent = agents_.at(As<membership::AgentLost>(event).node);
  agent.returned = false;
  if (!agent.member) agent.lost = true;
}

void Membership::Core::Mourn(const Event& event) {
  const auto& lost = As<membership::AgentLost>(event);
  LoseAgent(lost.node, agents_.at(lost.node), lost.why);
}

void Membership::Core::NoteSilence(const Event& event) {
  const auto& silent = As<membership::AgentSilent>(event);
  Log(LogLevel::kWarning, absl::StrCat("nothing was heard of node ", silent.node, " (", HostOf(silent.node), ") for ",
                                       absl::FormatDuration(silent.silent_for)));
}

void Membership::Core::LoseAgent(uint32_t node, Agent& agent, const std::string& why) {
  if (agent.lost) return;
  agent.lost = true;
  if (!agent.member || agent.stopped) return;
  evidence_.lost_agents.push_back({node, HostOf(node), why, static_cast<uint64_t>(absl::ToUnixMillis(now_))});
  Log(LogLevel::kWarning, absl::StrCat("the agent of node ", node, " (", HostOf(node), ") was lost: ", why));
}

void Membership::Core::NotEnough(const Event&) {
  uint64_t slots = 0;
  for (const auto& [node, agent] : agents_) slots += agent.join.slots();
  SetFault(69, "not enough nodes",
           absl::StrCat(options_.workers, " workers are wanted, but after ", absl::FormatDuration(EndAfter(state_)), " ",
                        agents_.size(), " nodes with ", slots, " slots have joined: ask for fewer workers or add nodes"));
}

void Membership::Core::NeverReturned(const Event&) {
  for (auto& [node, agent] : agents_) {
    if (agent.member && !agent.returned) LoseAgent(node, agent, "it did not come back to the new coordinator");
  }
}

std::vector<membership::AgentStatus> Membership::Core::Agents() const {
  std::vector<membership::AgentStatus> all;
  for (const auto& [node, agent] : agents_) {
    membership::AgentStatus status;
    status.node = node;
    status.host = agent.join.host();
    status.slots = agent.join.slots();
    status.workers = static_cast<uint32_t>(std::count_if(members_.places().begin(), members_.places().end(),
                                                         [node = node](const v1::Place& place) { return place.node() == node; }));
    status.state = agent.lost || !agent.returned ? "away" : agent.stopped ? "stopped" : agent.member ? "running" : "spare";
    all.push_back(std::move(status));
  }
  return all;
}

// --- Outside ---

Membership::Membership(membership::Options options) : core_(std::make_unique<Core>(std::move(options))) {}
Membership::Membership(Membership&&) noexcept = default;
Membership& Membership::operator=(Membership&&) noexcept = default;
Membership::~Membership() = default;

membership::Actions Membership::Step(absl::Time now, const membership::Event& event) { return core_->Step(now, event); }
State Membership::state() const { return core_->state_; }
uint64_t Membership::generation() const { return core_->generation_; }
uint64_t Membership::incarnation() const { return core_->incarnation_; }
const std::string& Membership::job_id() const { return core_->job_id_; }
int64_t Membership::committed_step() const { return core_->evidence_.committed_step; }
const Evidence& Membership::evidence() const { return core_->evidence_; }
int64_t Membership::checkpoint_step() const { return core_->checkpoint_step_; }
uint32_t Membership::restarts() const { return core_->restarts_; }
uint32_t Membership::restarts_used() const { return core_->restarts_used_; }
const v1::Members& Membership::members() const { return core_->members_; }
const std::vector<v1::GenerationEnded>& Membership::failures() const { return core_->failures_; }
std::vector<membership::AgentStatus> Membership::agents() const { return core_->Agents(); }
uint64_t Membership::stale_messages() const { return core_->stale_messages_; }
uint64_t Membership::refusals() const { return core_->refusals_; }

}  // namespace muster
