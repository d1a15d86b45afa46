#include "runtime/session/table/session_table.h"

#include <array>

#include "absl/strings/str_cat.h"
#include "runtime/session/table/session_core.h"

namespace muster {

using session::Kind;
using session::State;
using session::Timer;

namespace {

constexpr uint32_t kConnecting = In(State::kConnecting), kHelloSent = In(State::kHelloSent), kMember = In(State::kMember),
                   kLeaving = In(State::kLeaving), kLeft = In(State::kLeft), kBroken = In(State::kBroken);
constexpr uint32_t kAll = (1u << session::kStates) - 1;
constexpr uint32_t kOver = kLeft | kBroken;

template <typename T>
const T& As(const session::Event& event) {
  return std::get<T>(event);
}

}  // namespace

std::array<StateLimit, session::kStates> session::Options::DefaultLimits(absl::Duration join_timeout) {
  std::array<StateLimit, kStates> limits;
  limits[static_cast<size_t>(State::kHelloSent)] = {absl::Seconds(30), join_timeout};
  limits[static_cast<size_t>(State::kLeaving)] = {absl::InfiniteDuration(), absl::Seconds(1)};
  return limits;
}

const SessionTable::Core::StateRow& SessionTable::Core::RowOf(State state) {
  static const std::array<StateRow, session::kStates> rows = {{
      {"CONNECTING", "the agent's socket", nullptr},
      {"HELLO_SENT", "all ranks to be started", &Core::SendHello},
      {"MEMBER", "the program", &Core::EnterGeneration},
      {"LEAVING", "the agent to be told", &Core::SendLeave},
      {"LEFT", "nothing", &Core::Leave},
      {"BROKEN", "nothing", &Core::CloseSocket},
  }};
  return rows[static_cast<size_t>(state)];
}

std::span<const SessionTable::Core::Row> SessionTable::Core::Rows() {
  using C = Core;
  // clang-format off
  static const Row rows[] = {
      {kConnecting, Kind::kConnected, nullptr, State::kHelloSent, nullptr, "say who we are"},
      {kAll & ~kConnecting, Kind::kConnected, nullptr, {}, nullptr, "ignored: it was connected before"},
      {kConnecting, Kind::kConnectFailed, nullptr, State::kBroken, &C::FailConnect, "no agent, no session"},
      {kAll & ~kConnecting, Kind::kConnectFailed, nullptr, {}, nullptr, "ignored: it was connected before"},

      {kHelloSent, Kind::kGenerationBegun, nullptr, State::kMember, &C::NoteGeneration, "a member"},
      {kMember, Kind::kGenerationBegun, nullptr, {}, nullptr, "ignored: a member joins again only when its generation is over"},
      {kConnecting | kLeaving | kOver, Kind::kGenerationBegun, nullptr, {}, nullptr, "ignored: not asked for, or too late"},
      {kHelloSent, Kind::kRefused, nullptr, State::kBroken, &C::FailRefused, "the agent's reason is the caller's error"},
      {kAll & ~kHelloSent, Kind::kRefused, nullptr, {}, nullptr, "ignored: nothing was asked"},
      {kHelloSent, Kind::kGenerationOver, nullptr, State::kBroken, &C::FailOver, "over before it began"},
      {kMember, Kind::kGenerationOver, &C::IfThisGeneration, State::kBroken, &C::BreakOver, "every call returns Aborted"},
      {kMember, Kind::kGenerationOver, nullptr, {}, nullptr, "ignored: of another generation"},
      {kConnecting | kLeaving | kOver, Kind::kGenerationOver, nullptr, {}, nullptr, "ignored: no member any more"},

      {kHelloSent, Kind::kSocketClosed, nullptr, State::kBroken, &C::FailClosed, "the agent went away"},
      {kMember, Kind::kSocketClosed, nullptr, State::kBroken, &C::BreakClosed, "every call returns Unavailable"},
      {kLeaving, Kind::kSocketClosed, nullptr, State::kLeft, nullptr, "nobody is there to be told"},
      {kConnecting | kOver, Kind::kSocketClosed, nullptr, {}, nullptr, "ignored: it is not open"},

      {kMember, Kind::kCollectiveFailed, &C::IfFirstFailure, {}, &C::Blame, "the agent is told whom we blame"},
      {kMember, Kind::kCollectiveFailed, nullptr, {}, nullptr, "ignored: it follows from the first"},
      {kAll & ~kMember, Kind::kCollectiveFailed, nullptr, {}, nullptr, "ignored: no member"},
      {kMember, Kind::kStepCommitted, nullptr, {}, &C::TellStep, "the agent is told"},
      {kAll & ~kMember, Kind::kStepCommitted, nullptr, {}, nullptr, "ignored: no member"},

      {kHelloSent | kMember, Kind::kLeaveRequested, nullptr, State::kLeaving, nullptr, "a clean end"},
      {kConnecting, Kind::kLeaveRequested, nullptr, State::kLeft, nullptr, "nobody knows of us"},
      {kBroken, Kind::kLeaveRequested, nullptr, {}, &C::LeaveBroken, "a clean end after an error is no death"},
      {kLeaving | kLeft, Kind::kLeaveRequested, nullptr, {}, nullptr, "ignored: it leaves"},
      {kLeaving, Kind::kLeaveSent, nullptr, State::kLeft, nullptr, "the agent is told"},
      {kAll & ~kLeaving, Kind::kLeaveSent, nullptr, {}, nullptr, "ignored: nobody waits for it"},

      {kAll, Kind::kWarn, nullptr, {}, &C::WarnWaiting, "says what is waited for"},
      {kHelloSent, Kind::kEnd, nullptr, State::kBroken, &C::FailLate, "the others never came"},
      {kLeaving, Kind::kEnd, nullptr, State::kLeft, nullptr, "the agent does not read: leave all the same"},
      {kAll & ~(kHelloSent | kLeaving), Kind::kEnd, nullptr, {}, nullptr, "ignored: this state has no end"},
  };
  // clang-format on
  return rows;
}

session::Actions SessionTable::Core::Step(const Event& event) {
  const auto* timer = std::get_if<session::TimerFired>(&event);
  const Kind kind = timer == nullptr              ? static_cast<Kind>(event.index())
                    : timer->timer == Timer::kEnd ? Kind::kEnd
                                                  : Kind::kWarn;
  const Row& row = FindRow<Row>(Rows(), *this, state_, kind, event);
  if (row.act != nullptr) (this->*row.act)(event);
  if (row.next) Enter(*row.next);
  return std::move(actions_);
}

void SessionTable::Core::Enter(State state) {
  state_ = state;
  const auto set = [this](Timer timer, absl::Duration after) {
    if (after == absl::InfiniteDuration()) {
      actions_.push_back(session::CancelTimer{timer});
    } else {
      actions_.push_back(session::SetTimer{timer, after});
    }
  };
  set(Timer::kWarn, options_.limits[static_cast<size_t>(state)].warn);
  set(Timer::kEnd, options_.limits[static_cast<size_t>(state)].end);
  if (RowOf(state).enter != nullptr) (this->*RowOf(state).enter)();
}

void SessionTable::Core::Fail(absl::Status status) { actions_.push_back(session::FailJoin{std::move(status)}); }

void SessionTable::Core::Break(absl::Status status) { actions_.push_back(session::BreakCommunicators{std::move(status)}); }

void SessionTable::Core::FailConnect(const Event& event) { Fail(As<session::ConnectFailed>(event).status); }

void SessionTable::Core::FailRefused(const Event& event) {
  const auto& refused = As<session::Refused>(event);
  Fail(absl::Status(refused.code, absl::StrCat("the agent refused this process: ", refused.message)));
}

void SessionTable::Core::FailOver(const Event& event) {
  Fail(absl::UnavailableError(
      absl::StrCat("the job ended before all ranks were there: ", As<session::GenerationOver>(event).message)));
}

void SessionTable::Core::FailClosed(const Event&) {
  Fail(absl::UnavailableError("the agent closed its socket before all ranks were there"));
}

void SessionTable::Core::FailLate(const Event&) {
  Fail(absl::DeadlineExceededError(
      absl::StrCat("not all ranks were there after ", absl::FormatDuration(options_.limits[static_cast<size_t>(state_)].end))));
}

void SessionTable::Core::NoteGeneration(const Event& event) { generation_ = As<session::GenerationBegun>(event).generation; }

void SessionTable::Core::Blame(const Event& event) {
  const auto& failed = As<session::CollectiveFailed>(event);
  blamed_ = !failed.of_some_ranks;
  actions_.push_back(
      session::SendBlame{failed.blamed_rank, failed.reason, failed.op_seq, failed.message, failed.of_some_ranks});
}

void SessionTable::Core::TellStep(const Event& event) {
  const auto& committed = As<session::StepCommitted>(event);
  actions_.push_back(session::SendStep{committed.step, committed.checkpoint_step});
}

void SessionTable::Core::BreakOver(const Event& event) {
  Break(absl::AbortedError(absl::StrCat("generation ", generation_, " is over: ", As<session::GenerationOver>(event).message)));
}

void SessionTable::Core::BreakClosed(const Event&) { Break(absl::UnavailableError("the agent of this node is gone")); }

void SessionTable::Core::LeaveBroken(const Event&) { actions_.push_back(session::MarkLeft{}); }

void SessionTable::Core::WarnWaiting(const Event&) {
  actions_.push_back(session::Warn{absl::StrCat("still waiting for ", RowOf(state_).waits_for)});
}

void SessionTable::Core::SendHello() { actions_.push_back(session::SendHello{}); }

void SessionTable::Core::EnterGeneration() {
  blamed_ = false;
  actions_.push_back(session::EnterGeneration{generation_});
}

void SessionTable::Core::SendLeave() { actions_.push_back(session::SendLeave{}); }

void SessionTable::Core::Leave() {
  actions_.push_back(session::MarkLeft{});
  CloseSocket();
}

void SessionTable::Core::CloseSocket() { actions_.push_back(session::CloseSocket{}); }

SessionTable::SessionTable(session::Options options) : core_(std::make_unique<Core>(std::move(options))) {}
SessionTable::SessionTable(SessionTable&&) noexcept = default;
SessionTable& SessionTable::operator=(SessionTable&&) noexcept = default;
SessionTable::~SessionTable() = default;

session::Actions SessionTable::Step(const session::Event& event) { return core_->Step(event); }
State SessionTable::state() const { return core_->state_; }
uint64_t SessionTable::generation() const { return core_->generation_; }

std::string SessionTable::PrintTable() {
  const auto states = AllOf<State, session::kStates>();
  const auto kinds = AllOf<Kind, session::kKinds>();
  const auto limits = session::Options().limits;
  std::string text;
  for (const State state : states) {
    const Core::StateRow& row = Core::RowOf(state);
    text += PrintState(row.name, row.waits_for, limits[static_cast<size_t>(state)]);
  }
  return text + muster::PrintTable<Core::Row, State, Kind>(Core::Rows(), states, kinds, session::StateName, session::KindName);
}

std::string SessionTable::CheckTable() {
  const auto states = AllOf<State, session::kStates>();
  const auto kinds = AllOf<Kind, session::kKinds>();
  return muster::CheckTable<Core::Row, State, Kind>(Core::Rows(), states, kinds, session::StateName, session::KindName);
}

namespace session {

const char* StateName(State state) { return SessionTable::Core::RowOf(state).name; }

const char* KindName(Kind kind) {
  static constexpr const char* kNames[kKinds] = {"Connected",      "ConnectFailed", "GenerationBegun",  "Refused",
                                                 "GenerationOver", "SocketClosed",  "CollectiveFailed", "StepCommitted",
                                                 "LeaveRequested", "LeaveSent",     "warning time",     "end time"};
  return kNames[static_cast<size_t>(kind)];
}

}  // namespace session
}  // namespace muster
