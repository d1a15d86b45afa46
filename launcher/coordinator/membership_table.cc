// The coordinator's table, and its conditions.
#include <algorithm>
#include <array>

#include "launcher/coordinator/membership_core.h"

namespace muster {

using membership::Kind;
using membership::State;

namespace {

constexpr uint32_t kBoot = In(State::kBoot), kRecover = In(State::kRecover), kResuming = In(State::kResuming),
                   kForming = In(State::kForming), kTaking = In(State::kTaking), kPreparing = In(State::kPreparing),
                   kCommitting = In(State::kCommitting), kRunning = In(State::kRunning), kSettling = In(State::kSettling),
                   kRecalling = In(State::kRecalling), kClosing = In(State::kClosing), kQuiescing = In(State::kQuiescing),
                   kConcluding = In(State::kConcluding), kDone = In(State::kDone), kFailed = In(State::kFailed);
constexpr uint32_t kOver = kDone | kFailed;
constexpr uint32_t kBeforeMembers = kRecover | kForming | kTaking;  // no generation has members
constexpr uint32_t kWithMembers = kResuming | kPreparing | kCommitting | kRunning | kSettling | kRecalling | kQuiescing;
// Members told of what happened while no coordinator was there may be back before this start is on disk.
constexpr uint32_t kTakesEvidence = kWithMembers | kRecover;
constexpr uint32_t kAll = (1u << membership::kStates) - 1;

}  // namespace

const Membership::Core::StateRow& Membership::Core::RowOf(State state) {
  static const std::array<StateRow, membership::kStates> rows = {{
      {"BOOT", "the record to be read", nullptr},
      {"RECOVER", "this start to be on disk", nullptr},
      {"RESUMING", "the members of the running generation to come back", &Core::GreetPending},
      {"FORMING", "enough nodes to join", &Core::GreetPending},
      {"TAKING", "the generation's number to be on disk", &Core::TakeGeneration},
      {"PREPARING", "all nodes to start their workers", &Core::SendPrepares},
      {"COMMITTING", "the formed generation to be on disk", &Core::RecordFormed},
      {"RUNNING", "the workers to end", &Core::SendGo},
      {"SETTLING", "workers to end by themselves after a failure", nullptr},
      {"RECALLING", "all agents to end the workers of this generation", &Core::SendAbandons},
      {"CLOSING", "the generation's end to be on disk", &Core::RecordEnded},
      {"QUIESCING", "all agents to stop", &Core::SendStops},
      {"CONCLUDING", "the verdict to be on disk", &Core::Conclude},
      {"DONE", "nothing", &Core::Publish},
      {"FAILED", "nothing", &Core::Publish},
  }};
  return rows[static_cast<size_t>(state)];
}

std::span<const Membership::Core::Row> Membership::Core::Rows() {
  using C = Core;
  // clang-format off
  static const Row rows[] = {
      // What follows from what is known.
      {kRecover, Kind::kConsider, &C::IfFaulted, State::kConcluding, nullptr, "no record, no job"},
      {kRecover, Kind::kConsider, &C::IfDurableAndFormed, State::kResuming, nullptr, "a generation was running"},
      {kRecover, Kind::kConsider, &C::IfDurable, State::kForming, nullptr, "a new job, or one that never ran"},
      {kResuming, Kind::kConsider, &C::IfStopWanted, State::kQuiescing, nullptr, "asked to stop"},
      {kResuming, Kind::kConsider, &C::IfFailed, State::kSettling, nullptr, "something failed meanwhile"},
      {kResuming, Kind::kConsider, &C::IfAllReturned, State::kRunning, nullptr, "all members are back"},
      {kForming, Kind::kConsider, &C::IfStopWanted, State::kQuiescing, nullptr, "asked to stop"},
      {kForming, Kind::kConsider, &C::IfFailed, State::kQuiescing, nullptr, "not enough nodes"},
      {kForming, Kind::kConsider, &C::IfEnough, State::kTaking, nullptr, "all wanted workers have a place"},
      {kTaking, Kind::kConsider, &C::IfStopWanted, State::kQuiescing, nullptr, "asked to stop"},
      {kTaking, Kind::kConsider, &C::IfFailed, State::kQuiescing, nullptr, "the number cannot be written"},
      {kTaking, Kind::kConsider, &C::IfDurableAndEnough, State::kPreparing, nullptr, "the number is ours for ever"},
      {kTaking, Kind::kConsider, &C::IfDurable, State::kForming, nullptr, "a node went meanwhile: this number is never used"},
      {kPreparing, Kind::kConsider, &C::IfStopWanted, State::kQuiescing, nullptr, "asked to stop"},
      {kPreparing, Kind::kConsider, &C::IfFailed, State::kSettling, nullptr, "a worker or node failed before the start"},
      {kPreparing, Kind::kConsider, &C::IfAllReady, State::kCommitting, nullptr, "every place is filled"},
      {kCommitting, Kind::kConsider, &C::IfStopWanted, State::kQuiescing, nullptr, "asked to stop"},
      {kCommitting, Kind::kConsider, &C::IfFailed, State::kSettling, nullptr, "a worker or node failed before the start"},
      {kCommitting, Kind::kConsider, &C::IfDurableAndAllEnded, State::kQuiescing, nullptr, "short programs: all ended already"},
      {kCommitting, Kind::kConsider, &C::IfDurable, State::kRunning, nullptr, "the generation is formed"},
      {kRunning, Kind::kConsider, &C::IfStopWanted, State::kQuiescing, nullptr, "asked to stop"},
      {kRunning, Kind::kConsider, &C::IfFailed, State::kSettling, nullptr, "a worker or node failed"},
      {kRunning, Kind::kConsider, &C::IfEndedUnaskedAndMayRestart, State::kRecalling, nullptr,
       "an agent ended workers, and not because of us: once more"},
      {kRunning, Kind::kConsider, &C::IfAllEnded, State::kQuiescing, nullptr,
       "all workers ended well: end what they left behind"},
      {kRunning, Kind::kConsider, &C::IfEndedUnasked, State::kQuiescing, nullptr,
       "an agent ended workers, and not because of us"},
      {kSettling, Kind::kConsider, &C::IfStopWanted, State::kQuiescing, nullptr, "asked to stop: no more waiting"},
      {kSettling, Kind::kConsider, &C::IfAllEndedAndMayRestart, State::kRecalling, nullptr,
       "all workers ended by themselves: once more"},
      {kSettling, Kind::kConsider, &C::IfAllEnded, State::kQuiescing, nullptr, "all workers ended by themselves"},
      {kRecalling, Kind::kConsider, &C::IfStopWanted, State::kQuiescing, nullptr, "asked to stop: no more restarts"},
      {kRecalling, Kind::kConsider, &C::IfAllClearedAndMayRestart, State::kClosing, nullptr, "all evidence is in: once more"},
      {kRecalling, Kind::kConsider, &C::IfAllCleared, State::kQuiescing, nullptr, "what came in says that a restart will not help"},
      {kClosing, Kind::kConsider, &C::IfStopWanted, State::kQuiescing, nullptr, "asked to stop: no more restarts"},
      {kClosing, Kind::kConsider, &C::IfFatal, State::kQuiescing, nullptr, "its end cannot be written: no next one"},
      {kClosing, Kind::kConsider, &C::IfDurable, State::kForming, &C::StartOver, "over for good; the next may be formed"},
      {kQuiescing, Kind::kConsider, &C::IfAllStopped, State::kConcluding, nullptr, "all evidence is in"},
      {kConcluding, Kind::kConsider, &C::IfDurableAndWell, State::kDone, nullptr, "the verdict is on disk"},
      {kConcluding, Kind::kConsider, &C::IfDurable, State::kFailed, nullptr, "the verdict is on disk"},
      {kAll, Kind::kConsider, nullptr, {}, nullptr, "goes on waiting"},

      // The record.
      {kBoot, Kind::kRecordLoaded, &C::RecordedWell, State::kDone, &C::LoadVerdict,
       "the job was over before: its verdict again"},
      {kBoot, Kind::kRecordLoaded, &C::RecordedBadly, State::kFailed, &C::LoadVerdict,
       "the job was over before: its verdict again"},
      {kBoot, Kind::kRecordLoaded, nullptr, State::kRecover, &C::Load, "take up numbers and members; record this start"},
      {kAll & ~kBoot, Kind::kRecordLoaded, nullptr, {}, nullptr, "ignored: it is read once"},
      {kAll & ~kBoot & ~kOver, Kind::kAppended, nullptr, {}, &C::NoteDurable, "noted"},
      {kBoot | kOver, Kind::kAppended, nullptr, {}, nullptr, "ignored: nobody waits for it"},
      {kRecover | kTaking | kCommitting | kClosing, Kind::kAppendFailed, nullptr, {}, &C::FailToWrite,
       "nothing may be announced any more"},
      {kConcluding, Kind::kAppendFailed, &C::IfWell, State::kDone, &C::NoteWriteError, "announced without the record"},
      {kConcluding, Kind::kAppendFailed, nullptr, State::kFailed, &C::NoteWriteError, "announced without the record"},
      {kResuming | kForming | kPreparing | kRunning | kSettling | kRecalling | kQuiescing,
       Kind::kAppendFailed, nullptr, {}, &C::NoteWriteError,
       "nobody waits for it: said, and the job goes on"},
      {kBoot | kOver, Kind::kAppendFailed, nullptr, {}, nullptr, "ignored: nobody waits for it"},

      // Agents come and go.
      {kBoot | kRecover, Kind::kJoin, nullptr, {}, &C::NoteJoin, "answered when this start is on disk"},
      {kResuming | kForming | kTaking | kPreparing | kCommitting | kRunning | kSettling | kRecalling | kClosing, Kind::kJoin,
       nullptr, {}, &C::Greet, "gets its number; a member that lost its workers is mourned"},
      {kQuiescing | kConcluding | kOver, Kind::kJoin, nullptr, {}, &C::GreetAndStop, "comes when the job ends: told to stop"},
      {kBoot | kRecover | kForming | kTaking | kClosing, Kind::kAgentLost, nullptr, {}, &C::NoteAbsence, "runs nothing: forgotten"},
      {kResuming, Kind::kAgentLost, nullptr, {}, &C::NoteAbsence, "may come back until the state's end"},
      {kPreparing | kCommitting | kRunning | kSettling | kRecalling | kQuiescing, Kind::kAgentLost, nullptr, {}, &C::Mourn,
       "its workers are lost with it"},
      {kConcluding | kOver, Kind::kAgentLost, nullptr, {}, nullptr, "ignored: the verdict is made"},
      {kResuming | kPreparing | kCommitting | kRunning | kSettling | kRecalling, Kind::kAgentSilent, &C::IfSilentTooLong, {},
       &C::GiveUpSilent, "taken for dead, with its workers; told to abandon them should it be heard again"},
      {kBoot | kRecover | kForming | kTaking | kClosing, Kind::kAgentSilent, &C::IfSilentTooLong, {}, &C::LeaveOutSilent,
       "not counted upon until it is heard again"},
      {kAll & ~kOver & ~kConcluding, Kind::kAgentSilent, nullptr, {}, &C::WarnOfSilence,
       "said: it is early, or steps are committed, or the state's end will tell"},
      {kConcluding | kOver, Kind::kAgentSilent, nullptr, {}, nullptr, "ignored: the verdict is made"},
      {kAll & ~kOver, Kind::kFewerHopedFor, nullptr, {}, &C::NoteFewerHopedFor, "not waited for any more, if fewer will do"},
      {kOver, Kind::kFewerHopedFor, nullptr, {}, nullptr, "ignored: the verdict is made"},

      // What agents tell.
      {kPreparing, Kind::kReady, nullptr, {}, &C::NoteReady, "noted"},
      {kAll & ~kPreparing, Kind::kReady, nullptr, {}, nullptr, "ignored: told again by an agent that came back"},
      {kTakesEvidence, Kind::kPrepareFailed, nullptr, {}, &C::NoteSpawnFailure, "evidence"},
      {kTakesEvidence, Kind::kWorkerEnded, nullptr, {}, &C::NoteEnding, "evidence"},
      {kTakesEvidence, Kind::kPeerBlamed, nullptr, {}, &C::NoteBlame, "evidence"},
      {kRecover | kResuming | kRunning | kSettling | kRecalling | kQuiescing, Kind::kStepCommitted, nullptr, {}, &C::NoteStep,
       "noted"},
      {kClosing, Kind::kPrepareFailed, nullptr, {}, nullptr, "ignored: this generation is judged"},
      {kClosing, Kind::kWorkerEnded, nullptr, {}, nullptr, "ignored: this generation is judged"},
      {kClosing, Kind::kPeerBlamed, nullptr, {}, nullptr, "ignored: this generation is judged"},
      {kClosing, Kind::kStepCommitted, nullptr, {}, &C::NoteStep, "noted: work that was done counts"},
      {kPreparing | kCommitting, Kind::kStepCommitted, nullptr, {}, &C::CountStale, "impossible before Go: counted"},
      {kBoot | kForming | kTaking, Kind::kPrepareFailed, nullptr, {}, &C::CountStale,
       "of a generation that is not prepared: counted"},
      {kBoot | kForming | kTaking, Kind::kWorkerEnded, nullptr, {}, &C::CountStale,
       "of a generation that is not prepared: counted"},
      {kBoot | kForming | kTaking, Kind::kPeerBlamed, nullptr, {}, &C::CountStale,
       "of a generation that is not prepared: counted"},
      {kBoot | kForming | kTaking, Kind::kStepCommitted, nullptr, {}, &C::CountStale,
       "of a generation that is not prepared: counted"},
      {kConcluding | kOver, Kind::kPrepareFailed, nullptr, {}, nullptr, "ignored: the verdict is made"},
      {kConcluding | kOver, Kind::kWorkerEnded, nullptr, {}, nullptr, "ignored: the verdict is made"},
      {kConcluding | kOver, Kind::kPeerBlamed, nullptr, {}, nullptr, "ignored: the verdict is made"},
      {kConcluding | kOver, Kind::kStepCommitted, nullptr, {}, nullptr, "ignored: the verdict is made"},
      {kForming | kTaking, Kind::kStopped, &C::IfNeverRestarts, {}, &C::NoteStoppedEarly,
       "a node that cannot run workers ends the job"},
      {kAll & ~kOver, Kind::kStopped, nullptr, {}, &C::NoteStopped, "nothing of this agent runs any more"},
      {kOver, Kind::kStopped, nullptr, {}, nullptr, "ignored: the verdict is made"},
      {kAll, Kind::kHeartbeat, nullptr, {}, nullptr, "nothing more: that it was heard is noted for every message"},
      {kWithMembers | kRecover, Kind::kCleared, nullptr, {}, &C::NoteCleared, "nothing of this generation runs there"},
      {kAll & ~(kWithMembers | kRecover), Kind::kCleared, nullptr, {}, nullptr, "ignored: nobody waits for it"},
      {kAll, Kind::kTopology, nullptr, {}, &C::NoteTopology, "noted: from now on the agent is counted upon"},
      {kAll, Kind::kOutputReady, nullptr, {}, &C::NoteOutputReady, "noted: from now on the agent is counted upon"},
      {kAll & ~kOver, Kind::kRefusal, nullptr, {}, &C::NoteRefusal, "counted and named"},
      {kOver, Kind::kRefusal, nullptr, {}, nullptr, "ignored: there is no job"},
      {kResuming | kPreparing | kCommitting | kRunning | kSettling | kRecalling, Kind::kAskedToEnd, &C::IfMayRestart, {}, &C::LoseAsked,
       "this node goes, the job goes on"},
      {kForming | kTaking | kClosing, Kind::kAskedToEnd, &C::IfMayRestart, {}, nullptr, "its Stopped follows, and it runs nothing"},
      {kBoot | kRecover | kResuming | kForming | kTaking | kPreparing | kCommitting | kRunning | kSettling | kRecalling | kClosing,
       Kind::kAskedToEnd, nullptr, {}, &C::StopWithAgent, "no restart can replace the node: the job was asked to stop"},
      {kQuiescing | kConcluding | kOver, Kind::kAskedToEnd, nullptr, {}, nullptr, "ignored: the job ends anyway"},
      {kWithMembers, Kind::kMembersRequest, nullptr, {}, &C::AnswerMembers, "the whole table"},
      {kAll & ~kWithMembers, Kind::kMembersRequest, nullptr, {}, &C::CountStale, "there is no table: counted"},
      {kAll, Kind::kStale, nullptr, {}, &C::CountStale, "dropped and counted"},

      // From outside.
      {kBoot | kBeforeMembers | kClosing | (kWithMembers & ~kQuiescing), Kind::kStopRequested, nullptr, {}, &C::NoteStop, "noted"},
      {kQuiescing, Kind::kStopRequested, &C::IfOnlyAgentsWereAsked, {}, &C::NoteStop, "a batch system asks agents and job: one request"},
      {kQuiescing, Kind::kStopRequested, nullptr, {}, &C::StopNow, "asked again: now"},
      {kConcluding | kOver, Kind::kStopRequested, nullptr, {}, nullptr, "ignored: it has stopped"},

      // Time.
      {kAll, Kind::kWarn, nullptr, {}, &C::Warn, "says what is waited for"},
      {kRecover | kTaking | kCommitting | kClosing, Kind::kEnd, nullptr, {}, &C::RecordSilent, "the disk does not answer"},
      {kResuming, Kind::kEnd, nullptr, {}, &C::NeverReturned, "members that did not come back are lost"},
      {kForming, Kind::kEnd, &C::IfEnoughForMin, {}, &C::NoteLastCall, "the last call is over: go on with what is there"},
      {kForming, Kind::kEnd, nullptr, {}, &C::NotEnough, "not enough nodes"},
      {kPreparing, Kind::kEnd, nullptr, {}, &C::NeverReady, "nodes that did not start their workers are named"},
      {kSettling, Kind::kEnd, &C::IfMayRestart, State::kRecalling, nullptr, "time to end by themselves is over: once more"},
      {kSettling, Kind::kEnd, nullptr, State::kQuiescing, nullptr, "time to end by themselves is over"},
      {kRecalling, Kind::kEnd, nullptr, {}, &C::NeverCleared, "agents that did not end their workers are lost, and named"},
      {kQuiescing, Kind::kEnd, nullptr, State::kConcluding, &C::NeverStopped, "agents that did not stop are named"},
      {kConcluding, Kind::kEnd, &C::IfWell, State::kDone, nullptr, "announced without the record"},
      {kConcluding, Kind::kEnd, nullptr, State::kFailed, nullptr, "announced without the record"},
      {kBoot | kRunning | kOver, Kind::kEnd, nullptr, {}, nullptr, "ignored: this state has no end"},
      {kAll & ~kBoot & ~kConcluding & ~kOver, Kind::kStep, nullptr, {}, &C::RecordStep, "the newest committed step, if it is new"},
      {kBoot | kConcluding | kOver, Kind::kStep, nullptr, {}, nullptr, "ignored: the verdict has it"},
      {kForming, Kind::kSparesCall, nullptr, {}, &C::NoteSparesCall, "members that are not back are replaced by spares"},
      {kAll & ~kForming, Kind::kSparesCall, nullptr, {}, nullptr, "ignored: all that are needed were there"},
  };
  // clang-format on
  return rows;
}

// --- Facts ---

bool Membership::Core::AllReady() const {
  return std::all_of(seats_.begin(), seats_.end(), [](const auto& entry) { return entry.second.ready || entry.second.lost; });
}

bool Membership::Core::AllReturned() const {
  return std::all_of(seats_.begin(), seats_.end(),
                     [](const auto& entry) { return entry.second.returned || entry.second.lost; });
}

bool Membership::Core::AllEnded() const {
  return std::all_of(evidence_.members.begin(), evidence_.members.end(), [this](const Evidence::Member& member) {
    return slots_over_.contains(member.slot) || seats_.at(member.node).lost;
  });
}

bool Membership::Core::AllStopped() const {
  return std::all_of(agents_.begin(), agents_.end(),
                     [](const auto& entry) { return entry.second.stopped || entry.second.silent; }) &&
         std::all_of(seats_.begin(), seats_.end(),
                     [](const auto& entry) { return entry.second.returned || entry.second.lost; });
}

bool Membership::Core::EndedUnasked() const {
  return std::any_of(evidence_.endings.begin(), evidence_.endings.end(),
                     [](const v1::WorkerEnded& ended) { return ended.expected(); });
}

bool Membership::Core::SomethingFailed() const {
  const auto failure = [](const auto& evidence) { return IsFailure(evidence); };
  return evidence_.fault.has_value() || !evidence_.spawn_failures.empty() || !evidence_.lost_agents.empty() ||
         std::any_of(evidence_.endings.begin(), evidence_.endings.end(), failure) ||
         std::any_of(evidence_.blames.begin(), evidence_.blames.end(), failure);
}

bool Membership::Core::RecordedWell(const Event& event) const {
  const auto& entries = std::get<membership::RecordLoaded>(event).entries;
  return std::any_of(entries.begin(), entries.end(), [](const v1::RecordEntry& entry) {
    return entry.has_verdict() && entry.verdict().verdict().exit_code() == 0;
  });
}

bool Membership::Core::RecordedBadly(const Event& event) const {
  const auto& entries = std::get<membership::RecordLoaded>(event).entries;
  return std::any_of(entries.begin(), entries.end(), [](const v1::RecordEntry& entry) {
    return entry.has_verdict() && entry.verdict().verdict().exit_code() != 0;
  });
}

// --- Names ---

std::string Membership::PrintTable() {
  const auto states = AllOf<State, membership::kStates>();
  const auto kinds = AllOf<Kind, membership::kKinds>();
  const auto limits = membership::Options::DefaultLimits();
  std::string text;
  for (const State state : states) {
    const Core::StateRow& row = Core::RowOf(state);
    text += PrintState(row.name, row.waits_for, limits[static_cast<size_t>(state)]);
  }
  return text +
         muster::PrintTable<Core::Row, State, Kind>(Core::Rows(), states, kinds, membership::StateName, membership::KindName);
}

std::string Membership::CheckTable() {
  const auto states = AllOf<State, membership::kStates>();
  const auto kinds = AllOf<Kind, membership::kKinds>();
  return muster::CheckTable<Core::Row, State, Kind>(Core::Rows(), states, kinds, membership::StateName, membership::KindName);
}

namespace membership {

const char* StateName(State state) { return Membership::Core::RowOf(state).name; }

const char* KindName(Kind kind) {
  static constexpr const char* kNames[kKinds] = {
      "CONSIDER",      "RecordLoaded",  "Appended",      "AppendFailed", "Join",          "Ready",          "PrepareFailed",
      "WorkerEnded",   "PeerBlamed",    "StepCommitted", "Stopped",      "Heartbeat",     "MembersRequest", "Cleared",
      "Refusal",       "AskedToEnd",    "Topology",      "OutputReady",  "stale message", "AgentLost",      "AgentSilent",
      "FewerHopedFor", "StopRequested", "warning time",  "end time",     "step timer",    "spares' time"};
  return kNames[static_cast<size_t>(kind)];
}

}  // namespace membership
}  // namespace muster
