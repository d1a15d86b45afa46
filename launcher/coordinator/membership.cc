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
      return Kind::kCleared;
    case v1::AgentMessage::kRefusal:
      return Kind::kRefusal;
    case v1::AgentMessage::kAskedToEnd:
      return Kind::kAskedToEnd;
    case v1::AgentMessage::kTopology:
      return Kind::kTopology;
    case v1::AgentMessage::kOutputReady:
      return Kind::kOutputReady;
    default:
      break;  // the shell's: output, input
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
  set(State::kRecalling, absl::Seconds(5), absl::Seconds(12));
  set(State::kClosing, absl::Seconds(5), absl::Minutes(1));
  set(State::kQuiescing, absl::Seconds(7), absl::Seconds(10));
  set(State::kConcluding, absl::Seconds(5), absl::Seconds(30));
  return limits;
}

// --- The machine ---

Membership::Core::Core(membership::Options options) : options_(std::move(options)), job_id_(options_.job_id) {
  std::set<std::string> known;
  for (const membership::Application& application : options_.applications) {
    const size_t slash = application.program.rfind('/');
    std::string name = slash == std::string::npos ? application.program : application.program.substr(slash + 1);
    if (!known.insert(name).second) absl::StrAppend(&name, " #", application_names_.size() + 1);
    application_names_.push_back(std::move(name));
  }
}

membership::Actions Membership::Core::Step(absl::Time now, const Event& event) {
  now_ = now;
  Observe(event);
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
        if constexpr (std::is_same_v<T, membership::TurnedAway>) return Kind::kRefusal;
        if constexpr (std::is_same_v<T, membership::FewerHopedFor>) return Kind::kFewerHopedFor;
        if constexpr (std::is_same_v<T, membership::StopRequested>) return Kind::kStopRequested;
        if constexpr (std::is_same_v<T, membership::TimerFired>) {
          return e.timer == Timer::kWarn   ? Kind::kWarn
                 : e.timer == Timer::kEnd  ? Kind::kEnd
                 : e.timer == Timer::kStep ? Kind::kStep
                                           : Kind::kSparesCall;
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
  if (agent == agents_.end()) return true;
  const bool of_no_generation = message.has_stopped() || message.has_heartbeat() || message.has_cleared() ||
                                message.has_refusal() || message.has_asked_to_end() || message.has_topology() ||
                                message.has_output_ready();
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
  if (state == State::kForming && restarts_ > 0) return options_.last_call;
  return state == State::kQuiescing || state == State::kRecalling ? end + Grace() : end;
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
  if (state == State::kForming && restarts_ > 0 && options_.nodes > 0) {
    set(Timer::kSpares, std::min(options_.spare_wait, options_.last_call));
  }
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
      ForgetGeneration();
    }
    if (entry.has_generation_formed() && entry.generation_formed().generation() == generation_)
      Adopt(entry.generation_formed());
    if (entry.has_step()) {
      committed_step_ = std::max(committed_step_, entry.step().committed_step());
      if (entry.step().generation() == generation_) evidence_.committed_step = entry.step().committed_step();
    }
    if (entry.has_checkpoint()) {
      checkpoint_step_ = std::max(checkpoint_step_, entry.checkpoint().step());
      restarts_used_ = 0;
    }
    if (entry.has_generation_ended()) {
      failures_.push_back(entry.generation_ended());
      restarts_ = entry.generation_ended().restarts();
      restarts_used_ = entry.generation_ended().restarts_used();
      ForgetGeneration();
    }
  }
  recorded_step_ = committed_step_;
  ++incarnation_;
  v1::RecordEntry entry;
  entry.mutable_started()->set_unix_ms(absl::ToUnixMillis(now_));
  entry.mutable_started()->set_command(options_.command);
  Append(std::move(entry), true);
  Happen("started", incarnation_ == 1 ? "the job starts" : "the coordinator starts again from its record");
}

void Membership::Core::LoadVerdict(const Event& event) {
  for (const v1::RecordEntry& entry : As<membership::RecordLoaded>(event).entries) {
    job_id_ = entry.job_id();
    incarnation_ = std::max(incarnation_, entry.incarnation());
    if (entry.has_generation_taken()) generation_ = std::max(generation_, entry.generation_taken().generation());
    if (entry.has_verdict()) judgement_.verdict = entry.verdict().verdict();
    if (entry.has_checkpoint()) checkpoint_step_ = std::max(checkpoint_step_, entry.checkpoint().step());
    if (entry.has_generation_ended()) {
      failures_.push_back(entry.generation_ended());
      restarts_ = entry.generation_ended().restarts();
    }
  }
  committed_step_ = evidence_.committed_step = judgement_.verdict.committed_step();
}

void Membership::Core::Adopt(const v1::GenerationFormed& formed) {
  formed_ = true;
  members_ = formed.members();
  committed_step_ = std::max(committed_step_, formed.committed_step());
  plan_ = formed.plan();
  nccl_reasons_.assign(formed.nccl().begin(), formed.nccl().end());
  nccl_notes_.assign(formed.nccl_notes().begin(), formed.nccl_notes().end());
  notes_said_.insert(nccl_notes_.begin(), nccl_notes_.end());
  for (const v1::Node& node : members_.nodes()) seats_[node.node()] = Seat{.host = node.host(), .returned = false};
  for (const v1::Place& place : members_.places()) {
    evidence_.members.push_back(
        {place.rank(), place.slot(), place.node(), HostOf(place.node()), NameOfApplication(place.application())});
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
  if (evidence_.stop || (evidence_.fault && !evidence_.fault->curable)) return;
  evidence_.fault =
      Evidence::Fault{.exit_code = exit_code, .failure_class = std::move(failure_class), .sentence = std::move(sentence)};
}

// --- Joining, leaving ---

// Whatever else comes of it: who was heard, and how long who was not.
void Membership::Core::Observe(const Event& event) {
  if (const auto* received = std::get_if<membership::Received>(&event)) {
    const auto agent = agents_.find(received->node);
    if (agent == agents_.end()) return;
    if (agent->second.silence_said) {
      Log(LogLevel::kInfo, absl::StrCat("node ", received->node, " (", HostOf(received->node), ") is heard again"));
    }
    agent->second.silent = agent->second.silence_said = false;
    agent->second.steps_seen = steps_;
    agent->second.silent_at_step = absl::ZeroDuration();
  } else if (const auto* silent = std::get_if<membership::AgentSilent>(&event)) {
    const auto agent = agents_.find(silent->node);
    if (agent == agents_.end() || agent->second.steps_seen == steps_) return;
    agent->second.steps_seen = steps_;
    agent->second.silent_at_step = silent->silent_for;
  }
}

void Membership::Core::NoteJoin(const Event& event) {
  const auto& received = As<membership::Received>(event);
  const uint64_t generation = received.message.generation();
  const auto seat = seats_.find(received.node);
  const bool has_seat = seat != seats_.end() && !seat->second.lost;
  if (has_seat && generation != generation_) LoseSeat(received.node, "it was started anew and its workers are gone");
  Agent& agent = agents_[received.node] = Agent();
  agent.join = received.message.join();
  agent.generation = generation;
  agent.member = has_seat && generation == generation_;
  agent.steps_seen = steps_;
  if (agent.member) seat->second.returned = true;
  losses_.erase(received.node);
  given_up_.erase(received.node);
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
    if (!agent.greeted) GreetAgent(node, agent);
  }
}

void Membership::Core::GreetAgent(uint32_t node, Agent& agent) {
  agent.greeted = true;
  v1::CoordinatorMessage joined;
  joined.mutable_joined()->set_node(node);
  if (options_.job) *joined.mutable_joined()->mutable_job() = *options_.job;
  Tell(node, std::move(joined));
  if (!agent.member && agent.generation != 0) {
    SendAbandon(node, agent.generation, "this generation is over, or was never formed", options_.failure_grace);
  }
  // What it was told before it lost its session may not have arrived.
  if (agent.member && formed_ && (state_ == State::kRunning || state_ == State::kSettling)) SendGoTo(node);
  if (agent.member && state_ == State::kRecalling) SendAbandon(node, generation_, "a worker failed", Grace());
  Log(LogLevel::kInfo, absl::StrCat("node ", node, " (", agent.join.host(), ") joined, slots=", agent.join.slots()));
  Happen("joined",
         absl::StrCat("host ", agent.join.host(), " joined with ", agent.join.slots(),
                      agent.join.slots() == 1 ? " slot" : " slots"),
         static_cast<int32_t>(node));
}

void Membership::Core::NoteAbsence(const Event& event) {
  const auto& lost = As<membership::AgentLost>(event);
  Log(LogLevel::kWarning, absl::StrCat("node ", lost.node, " (", HostOf(lost.node), ") went: ", lost.why));
  Happen("lost", absl::StrCat("the agent on host ", HostOf(lost.node), " went: ", lost.why), static_cast<int32_t>(lost.node));
  losses_[lost.node] = {HostOf(lost.node), lost.why};
  agents_.erase(lost.node);
  if (const auto seat = seats_.find(lost.node); seat != seats_.end()) seat->second.returned = false;
}

void Membership::Core::Mourn(const Event& event) {
  const auto& lost = As<membership::AgentLost>(event);
  if (agents_.at(lost.node).member) LoseSeat(lost.node, lost.why, lost.whole_node);
  losses_[lost.node] = {HostOf(lost.node), lost.why};
  agents_.erase(lost.node);
}

void Membership::Core::LoseSeat(uint32_t node, const std::string& why, bool whole_node, bool always) {
  Seat& seat = seats_.at(node);
  if (seat.lost) return;
  seat.lost = true;
  if (const auto agent = agents_.find(node); agent != agents_.end()) agent->second.member = false;
  // Workers that have ended before are not lost with it.
  const bool takes_workers =
      std::any_of(evidence_.members.begin(), evidence_.members.end(),
                  [&](const Evidence::Member& member) { return member.node == node && !slots_over_.contains(member.slot); });
  if (!takes_workers && !always) return;
  evidence_.lost_agents.push_back({node, seat.host, why, static_cast<uint64_t>(absl::ToUnixMillis(now_)), whole_node});
  // Told to the user as the reason of the restart or of the end.
  Log(LogLevel::kInfo, absl::StrCat(whole_node ? "node " : "the agent of node ", node, " (", seat.host, ") was lost: ", why));
  Happen("lost", absl::StrCat(whole_node ? "host " : "the agent on host ", seat.host, " was lost: ", why),
         static_cast<int32_t>(node));
}

void Membership::Core::NeverReturned(const Event&) {
  for (const auto& [node, seat] : seats_) {
    if (!seat.returned) LoseSeat(node, "it did not come back to the new coordinator");
  }
}

void Membership::Core::NoteRefusal(const Event& event) {
  if (const auto* own = std::get_if<membership::TurnedAway>(&event)) {
    std::string text = refusals_.Note("the coordinator", own->what, own->from, 1, now_);
    if (!text.empty()) Happen("refused", std::move(text));
    return;
  }
  const auto& received = As<membership::Received>(event);
  const v1::Refusal& refusal = received.message.refusal();
  std::string text =
      refusals_.Note(absl::StrCat("host ", HostOf(received.node)), refusal.what(), refusal.from(), refusal.count(), now_);
  if (text.empty()) return;
  Log(LogLevel::kWarning, text);
  Happen("refused", std::move(text), static_cast<int32_t>(received.node));
}

void Membership::Core::NoteTopology(const Event& event) {
  const auto& received = As<membership::Received>(event);
  agents_.at(received.node).topology = received.message.topology();
}

void Membership::Core::NoteOutputReady(const Event& event) {
  agents_.at(As<membership::Received>(event).node).output_ready = true;
}

void Membership::Core::Happen(const char* kind, std::string text, int32_t node, int32_t rank) {
  v1::JobEvent event;
  event.set_unix_ms(absl::ToUnixMillis(now_));
  event.set_kind(kind);
  event.set_generation(generation_);
  event.set_node(node);
  event.set_rank(rank);
  if (node >= 0) event.set_host(HostOf(static_cast<uint32_t>(node)));
  event.set_text(std::move(text));
  actions_.push_back(membership::Happened{std::move(event)});
}

const char* Membership::Core::StateOf(uint32_t node, const Agent& agent) const {
  if (agent.stopped) return "stopped";
  if (!agent.member) return "spare";
  const Seat& seat = seats_.at(node);
  switch (state_) {
    case State::kPreparing:
      return seat.ready ? "ready" : "starting";
    case State::kCommitting:
      return "ready";
    case State::kRecalling:
    case State::kClosing:
    case State::kQuiescing:
      return seat.cleared ? "spare" : "ending";
    default:
      return "running";
  }
}

std::vector<membership::AgentStatus> Membership::Core::Agents() const {
  std::map<uint32_t, membership::AgentStatus> all;
  for (const auto& [node, loss] : losses_) all[node] = {.node = node, .host = loss.host, .state = "away"};
  for (const auto& [node, seat] : seats_) all[node] = {.node = node, .host = seat.host, .state = "away"};
  for (const auto& [node, agent] : agents_) {
    membership::AgentStatus& status = all[node];
    status.node = node;
    status.host = agent.join.host();
    status.slots = agent.join.slots();
    status.state = StateOf(node, agent);
    status.silent = agent.silent || agent.silence_said;
  }
  for (const Evidence::Member& member : evidence_.members) {
    const auto seat = seats_.find(member.node);
    if (seat != seats_.end() && !seat->second.lost && !slots_over_.contains(member.slot)) ++all[member.node].workers;
  }
  std::vector<membership::AgentStatus> list;
  for (auto& [node, status] : all) list.push_back(std::move(status));
  return list;
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
int64_t Membership::committed_step() const { return core_->committed_step_; }
const Evidence& Membership::evidence() const { return core_->evidence_; }
int64_t Membership::checkpoint_step() const { return core_->checkpoint_step_; }
uint32_t Membership::restarts() const { return core_->restarts_; }
uint32_t Membership::restarts_used() const { return core_->restarts_used_; }
const std::string& Membership::plan() const { return core_->plan_; }
const std::vector<std::string>& Membership::nccl() const { return core_->nccl_reasons_; }
const std::vector<std::string>& Membership::nccl_notes() const { return core_->nccl_notes_; }
const v1::Members& Membership::members() const { return core_->members_; }
const std::vector<v1::GenerationEnded>& Membership::failures() const { return core_->failures_; }
std::vector<membership::AgentStatus> Membership::agents() const { return core_->Agents(); }
std::string Membership::program_of(const v1::Place& place) const { return core_->NameOfApplication(place.application()); }
uint64_t Membership::stale_messages() const { return core_->stale_messages_; }
const RefusalLedger& Membership::refusals() const { return core_->refusals_; }

}  // namespace muster
